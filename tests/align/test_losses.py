"""Losses equal their definitions, also where several processes share the batch."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from aai.align.losses import MAX_SCALE, MIN_SCALE, Temperature, contrast, info_nce, logit_scale


def test_with_the_identity_the_loss_is_that_of_clip():
    logits = np.random.default_rng(0).normal(size=(4, 4))

    def cross_entropy(rows: np.ndarray) -> float:
        return float(np.mean(np.log(np.exp(rows).sum(1)) - np.diag(rows)))

    expected = (cross_entropy(logits) + cross_entropy(logits.T)) / 2
    loss = info_nce(torch.from_numpy(logits), torch.eye(4, dtype=torch.float64))
    assert np.isclose(float(loss), expected)


def test_items_without_a_positive_are_left_out():
    logits = torch.tensor([[2.0, 0.0], [5.0, -3.0]])
    only_first = info_nce(logits, torch.tensor([[1.0, 0.0], [0.0, 0.0]]))
    row, column = -torch.log_softmax(logits[0], 0)[0], -torch.log_softmax(logits[:, 0], 0)[0]
    assert torch.isclose(only_first, (row + column) / 2)


def test_equal_positives_share_the_probability():
    logits = torch.zeros(2, 2)
    assert torch.isclose(info_nce(logits, torch.ones(2, 2)), torch.tensor(2.0).log())


def test_the_logit_scale_starts_at_clips_temperature():
    assert torch.isclose(logit_scale().exp(), torch.tensor(1 / 0.07))


def unit(num: int, seed: int) -> torch.Tensor:
    return F.normalize(torch.randn(num, 8, generator=torch.Generator().manual_seed(seed)), dim=1)


ALL = torch.ones(6, dtype=torch.bool)


def test_contrast_is_info_nce_at_the_learned_scale():
    left, right, temperature = unit(6, 0), unit(6, 1), Temperature("infonce")
    loss = contrast(left, right, torch.eye(6), ALL, temperature, lambda rows: rows)
    assert torch.isclose(loss, info_nce(left @ right.T / 0.07, torch.eye(6)))


def test_the_sigmoid_loss_is_that_of_siglip():
    left, right, temperature = unit(6, 0), unit(6, 1), Temperature("sigmoid")
    logits = left @ right.T / 0.07 - 10
    expected = -F.logsigmoid((2 * torch.eye(6) - 1) * logits).sum() / 6
    assert torch.isclose(contrast(left, right, torch.eye(6), ALL, temperature, lambda rows: rows), expected)


@pytest.mark.parametrize("loss", ["infonce", "sigmoid"])
def test_pairs_without_an_anchor_change_nothing(loss):
    left, right, temperature = unit(6, 0), unit(6, 1), Temperature(loss)
    usable = torch.tensor([True] * 4 + [False] * 2)
    whole = contrast(left, right, torch.eye(6), usable, temperature, lambda rows: rows)
    part = contrast(left[:4], right[:4], torch.eye(4), ALL[:4], temperature, lambda rows: rows)
    assert torch.isclose(whole, part)


@pytest.mark.parametrize("loss", ["infonce", "sigmoid"])
def test_the_mean_over_ranks_is_the_loss_of_the_batch(loss):
    left, right, temperature = unit(6, 0), unit(6, 1), Temperature(loss)
    usable = torch.tensor([True, True, False, True, True, True])
    whole = contrast(left, right, torch.eye(6), usable, temperature, lambda rows: rows)
    parts = []
    for rank in range(2):
        rows = slice(3 * rank, 3 * rank + 3)

        def gather(own: torch.Tensor) -> torch.Tensor:
            return left if torch.equal(own, left[rows]) else right  # noqa: B023

        parts.append(contrast(left[rows], right[rows], torch.eye(6)[rows], usable, temperature, gather, rank))
    assert torch.isclose(sum(parts) / 2, whole)


def test_the_scale_stays_within_its_limits():
    temperature = Temperature("infonce")
    for value, limit in ((0.0, MIN_SCALE), (9.0, MAX_SCALE)):
        temperature.log_scale.data.fill_(value)
        temperature.limit()
        assert math.isclose(float(temperature.scale.detach()), limit, rel_tol=1e-5)
    temperature.log_scale.data.fill_(0.0)
    with pytest.raises(AssertionError):
        temperature(torch.ones(1))
