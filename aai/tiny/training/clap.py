"""The audio encoder: a ClapModel that knows what is heard and how much of it, whatever the microphone."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import ClapConfig, ClapModel, ClapProcessor

from aai.align import contrast
from aai.tiny.training.clip import DIM, pairs_of
from aai.tiny.training.data import (
    NUM_BINS,
    TRAINING_SEED,
    ClipSet,
    clip_set,
    new_feature_extractor,
)
from aai.tiny.training.loop import LoopOptions, Place, fit
from aai.tiny.training.tokenizer import MAX_TOKENS, PADDING, make_tokenizer
from aai.tiny.vocabulary import PHENOMENA, adverb

OPTIONS = LoopOptions(steps=1800, batch=64, learning_rate=1.5e-3)

_GAIN_DB = 10.0
_LEAST_DB = -100.0
"""The feature extractor's floor."""


def new_clap(vocab_size: int, padding_id: int) -> ClapModel:
    """An untrained encoder, 0.65 million parameters: HTSAT on 256 frames of 64 bins, and a small RoBERTa."""
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
        "patch_size": 4,
        "patch_stride": (4, 4),
        "window_size": 8,
        "patch_embeds_hidden_size": 32,
        "depths": [2, 2, 2],
        "num_hidden_layers": 3,
        "num_attention_heads": [2, 4, 8],
        "hidden_size": 128,
        "num_classes": len(PHENOMENA),
        "enable_fusion": False,
        "mlp_ratio": 2.0,
        "drop_path_rate": 0.0,
    }
    return ClapModel(ClapConfig(text_config=text, audio_config=audio, projection_dim=DIM))


def train_clap(place: Place) -> None:
    """Symmetric contrastive learning of clips and their captions, and of clips that sound alike."""
    torch.manual_seed(place.seed + 3)
    tokenizer = make_tokenizer(padding=PADDING)
    clap = new_clap(len(tokenizer), tokenizer.pad_token_id).to(place.device)
    clips = clip_set(place.num_clips, TRAINING_SEED, place.folder)

    def loss(rng: torch.Generator, batch: int) -> tuple[Tensor, dict[str, float]]:
        chosen = torch.randint(len(clips), (batch,), generator=rng)
        features = vary(clips.tensor(chosen), rng).to(place.device)
        said = [f"{adverb(clips.clips[i].intensity)} {clips.clips[i].phenomenon}" for i in chosen.tolist()]
        text = tokenizer(said, padding="max_length", return_tensors="pt").to(place.device)
        with place.autocast():
            heard = embed(clap, features)
            meant = clap.get_text_features(**text).pooler_output
        same_words = torch.tensor([[a == b for b in said] for a in said]).float().to(place.device)
        alike = pairs_of(clips.phenomena[chosen], clips.intensities[chosen]).to(place.device)
        scale = clap.logit_scale_a.exp()
        heard, meant = heard.float(), meant.float()
        words = contrast(heard @ meant.T * scale, same_words)
        sounds = contrast(heard @ heard.T * scale - 1e4 * torch.eye(batch, device=place.device), alike)
        return words + 0.3 * sounds, {"words": words.item(), "sounds": sounds.item()}

    fit("clap", nn.ModuleDict({"clap": clap}), loss, OPTIONS, place)
    clap.save_pretrained(place.folder / "clap")
    ClapProcessor(new_feature_extractor(), tokenizer).save_pretrained(place.folder / "clap")


def embed(clap: ClapModel, features: Tensor) -> Tensor:
    """Unit vectors of log-mel spectrograms."""
    longer = torch.zeros(len(features), 1, dtype=torch.bool, device=features.device)
    return clap.get_audio_features(input_features=features, is_longer=longer).pooler_output


@torch.no_grad()
def embed_all(clap: ClapModel, clips: ClipSet, place: Place, variations: int = 0) -> Tensor:
    """Unit vectors of all clips as they are, or of so many random variations of each, clips x variations x dim."""
    rounds = []
    for turn in range(max(1, variations)):
        parts = []
        for start in range(0, len(clips), 100):
            features = clips.tensor(torch.arange(start, min(start + 100, len(clips))))
            if variations:
                features = vary(features, place.rng(f"vary.{turn}", start))
            with place.autocast():
                parts.append(embed(clap, features.to(place.device)).float().cpu())
        rounds.append(torch.cat(parts))
    return torch.stack(rounds, dim=1) if variations else rounds[0]


def vary(features: Tensor, rng: torch.Generator) -> Tensor:
    """Another gain, another microphone, another noise floor, another start; a few bands and moments silenced."""
    num, _, frames, bins = features.shape

    def normal(*shape: int) -> Tensor:
        return torch.randn(num, *shape, generator=rng)

    def uniform(low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand(num, 1, 1, 1, generator=rng)

    shift = int(torch.randint(frames, (1,), generator=rng))
    features = torch.roll(features, shift, dims=2)
    microphone = F.interpolate(normal(1, 6) * 3.0, size=bins, mode="linear", align_corners=True)[:, :, None]
    features = features + microphone
    tilt = torch.linspace(0, 1, bins) * uniform(-12, 12)
    floor = features.amax(dim=(2, 3), keepdim=True) - uniform(25, 70) + tilt
    features = (
        torch.logaddexp(features * _TO_NATS, floor * _TO_NATS + 0.8 * torch.randn(features.shape, generator=rng))
        / _TO_NATS
    )
    features = _silence(features, rng, axis=3, longest=8)
    features = _silence(features, rng, axis=2, longest=40)
    return (features + _GAIN_DB * normal(1, 1, 1)).clamp(min=_LEAST_DB)


_TO_NATS = float(torch.log(torch.tensor(10.0))) / 10
"""Decibels of power to natural logarithms."""


def _silence(features: Tensor, rng: torch.Generator, axis: int, longest: int) -> Tensor:
    """Replace one stretch of bands or moments by the clip's mean (Park et al. 2019, "SpecAugment")."""
    num, size = len(features), features.shape[axis]
    start = torch.randint(size, (num, 1), generator=rng)
    length = torch.randint(longest + 1, (num, 1), generator=rng)
    place = torch.arange(size)
    hidden = (place >= start) & (place < start + length)
    hidden = hidden[:, None, None, :] if axis == 3 else hidden[:, None, :, None]
    return torch.where(hidden, features.mean(dim=(2, 3), keepdim=True), features)
