"""Sampled clips and their log-mel features."""

import numpy as np

from aai.tiny.clips import NUM_BINS, NUM_FRAMES, log_mel_features, sample_clips
from aai.tiny.sounds import NUM_SAMPLES, SAMPLE_RATE_HZ
from aai.tiny.vocabulary import PHENOMENA


def test_samples_cover_the_phenomena_and_depend_on_the_seed():
    clips = sample_clips(200, seed=1)
    assert clips == sample_clips(200, seed=1) != sample_clips(200, seed=2)
    assert {clip.phenomenon for clip in clips} == set(PHENOMENA)


def test_a_tone_is_a_line_in_the_features():
    tone = np.sin(2 * np.pi * 1000 * np.arange(NUM_SAMPLES) / SAMPLE_RATE_HZ).astype(np.float32)
    features = log_mel_features([tone, np.zeros_like(tone)])
    assert features.shape == (2, NUM_FRAMES, NUM_BINS) and features.dtype == np.float16
    assert len(np.unique(features[0, 10:-10].argmax(axis=1))) == 1
    assert (features[1] <= -100).all()
