"""Soft positives of the contrastive losses."""

import torch

from aai.tiny.training.clip import pair_weights


def test_weights_fall_with_the_difference_in_intensity():
    weights = pair_weights(torch.tensor([2, 2, 2, 5]), torch.tensor([0.5, 0.5, 0.58, 0.5]), torch.full((4,), 0.5))
    assert weights[0, 1] == 1 and torch.isclose(weights[0, 2], torch.tensor(-1.0).exp(), rtol=1e-4)
    assert weights[0, 3] == 0 and (weights.diagonal() == 0).all() and torch.equal(weights, weights.T)


def test_weights_fall_with_the_difference_in_tone():
    weights = pair_weights(torch.tensor([2, 2]), torch.tensor([0.5, 0.5]), torch.tensor([0.2, 0.35]))
    assert torch.isclose(weights[0, 1], torch.tensor(-1.0).exp(), rtol=1e-4)


def test_items_without_a_phenomenon_have_no_positives():
    assert pair_weights(torch.tensor([-1, -1]), torch.zeros(2), torch.zeros(2)).sum() == 0
