"""Spectrograms equal those of the library's feature extractor, of noise, tones, silence and clicks."""

import numpy as np
import pytest
import torch
from transformers import ClapFeatureExtractor

from aai.models.log_mel import LogMel

NUM = 480_000


def waves() -> list[np.ndarray]:
    rng, time_s = np.random.default_rng(0), np.arange(NUM) / 48_000
    clicks = np.zeros(NUM)
    clicks[::9_600] = 1
    return [each.astype(np.float32) for each in (
        0.1 * rng.standard_normal(NUM), 0.5 * np.sin(2 * np.pi * 440 * time_s), np.zeros(NUM), clicks,
        1e-4 * rng.standard_normal(NUM),
    )]  # fmt: skip


@pytest.mark.parametrize("truncation", ["fusion", "rand_trunc"])
def test_features_equal_the_librarys(truncation):
    extractor = ClapFeatureExtractor(truncation=truncation, frequency_min=50)
    expected = extractor(waves(), sampling_rate=48_000, return_tensors="pt")["input_features"]
    features = LogMel(extractor)(torch.from_numpy(np.stack(waves())))
    assert features.shape == expected.shape == (5, 4 if truncation == "fusion" else 1, 1_001, 64)
    loud = expected > expected.amax(dim=(1, 2, 3), keepdim=True) - 80
    assert (features - expected)[loud].abs().max() < 1e-2, "decibels, down to 80 dB below the loudest"
    assert (features - expected).abs().mean() < 0.1, "float32's own noise is below that of a pure tone"


def test_another_window_and_rate():
    extractor = ClapFeatureExtractor(
        truncation="rand_trunc", feature_size=32, sampling_rate=16_000, hop_length=160, fft_window_size=512,
        max_length_s=2, frequency_max=8_000,
    )  # fmt: skip
    noise = np.random.default_rng(1).standard_normal(32_000).astype(np.float32)
    expected = extractor([noise], sampling_rate=16_000, return_tensors="pt")["input_features"]
    assert torch.allclose(LogMel(extractor)(torch.from_numpy(noise)[None]), expected, atol=1e-3)
