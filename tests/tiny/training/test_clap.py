"""Augmentation of log-mel features."""

import torch

from aai.tiny.clips import NUM_BINS
from aai.tiny.training.clap import augment, mark_frequencies, new_clap


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


def test_each_patch_of_the_encoder_has_a_mark_of_its_frequency():
    clap = new_clap(vocab_size=10, padding_id=0)
    mark_frequencies(clap)
    marks = clap.audio_model.audio_encoder.batch_norm.bias.detach().view(NUM_BINS // 4, 4)
    assert torch.equal(marks[:, 0], -marks[:, 1]) and torch.equal(marks[:, :2], marks[:, 2:])
    assert marks[0, 0] == -1.5 and marks[-1, 0] == 1.5 and (marks[:, 0].diff() > 0.1).all()
