"""Clips with their ground truth, and the audio encoder's log-mel features."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float16
from transformers import ClapFeatureExtractor

from aai.tiny.sounds import DURATION_S, NUM_SAMPLES, SAMPLE_RATE_HZ, synthesise
from aai.tiny.vocabulary import PHENOMENA

NUM_BINS = 64
_HOP, _WINDOW = 320, 512
NUM_FRAMES = NUM_SAMPLES // _HOP + 1


@dataclass(frozen=True)
class Clip:
    """Ground truth of a clip."""

    phenomenon: str
    intensity: float
    seed: int
    tone: float = 0.5

    def wave(self) -> np.ndarray:
        """Synthesise the clip: mono samples at `SAMPLE_RATE_HZ`."""
        return synthesise(self.phenomenon, self.intensity, self.seed, self.tone)


def sample_clips(num: int, seed: int) -> list[Clip]:
    """Sample clips with uniform phenomenon, intensity and tone."""
    rng = np.random.default_rng(seed)
    names, levels, seeds = rng.integers(len(PHENOMENA), size=num), rng.random(num), rng.integers(2**62, size=num)
    drawn = zip(names, levels, seeds, np.random.default_rng([seed, 1]).random(num), strict=True)
    return [Clip(PHENOMENA[n], float(i), int(s), float(t)) for n, i, s, t in drawn]


def log_mel_features(waves: Sequence[np.ndarray]) -> Float16[np.ndarray, "clips frames bins"]:
    """Log-mel features of clips at `SAMPLE_RATE_HZ`, in dB, in half precision."""
    extracted = new_feature_extractor()(list(waves), sampling_rate=SAMPLE_RATE_HZ, return_tensors="np")
    return extracted["input_features"][:, 0].astype(np.float16)


def new_feature_extractor() -> ClapFeatureExtractor:
    """CLAP's feature extractor for 5 s clips: 64 mel bins from 50 to 8,000 Hz, 50 frames per second."""
    return ClapFeatureExtractor(
        feature_size=NUM_BINS,
        sampling_rate=SAMPLE_RATE_HZ,
        hop_length=_HOP,
        fft_window_size=_WINDOW,
        max_length_s=DURATION_S,
        frequency_min=50,
        frequency_max=SAMPLE_RATE_HZ // 2,
        truncation="rand_trunc",
        padding="repeat",
    )
