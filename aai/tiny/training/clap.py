"""Training of the audio encoder: a ClapModel for phenomenon, intensity and tone, robust to recording conditions."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import ClapConfig, ClapModel, ClapProcessor, CLIPTokenizer

from aai.align.losses import info_nce
from aai.tiny.clips import NUM_BINS, Clip, new_feature_extractor
from aai.tiny.training.clip import DIM, pair_weights
from aai.tiny.training.data import TRAINING_SEED, ClipSet, clip_set
from aai.tiny.training.loop import LoopOptions, TrainingSetup, fit
from aai.tiny.training.tokenizer import MAX_TOKENS, PADDING, make_tokenizer
from aai.tiny.training.warm import warm_start
from aai.tiny.vocabulary import PHENOMENA, adverb, tone_word

OPTIONS = LoopOptions(steps=7500, batch=64, learning_rate=1.5e-3, warm_share=2 / 3)

_GAIN_DB = 10.0
_WITH_TONE = 0.5
"""Fraction of captions that name the tone."""
_SILENCE_DB = -100.0
"""The feature extractor's value for digital silence."""

_REGRESSION_WEIGHTS = (10.0, 30.0)
"""Weights of the auxiliary losses: squared errors of intensity and tone, regressed from the embedding."""

_PATCH = 4
"""Frames and bins of a patch."""

_MARK = 1.5
"""Contrast of the mark of the lowest and the highest frequency, in standard deviations of the spectrogram."""


def new_clap(vocab_size: int, padding_id: int) -> ClapModel:
    """An untrained encoder, 1.19 million parameters: HTSAT on 256 frames of 64 bins, and a small RoBERTa."""
    text = {
        "vocab_size": vocab_size,
        "hidden_size": 96,
        "intermediate_size": 192,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "max_position_embeddings": MAX_TOKENS + padding_id + 1,
        "pad_token_id": padding_id,
        "type_vocab_size": 1,
    }
    audio = {
        "num_mel_bins": NUM_BINS,
        "spec_size": 128,
        "patch_size": _PATCH,
        "patch_stride": (_PATCH, _PATCH),
        "window_size": 8,
        "patch_embeds_hidden_size": 32,
        "depths": [2, 2, 6],
        "num_hidden_layers": 3,
        "num_attention_heads": [2, 4, 8],
        "hidden_size": 128,
        "num_classes": len(PHENOMENA),
        "enable_fusion": False,
        "mlp_ratio": 2.0,
        "drop_path_rate": 0.0,
    }
    return ClapModel(ClapConfig(text_config=text, audio_config=audio, projection_dim=DIM))


def train_clap(setup: TrainingSetup) -> None:
    """Train with InfoNCE between clips and captions and between similar clips, and auxiliary regressions.

    The regressions are needed because captions have only five levels of intensity and tone; their head is not saved.
    """
    torch.manual_seed(setup.seed + 3)
    tokenizer = make_tokenizer(padding=PADDING)
    clap = _start(tokenizer, setup)
    readout = nn.Sequential(nn.Linear(DIM, DIM), nn.GELU(), nn.Linear(DIM, 2 * len(PHENOMENA))).to(setup.device)
    clips = clip_set(setup.num_clips, TRAINING_SEED, setup.folder)

    def loss(rng: torch.Generator, batch: int) -> tuple[Tensor, dict[str, float]]:
        chosen = torch.randint(len(clips), (batch,), generator=rng)
        features = augment(clips.tensor(chosen), rng).to(setup.device)
        captions = [_caption(clips.clips[i], rng) for i in chosen.tolist()]
        tokens = tokenizer(captions, padding="max_length", return_tensors="pt").to(setup.device)
        with setup.autocast():
            audio = embed(clap, features)
            text = clap.get_text_features(**tokens).pooler_output
        same_caption = torch.tensor([[a == b for b in captions] for a in captions]).float().to(setup.device)
        similar = pair_weights(clips.phenomena[chosen], clips.intensities[chosen], clips.tones[chosen]).to(setup.device)
        scale = clap.logit_scale_a.exp()
        audio, text = audio.float(), text.float()
        caption_loss = info_nce(audio @ text.T * scale, same_caption)
        clip_loss = info_nce(audio @ audio.T * scale - 1e4 * torch.eye(batch, device=setup.device), similar)
        heads = readout(audio).view(batch, 2, len(PHENOMENA))
        index = clips.phenomena[chosen, None, None].expand(-1, 2, 1).to(setup.device)
        degrees = torch.stack([clips.intensities[chosen], clips.tones[chosen]], dim=1).to(setup.device)
        errors = (heads.gather(2, index)[:, :, 0] - degrees).square().mean(0)
        figures = {"captions": caption_loss.item(), "clips": clip_loss.item()}
        figures |= {"intensity": errors[0].item(), "tone": errors[1].item()}
        return caption_loss + 0.3 * clip_loss + (errors * errors.new_tensor(_REGRESSION_WEIGHTS)).sum(), figures

    fit("clap", nn.ModuleDict({"clap": clap, "readout": readout}), loss, OPTIONS, setup)
    clap.save_pretrained(setup.folder / "clap")
    ClapProcessor(new_feature_extractor(), tokenizer).save_pretrained(setup.folder / "clap")


