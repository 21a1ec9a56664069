"""Augmentation of log-mel features."""

import torch

from aai.tiny.clips import NUM_BINS
from aai.tiny.training.clap import augment


def test_augmentation_is_seeded_and_keeps_shape_and_silence():
    features = torch.full((8, 1, 251, NUM_BINS), -40.0)
    features[:, :, 100:] = -100
    first, again, other = (augment(features, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2))
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert first.shape == features.shape and first.min() >= -100
    is_silent = (first <= -100).all(dim=3)[:, 0]
    assert (is_silent.sum(dim=1) == 151).all()


def test_augmentation_changes_the_gain_of_each_clip():
    features = torch.full((64, 1, 251, NUM_BINS), -40.0)
    levels = augment(features, torch.Generator().manual_seed(3)).mean(dim=(1, 2, 3))
    assert 5 < levels.std() < 15
