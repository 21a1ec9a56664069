"""The audio encoder: a ClapModel that knows what is heard and how much of it, whatever the microphone."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import ClapConfig, ClapModel, ClapProcessor

from aai.align.projector import contrast
from aai.tiny.clips import NUM_BINS, new_feature_extractor
from aai.tiny.training.clip import DIM, pairs_of
from aai.tiny.training.data import TRAINING_SEED, ClipSet, clip_set
from aai.tiny.training.loop import LoopOptions, Place, fit
from aai.tiny.training.tokenizer import MAX_TOKENS, PADDING, make_tokenizer
from aai.tiny.vocabulary import PHENOMENA, adverb

OPTIONS = LoopOptions(steps=3600, batch=64, learning_rate=1.5e-3)

_GAIN_DB = 10.0
_SILENCE_DB = -100.0
"""The feature extractor's floor: what digital silence gives."""

_INTENSITY_WEIGHT = 10.0
"""Of the squared error of a small network that reads the intensity off the vectors; it is thrown away afterwards."""


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
    """Symmetric contrastive learning of clips and their captions, and of clips that sound alike.

    A small network reads each clip's intensity off its vector meanwhile: captions know but five degrees of it.
    """
    torch.manual_seed(place.seed + 3)
    tokenizer = make_tokenizer(padding=PADDING)
    clap = new_clap(len(tokenizer), tokenizer.pad_token_id).to(place.device)
    readout = nn.Sequential(nn.Linear(DIM, DIM), nn.GELU(), nn.Linear(DIM, len(PHENOMENA))).to(place.device)
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
        levels = readout(heard).gather(1, clips.phenomena[chosen, None].to(place.device))[:, 0]
        error = F.mse_loss(levels, clips.intensities[chosen].to(place.device))
        figures = {"words": words.item(), "sounds": sounds.item(), "intensity": error.item()}
        return words + 0.3 * sounds + _INTENSITY_WEIGHT * error, figures

    fit("clap", nn.ModuleDict({"clap": clap, "readout": readout}), loss, OPTIONS, place)
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
    """Another start, microphone, noise floor and gain; some bands and moments hidden. Digital silence stays silent."""
    num, _, frames, bins = features.shape
    features = torch.roll(features, int(torch.randint(frames, (1,), generator=rng)), dims=2)
    silent = features <= _SILENCE_DB
    features = _with_noise(features + _curve(num, bins, 3.0, rng), rng)
    features = _hide(features, rng, axis=3, longest=bins // 6)
    features = _hide(features, rng, axis=2, longest=frames // 6)
    gain = _GAIN_DB * torch.randn(num, 1, 1, 1, generator=rng)
    return torch.where(silent, _SILENCE_DB, features + gain).clamp(min=_SILENCE_DB)


def _curve(num: int, bins: int, deviation_db: float, rng: torch.Generator) -> Tensor:
    """A smooth random frequency response in dB, num x 1 x 1 x bins."""
    knots = deviation_db * torch.randn(num, 1, 6, generator=rng)
    return F.interpolate(knots, size=bins, mode="linear", align_corners=True)[:, :, None]


def _with_noise(features: Tensor, rng: torch.Generator) -> Tensor:
    """Half of the clips get steady noise, 5 to 30 dB below their mean power and weaker towards high pitches."""
    num, _, frames, bins = features.shape
    pick = torch.rand(3, num, 1, 1, 1, generator=rng)
    power = 10 ** (features / 10)
    level = 10 * power.mean(dim=(2, 3), keepdim=True).log10() - 5 - 25 * pick[0]
    shape = _curve(num, bins, 4.0, rng) - 16 * pick[1] * torch.linspace(0, 1, bins)
    flutter = 0.15 - 0.7 * torch.rand(features.shape, generator=rng).clamp(min=1e-6).log()
    noise = 10 ** ((level + shape) / 10) * flutter
    return torch.where(pick[2] < 0.5, 10 * (power + noise).log10(), features)


def _hide(features: Tensor, rng: torch.Generator, axis: int, longest: int) -> Tensor:
    """Put the clip's mean in place of one stretch of bands or moments, in half of the clips.

    Source: Park et al. 2019, "SpecAugment".
    """
    num, size = len(features), features.shape[axis]
    start = torch.randint(size, (num, 1), generator=rng)
    length = torch.randint(longest + 1, (num, 1), generator=rng) * torch.randint(2, (num, 1), generator=rng)
    place = torch.arange(size)
    hidden = (place >= start) & (place < start + length)
    hidden = hidden[:, None, None, :] if axis == 3 else hidden[:, None, :, None]
    return torch.where(hidden, features.mean(dim=(2, 3), keepdim=True), features)
