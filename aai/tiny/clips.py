"""Clips of which everything is known, and what the audio encoder takes of them."""

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
    """What a clip sounds of: the truth."""

    phenomenon: str
    intensity: float
    seed: int

    def wave(self) -> np.ndarray:
        """The clip itself: mono samples at `SAMPLE_RATE_HZ`."""
        return synthesise(self.phenomenon, self.intensity, self.seed)


def sample_clips(num: int, seed: int) -> list[Clip]:
    """Draw clips at random, phenomenon and intensity uniform."""
    rng = np.random.default_rng(seed)
    names, levels, seeds = rng.integers(len(PHENOMENA), size=num), rng.random(num), rng.integers(2**62, size=num)
    return [Clip(PHENOMENA[n], float(i), int(s)) for n, i, s in zip(names, levels, seeds, strict=True)]


def listen(waves: Sequence[np.ndarray]) -> Float16[np.ndarray, "clips frames bins"]:
    """What the feature extractor makes of clips at `SAMPLE_RATE_HZ`, in half precision."""
    extracted = new_feature_extractor()(list(waves), sampling_rate=SAMPLE_RATE_HZ, return_tensors="np")
    return extracted["input_features"][:, 0].astype(np.float16)


def new_feature_extractor() -> ClapFeatureExtractor:
    """Log-mel spectrograms of 5 s: 64 bins from 50 to 8,000 Hz, 50 frames a second; short clips are repeated."""
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
