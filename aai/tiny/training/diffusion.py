"""The text-to-image model: a UNet and a text encoder that learn together on the latents of the settled encoder.

An adverb and its phenomenon are two tokens, "strong rain". In part of the captions they are given as rows instead of
words, with the adverb between its two neighbours as the intensity is between theirs, so that the space of cues is
continuous: a cue may mean any intensity, not one of five.
"""

import numpy as np
import torch
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from aai.inject.splice import NO_ROW, spliced
from aai.models.schedulers import denoising_loss
from aai.options import PLACEHOLDER
from aai.tiny.scenes import Scene
from aai.tiny.training.data import TRAINING_SEED, scene_set
from aai.tiny.training.loop import LoopOptions, Place, fit
from aai.tiny.training.tokenizer import MAX_TOKENS, save_tokenizer
from aai.tiny.training.vae import encode
from aai.tiny.vocabulary import ADVERBS, adverb, caption

OPTIONS = LoopOptions(steps=3900, batch=32, learning_rate=1.2e-3, average=0.998)
DIM = 128

_UNSAID, _PLAIN, _WORD = 0.10, 0.22, 0.35
"""Shares of empty captions, and of the others those without an adverb and those with one in words."""


def new_scheduler() -> DDIMScheduler:
    """Velocity prediction down to pure noise, so that dark and bright pictures come out dark and bright.

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
    """An untrained text encoder whose words start far enough apart to be told from each other."""
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


def train_diffusion(place: Place) -> None:
    """Velocity prediction on latents encoded once."""
    torch.manual_seed(place.seed + 2)
    tokenizer = save_tokenizer(place.folder / "tokenizer")
    latents = cached_latents(place)
    scenes = scene_set(place.num_scenes, TRAINING_SEED, place.folder).scenes
    scheduler, unet = new_scheduler(), new_unet().to(place.device)
    text = new_text_encoder(len(tokenizer), tokenizer.eos_token_id).to(place.device)
    words = Words(tokenizer, text.get_input_embeddings())

    def loss(rng: torch.Generator, batch: int) -> tuple[Tensor, dict[str, float]]:
        chosen = torch.randint(len(scenes), (batch,), generator=rng)
        timesteps = torch.randint(scheduler.config.num_train_timesteps, (batch,), generator=rng).to(place.device)
        clean = latents[chosen].to(place.device)
        noise = torch.randn(clean.shape, generator=rng).to(place.device)
        ids, rows = words.said([scenes[i] for i in chosen.tolist()], rng)
        ids = ids.to(place.device)
        with place.autocast():
            with spliced(words.embedding, words.places(ids, rows.shape[1]), rows):
                context = text(ids)[0]
            losses = denoising_loss(lambda x, t: unet(x, t, context).sample, scheduler, clean, timesteps, noise)
        return losses.mean(), {"loss": losses.mean().item()}

    fit("diffusion", nn.ModuleDict({"unet": unet, "text": text}), loss, OPTIONS, place)
    unet.save_pretrained(place.folder / "unet")
    text.save_pretrained(place.folder / "text_encoder")


def cached_latents(place: Place) -> Tensor:
    """Latents of the training scenes, of unit variance, on the CPU."""
    path = place.folder / "latents.pt"
    if not path.exists():
        vae = AutoencoderKL.from_pretrained(place.folder / "vae", dtype=torch.float32).to(place.device).eval()
        scenes = scene_set(place.num_scenes, TRAINING_SEED, place.folder)
        torch.save((encode(vae, scenes, len(scenes), place) * vae.config.scaling_factor).half(), path)
    return torch.load(path, weights_only=True).float()


class Words:
    """Says scenes: token ids, and for each caption two rows, an adverb and its phenomenon, for its placeholders."""

    def __init__(self, tokenizer: CLIPTokenizer, embedding: nn.Embedding) -> None:
        self.tokenizer, self.embedding = tokenizer, embedding
        self.placeholder = self.id_of(PLACEHOLDER)

    def id_of(self, word: str) -> int:
        """The token of one word of the vocabulary."""
        return int(self.tokenizer(word).input_ids[1])

    def said(self, scenes: list[Scene], rng: torch.Generator) -> tuple[Tensor, Tensor]:
        """Captions at random: some empty, some plain, some with an adverb, some with rows in its place."""
        choose = np.random.default_rng(int(torch.randint(2**62, (1,), generator=rng)))
        said = []
        for scene in scenes:
            how, subject = choose.random(), scene.phenomenon or ""
            if how > _PLAIN + _WORD:
                subject = f"{PLACEHOLDER} {PLACEHOLDER}"
            elif how > _PLAIN:
                subject = f"{adverb(scene.intensity)} {subject}"
            text = caption(scene.composition, subject, scene.background, choose)
            said.append("" if choose.random() < _UNSAID else text)
        ids = self.tokenizer(said, padding="max_length", truncation=True, return_tensors="pt").input_ids
        return ids, self.rows(scenes)

    def places(self, ids: Tensor, num_rows: int) -> Tensor:
        """Which row stands at each token: at placeholders the first, the second, and so on, over and over."""
        is_place = ids == self.placeholder
        return torch.where(is_place, (is_place.cumsum(dim=1) - 1) % num_rows, NO_ROW)

    def rows(self, scenes: list[Scene]) -> Tensor:
        """The two rows that mean each scene's phenomenon at its exact intensity."""
        place = torch.tensor([scene.intensity for scene in scenes]) * len(ADVERBS) - 0.5
        place = place.clamp(0, len(ADVERBS) - 1)
        low = place.floor().clamp(max=len(ADVERBS) - 2).long()
        part = (place - low)[:, None].to(self.embedding.weight.device)
        adverbs = self.embedding.weight[[self.id_of(word) for word in ADVERBS]]
        nouns = self.embedding.weight[[self.id_of(scene.phenomenon or PLACEHOLDER) for scene in scenes]]
        return torch.stack([adverbs[low] * (1 - part) + adverbs[low + 1] * part, nouns], dim=1)


def assemble(place: Place) -> None:
    """Put the pipeline together, and save it in half precision."""
    half = torch.float16
    folder = place.folder
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