def _start(tokenizer: CLIPTokenizer, setup: TrainingSetup) -> ClapModel:
    """The encoder before its training."""
    clap = new_clap(len(tokenizer), tokenizer.pad_token_id).to(setup.device)
    warm_start(clap, setup, "clap", tokenizer.get_vocab())
    mark_frequencies(clap)
    return clap


@torch.no_grad()
def mark_frequencies(clap: ClapModel) -> None:
    """Let the encoder know where on the frequency axis a patch is: HTSAT has relative positions only.

    The offset that its batch norm adds to each bin alternates, with a contrast that goes from -`_MARK` at the lowest
    patch to `_MARK` at the highest one. It is a weight like any other: training may change it.
    """
    bins = torch.arange(NUM_BINS)
    patches = bins // _PATCH
    contrast = _MARK * (2 * patches / patches[-1] - 1)
    clap.audio_model.audio_encoder.batch_norm.bias.copy_(torch.where(bins % 2 == 0, contrast, -contrast))


def _caption(clip: Clip, rng: torch.Generator) -> str:
    tone = f"{tone_word(clip.tone)} " if float(torch.rand(1, generator=rng)) < _WITH_TONE else ""
    return f"{adverb(clip.intensity)} {tone}{clip.phenomenon}"


def embed(clap: ClapModel, features: Tensor) -> Tensor:
    """Unit vectors of log-mel spectrograms."""
    longer = torch.zeros(len(features), 1, dtype=torch.bool, device=features.device)
    return clap.get_audio_features(input_features=features, is_longer=longer).pooler_output


@torch.no_grad()
def embed_all(clap: ClapModel, clips: ClipSet, setup: TrainingSetup, variations: int = 0) -> Tensor:
    """Unit vectors of all clips, clips x dim, or of random augmentations of each, clips x variations x dim."""
    passes = []
    for number in range(max(1, variations)):
        parts = []
        for start in range(0, len(clips), 100):
            features = clips.tensor(torch.arange(start, min(start + 100, len(clips))))
            if variations:
                features = augment(features, setup.rng(f"vary.{number}", start))
            with setup.autocast():
                parts.append(embed(clap, features.to(setup.device)).float().cpu())
        passes.append(torch.cat(parts))
    return torch.stack(passes, dim=1) if variations else passes[0]


def augment(features: Tensor, rng: torch.Generator) -> Tensor:
    """Random shift, frequency response, noise, SpecAugment masks and gain; digital silence is kept."""
    num, _, frames, bins = features.shape
    features = torch.roll(features, int(torch.randint(frames, (1,), generator=rng)), dims=2)
    silent = features <= _SILENCE_DB
    features = _add_noise(features + _frequency_response(num, bins, 3.0, rng), rng)
    features = _mask(features, rng, axis=3, max_length=bins // 6)
    features = _mask(features, rng, axis=2, max_length=frames // 6)
    gain = _GAIN_DB * torch.randn(num, 1, 1, 1, generator=rng)
    return torch.where(silent, _SILENCE_DB, features + gain).clamp(min=_SILENCE_DB)


def _frequency_response(num: int, bins: int, deviation_db: float, rng: torch.Generator) -> Tensor:
    """Smooth random frequency responses in dB, num x 1 x 1 x bins."""
    knots = deviation_db * torch.randn(num, 1, 6, generator=rng)
    return F.interpolate(knots, size=bins, mode="linear", align_corners=True)[:, :, None]


def _add_noise(features: Tensor, rng: torch.Generator) -> Tensor:
    """Add stationary noise, 5 to 30 dB below the mean power and decreasing with frequency, to half of the clips."""
    num, _, frames, bins = features.shape
    pick = torch.rand(3, num, 1, 1, 1, generator=rng)
    power = 10 ** (features / 10)
    level = 10 * power.mean(dim=(2, 3), keepdim=True).log10() - 5 - 25 * pick[0]
    shape = _frequency_response(num, bins, 4.0, rng) - 16 * pick[1] * torch.linspace(0, 1, bins)
    flutter = 0.15 - 0.7 * torch.rand(features.shape, generator=rng).clamp(min=1e-6).log()
    noise = 10 ** ((level + shape) / 10) * flutter
    return torch.where(pick[2] < 0.5, 10 * (power + noise).log10(), features)


def _mask(features: Tensor, rng: torch.Generator, axis: int, max_length: int) -> Tensor:
    """Replace a random range of bins or frames by the clip's mean, in half of the clips.

    Source: Park et al. 2019, "SpecAugment".
    """
    num, size = len(features), features.shape[axis]
    start = torch.randint(size, (num, 1), generator=rng)
    length = torch.randint(max_length + 1, (num, 1), generator=rng) * torch.randint(2, (num, 1), generator=rng)
    index = torch.arange(size)
    is_masked = (index >= start) & (index < start + length)
    is_masked = is_masked[:, None, None, :] if axis == 3 else is_masked[:, None, :, None]
    return torch.where(is_masked, features.mean(dim=(2, 3), keepdim=True), features)
