"""The smallest value that is not distinguishably below the best."""

import numpy as np
import pytest

from aai.evaluate.curves import curve_of
from aai.evaluate.intervals import Draws

NAN = float("nan")


def curve(columns: dict[int, list[float]], is_higher_better: bool = True):
    """The curve of each clip's quality, by value."""
    matrix = np.array(list(columns.values())).T
    draws = Draws([None] * len(matrix), num=400)
    nums = (~np.isnan(matrix)).sum(axis=0).tolist()
    return curve_of(list(columns), draws.one.means(matrix)[0], draws.means(matrix), nums, is_higher_better)


def noisy(mean: float, seed: int = 0, num: int = 40, spread: float = 0.01) -> list[float]:
    """The noise of the clips is the same at all values, as paired comparisons have it, and a little of its own."""
    shared = np.random.default_rng(99).normal(0, 0.3, num)
    return (mean + shared + np.random.default_rng(seed).normal(0, spread, num)).tolist()


def test_what_is_gained_by_pairs_counts_though_clips_differ_much():
    found = curve({0: noisy(0.5, 1), 8: noisy(0.6, 2), 24: noisy(0.601, 3, spread=0.02)})
    assert found.enough == 8 and [point.is_below for point in found.points] == [True, False, False]
    assert found.points[0].gap.value == pytest.approx(0.1, abs=0.02)
    assert found.points[0].quality.high > found.points[1].quality.low, "unpaired intervals overlap"


def test_the_best_is_not_below_itself_and_values_are_in_order():
    found = curve({24: noisy(0.9, 1), 0: noisy(0.2, 2), 8: noisy(0.5, 3)})
    assert [point.value for point in found.points] == [0, 8, 24] and (found.best, found.enough) == (24, 24)
    assert (found.points[-1].gap.value, found.points[-1].gap.low, found.points[-1].gap.high) == (0, 0, 0)


def test_of_equal_values_the_smallest_is_best_and_enough():
    found = curve({4: noisy(0.5), 1: noisy(0.5), 2: noisy(0.5)})
    assert (found.best, found.enough) == (1, 1)


def test_where_lower_is_better_the_lowest_is_best():
    found = curve({1: noisy(0.9, 1), 2: noisy(0.2, 2)}, is_higher_better=False)
    assert (found.best, found.enough) == (2, 2) and found.points[0].gap.value == pytest.approx(0.7, abs=0.05)


def test_a_value_without_quality_is_left_out():
    found = curve({1: [NAN] * 40, 2: noisy(0.2)})
    assert [point.value for point in found.points] == [2]
    assert curve({1: [NAN] * 40, 2: [NAN] * 40}) is None
