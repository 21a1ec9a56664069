"""Training of the text-to-image model: UNet and text encoder, jointly, on the latents of the frozen autoencoder.

An adverb and its phenomenon are two tokens, "strong rain", and a word for the tone may stand between them. In some
captions they are replaced by two embedding vectors: the sum of adverb and tone, each interpolated, and the phenomenon.
So the cue space is continuous: a cue can express any intensity and tone, not only five of each.
"""

from collections.abc import Sequence

import numpy as np
import torch
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from aai.inject.splice import NO_CUE, spliced
from aai.models.schedulers import denoising_loss
from aai.options import PLACEHOLDER
from aai.tiny.scenes import Scene
from aai.tiny.training.data import TRAINING_SEED, scene_set
from aai.tiny.training.loop import LoopOptions, TrainingSetup, fit
from aai.tiny.training.tokenizer import MAX_TOKENS, save_tokenizer
from aai.tiny.training.vae import encode
from aai.tiny.training.warm import warm_start
from aai.tiny.vocabulary import ADVERBS, TONES, adverb, caption, tone_word

OPTIONS = LoopOptions(steps=3900, batch=32, learning_rate=1.2e-3, average=0.998, warm_share=0.36)
DIM = 128

_EMPTY, _WITHOUT_ADVERB, _WITH_ADVERB = 0.10, 0.22, 0.35
_WITH_TONE = 0.4
"""Fraction of empty captions (classifier-free guidance); among the rest, fractions without and with an adverb word;
among these two, the fraction with a word for the tone."""


def new_scheduler() -> DDIMScheduler:
    """Velocity prediction with zero terminal SNR, so that very dark and very bright images are possible.

    Source: Lin et al. 2023, "Common Diffusion Noise Schedules and Sample Steps are Flawed".
    """
    return DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        clip_sample=False,
        prediction_type="v_prediction",
        rescale_betas_zero_snr=True,
        timestep_spacing="trailing",
        steps_offset=1,
    )


def new_unet() -> UNet2DConditionModel:
    """An untrained UNet with cross-attention at 16 x 16 and 8 x 8."""
    return UNet2DConditionModel(
        sample_size=16,
        in_channels=8,
        out_channels=8,
        cross_attention_dim=DIM,
        down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
        block_out_channels=(64, 160),
        layers_per_block=1,
        norm_num_groups=16,
        attention_head_dim=4,
    )


def new_text_encoder(vocab_size: int, end_id: int) -> CLIPTextModel:
    """An untrained text encoder with token embeddings far enough apart to be distinguishable."""
    encoder = CLIPTextModel(
        CLIPTextConfig(
            vocab_size=vocab_size,
            hidden_size=DIM,
            intermediate_size=256,
            num_hidden_layers=3,
            num_attention_heads=4,
            max_position_embeddings=MAX_TOKENS,
            bos_token_id=end_id - 1,
            eos_token_id=end_id,
            pad_token_id=end_id,
        )
    )
    with torch.no_grad():
        encoder.get_input_embeddings().weight.mul_(10)
    return encoder


def train_diffusion(setup: TrainingSetup) -> None:
    """Train with velocity prediction, on cached latents."""
    torch.manual_seed(setup.seed + 2)
    tokenizer = save_tokenizer(setup.folder / "tokenizer")
    latents = cached_latents(setup)
    scenes = scene_set(setup.num_scenes, TRAINING_SEED, setup.folder).scenes
    scheduler, unet = new_scheduler(), new_unet().to(setup.device)
    text = new_text_encoder(len(tokenizer), tokenizer.eos_token_id).to(setup.device)
    warm_start(unet, setup, "pipeline/unet")
    new = warm_start(text, setup, "pipeline/text_encoder", tokenizer.get_vocab(), "pipeline/tokenizer")
    sampler = CaptionSampler(tokenizer, text.get_input_embeddings())
    if set(TONES) <= set(new):
        sampler.spread(TONES)

    def loss(rng: torch.Generator, batch: int) -> tuple[Tensor, dict[str, float]]:
        chosen = torch.randint(len(scenes), (batch,), generator=rng)
        timesteps = torch.randint(scheduler.config.num_train_timesteps, (batch,), generator=rng).to(setup.device)
        clean = latents[chosen].to(setup.device)
        noise = torch.randn(clean.shape, generator=rng).to(setup.device)
        ids, vectors = sampler.sample([scenes[i] for i in chosen.tolist()], rng)
        ids = ids.to(setup.device)
        with setup.autocast():
            with spliced(sampler.embedding, sampler.slots(ids, vectors.shape[1]), vectors):
                context = text(ids)[0]
            losses = denoising_loss(lambda x, t: unet(x, t, context).sample, scheduler, clean, timesteps, noise)
        return losses.mean(), {"loss": losses.mean().item()}

    fit("diffusion", nn.ModuleDict({"unet": unet, "text": text}), loss, OPTIONS, setup)
    unet.save_pretrained(setup.folder / "unet")
    text.save_pretrained(setup.folder / "text_encoder")


