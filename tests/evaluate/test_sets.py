"""Distances of sets agree with the formulas of their reference implementations, written out here."""

import numpy as np
import pytest

from aai.evaluate.sets import SetDistance, cmmd, compared, diversity, kid

RNG = np.random.default_rng(5)


def unit(num: int, dim: int = 16, shift: float = 0.0) -> np.ndarray:
    vectors = RNG.normal(size=(num, dim)) + shift
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def clean_fid_kernel_distance(y: np.ndarray, x: np.ndarray) -> float:
    """`kernel_distance` of clean-fid with one subset of all features."""
    num, dim = x.shape
    a = (x @ x.T / dim + 1) ** 3 + (y @ y.T / dim + 1) ** 3
    b = (x @ y.T / dim + 1) ** 3
    return float(((a.sum() - np.diag(a).sum()) / (num - 1) - b.sum() * 2 / num) / num)


def google_mmd(x: np.ndarray, y: np.ndarray) -> float:
    """`mmd` of google-research/cmmd: sigma 10, scale 1,000."""

    def mean(a: np.ndarray, b: np.ndarray) -> float:
        return float(np.exp(-((a[:, None] - b[None]) ** 2).sum(-1) / 200).mean())

    return 1000 * (mean(x, x) + mean(y, y) - 2 * mean(x, y))


def test_kid_is_that_of_clean_fid():
    x, y = RNG.normal(size=(40, 24)), RNG.normal(0.3, 1.2, size=(40, 24))
    assert kid(x, y) == pytest.approx(clean_fid_kernel_distance(x, y), abs=1e-4)


def test_kid_of_two_samples_of_one_distribution_is_zero_on_average_and_may_be_negative():
    found = [kid(unit(30), unit(60)) for _ in range(60)]
    assert np.mean(found) == pytest.approx(0, abs=4 * np.std(found) / np.sqrt(60)) and min(found) < 0


def test_cmmd_is_that_of_google_research():
    x, y = unit(30), unit(50, shift=0.4)
    assert cmmd(x, y) == pytest.approx(google_mmd(x, y), abs=1e-4)
    assert cmmd(x, x) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("kind", ["kid", "cmmd"])
def test_a_distance_without_a_clip_is_that_of_the_other_pictures(kind):
    pictures, clips, reference = unit(12), np.repeat(np.arange(6), 2), unit(20, shift=0.2)
    distance, function = SetDistance(pictures, clips, reference, kind), {"kid": kid, "cmmd": cmmd}[kind]
    for clip, value in distance.without().items():
        assert value == pytest.approx(function(pictures[clips != clip], reference))


def test_a_difference_is_paired_by_clip():
    reference, clips = unit(60), np.arange(40)
    near, far = (
        SetDistance(unit(40), clips, reference, "cmmd"),
        SetDistance(unit(40, shift=1), clips, reference, "cmmd"),
    )
    assert compared(far, near).excludes_zero and compared(far, near).value > 0
    assert (compared(near, near).value, compared(near, near).low) == (0, 0)


def test_diversity_is_the_mean_distance_of_pairs():
    vectors = np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]])
    assert diversity(vectors) == pytest.approx((1 + 0 + 1) / 3)
    assert np.isnan(diversity(vectors[:1]))