def cached_latents(setup: TrainingSetup) -> Tensor:
    """Latents of the training scenes, scaled to unit variance, on the CPU."""
    path = setup.folder / "latents.pt"
    if not path.exists():
        vae = AutoencoderKL.from_pretrained(setup.folder / "vae", dtype=torch.float32).to(setup.device).eval()
        scenes = scene_set(setup.num_scenes, TRAINING_SEED, setup.folder)
        torch.save((encode(vae, scenes, len(scenes), setup) * vae.config.scaling_factor).half(), path)
    return torch.load(path, weights_only=True).float()


class CaptionSampler:
    """Samples captions: token ids, and two vectors per caption (adverb and tone, phenomenon) for its placeholders."""

    def __init__(self, tokenizer: CLIPTokenizer, embedding: nn.Embedding) -> None:
        self.tokenizer, self.embedding = tokenizer, embedding
        self.placeholder = self.id_of(PLACEHOLDER)

    def id_of(self, word: str) -> int:
        """Token id of a word of the vocabulary."""
        return int(self.tokenizer(word).input_ids[1])

    def spread(self, words: Sequence[str]) -> None:
        """Place the embeddings of words that name degrees evenly on a line through 0, as long as adverbs at its ends.

        New words that start at 0 are hardly learned: what they add is too small beside an adverb to change a picture.
        """
        weight = self.embedding.weight
        length = weight[[self.id_of(word) for word in ADVERBS]].norm(dim=-1).mean()
        direction = torch.nn.functional.normalize(torch.randn(weight.shape[1], device=weight.device), dim=0) * length
        with torch.no_grad():
            degrees = torch.linspace(-1, 1, len(words), device=weight.device)
            weight[[self.id_of(word) for word in words]] = degrees[:, None] * direction

    def sample(self, scenes: list[Scene], rng: torch.Generator) -> tuple[Tensor, Tensor]:
        """Token ids of random captions (empty, or with no adverb, an adverb or placeholders), and vectors for these."""
        caption_rng = np.random.default_rng(int(torch.randint(2**62, (1,), generator=rng)))
        captions = []
        for scene in scenes:
            draw, subject = caption_rng.random(), scene.phenomenon or ""
            if draw <= _WITHOUT_ADVERB + _WITH_ADVERB and caption_rng.random() < _WITH_TONE:
                subject = f"{tone_word(scene.tone)} {subject}"
            if draw > _WITHOUT_ADVERB + _WITH_ADVERB:
                subject = f"{PLACEHOLDER} {PLACEHOLDER}"
            elif draw > _WITHOUT_ADVERB:
                subject = f"{adverb(scene.intensity)} {subject}"
            text = caption(scene.composition, subject, scene.background, caption_rng)
            captions.append("" if caption_rng.random() < _EMPTY else text)
        ids = self.tokenizer(captions, padding="max_length", truncation=True, return_tensors="pt").input_ids
        return ids, self.vectors(scenes)

    def slots(self, ids: Tensor, num_vectors: int) -> Tensor:
        """Index of the vector at each token; placeholders are numbered cyclically."""
        is_placeholder = ids == self.placeholder
        return torch.where(is_placeholder, (is_placeholder.cumsum(dim=1) - 1) % num_vectors, NO_CUE)

    def vectors(self, scenes: list[Scene]) -> Tensor:
        """Interpolated adverb plus interpolated tone, and phenomenon, of each scene: scenes x 2 x dim."""
        degrees = self._interpolated(ADVERBS, [scene.intensity for scene in scenes])
        degrees = degrees + self._interpolated(TONES, [scene.tone for scene in scenes])
        nouns = self.embedding.weight[[self.id_of(scene.phenomenon or PLACEHOLDER) for scene in scenes]]
        return torch.stack([degrees, nouns], dim=1)

    def _interpolated(self, words: Sequence[str], values: list[float]) -> Tensor:
        """Embeddings between those of words that name a fifth of [0, 1] each, scenes x dim."""
        position = (torch.tensor(values) * len(words) - 0.5).clamp(0, len(words) - 1)
        low = position.floor().clamp(max=len(words) - 2).long()
        fraction = (position - low)[:, None].to(self.embedding.weight.device)
        known = self.embedding.weight[[self.id_of(word) for word in words]]
        return known[low] * (1 - fraction) + known[low + 1] * fraction


def assemble(setup: TrainingSetup) -> None:
    """Assemble the pipeline and save it in half precision."""
    half = torch.float16
    folder = setup.folder
    pipeline = StableDiffusionPipeline(
        vae=AutoencoderKL.from_pretrained(folder / "vae", dtype=half),
        text_encoder=CLIPTextModel.from_pretrained(folder / "text_encoder", dtype=half),
        tokenizer=save_tokenizer(folder / "tokenizer"),
        unet=UNet2DConditionModel.from_pretrained(folder / "unet", dtype=half),
        scheduler=new_scheduler(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.save_pretrained(folder / "pipeline", safe_serialization=True)
