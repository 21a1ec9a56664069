"""Intervals: those of means agree with theory, and pairs and strata narrow them."""

import math

import numpy as np
import pytest
from scipy.stats import spearmanr

from aai.evaluate.intervals import Draws, Interval, jackknife

RNG = np.random.default_rng(3)


def test_the_sample_itself_is_one_draw_and_missing_values_are_left_out():
    values = np.array([[1.0, 4.0], [3.0, math.nan], [math.nan, math.nan]])
    assert Draws(["a", "a", "b"], 10).one.means(values).tolist() == [[2.0, 4.0]]
    assert np.isnan(Draws(["a"], 10).means(np.full((1, 1), math.nan))).all()


def test_the_interval_of_a_mean_is_two_standard_errors_wide():
    values = RNG.normal(size=(400, 1))
    draws = Draws(["a"] * 400, 2_000)
    interval = Interval.of(float(values.mean()), draws.means(values)[:, 0])
    error = float(values.std()) / 20
    assert interval.low == pytest.approx(values.mean() - 1.96 * error, abs=0.25 * error)
    assert interval.high == pytest.approx(values.mean() + 1.96 * error, abs=0.25 * error)


def test_differences_are_paired_so_that_what_clips_have_in_common_does_not_count():
    common = RNG.normal(0, 10, size=(50, 1))
    values = np.concatenate([common, common + RNG.normal(1, 0.1, size=(50, 1))], axis=1)
    resampled = Draws(["a"] * 50, 500).means(values)
    assert Interval.of(1.0, resampled[:, 1] - resampled[:, 0]).excludes_zero
    assert np.ptp(resampled[:, 0]) > 2


def test_strata_keep_their_sizes():
    labels = ["a"] * 10 + ["b"] * 10
    values = np.repeat([[0.0], [100.0]], 10, axis=0)
    assert Draws(labels, 100).means(values).tolist() == [[50.0]] * 100


@pytest.mark.parametrize("size", [1, 2, 5])
def test_the_interval_of_a_mean_is_as_wide_with_few_clips_of_each_label(size):
    labels = [str(number // size) for number in range(400)]
    values = RNG.normal(size=(400, 1))
    resampled = Draws(labels, 2_000).means(values)[:, 0]
    assert float(resampled.std()) == pytest.approx(1 / 20, rel=0.1)
    bias = Draws(labels, 2_000).degrees(np.zeros(400), values).bias[:, 0]
    assert float(bias.std()) == pytest.approx(1 / 20, rel=0.1)


def test_labels_with_one_clip_have_no_rank_of_their_own_and_a_single_clip_no_interval():
    truth, judged = np.arange(6.0), np.arange(6.0)[:, None]
    found = Draws(list("abcdef"), 50).degrees(truth, judged)
    assert np.isnan(found.rank).all() and np.isnan(found.slope).all() and (found.bias == 0).all()
    assert np.isnan(Draws(["a"], 50).means(np.ones((1, 1)))).all()
    assert Draws(["a"], 50).one.means(np.ones((1, 1))).tolist() == [[1.0]]


def test_degrees_are_those_of_scipy_and_least_squares():
    labels = ["a"] * 12 + ["b"] * 9 + ["c"] * 2
    truth, judged = RNG.uniform(size=23), RNG.uniform(size=(23, 1))
    found = Draws(labels, 5).one.degrees(truth, judged)
    groups = [slice(0, 12), slice(12, 21)]  # the rank of two is not defined
    ranks = [spearmanr(truth[own], judged[own, 0]).statistic for own in groups]
    assert found.rank[0, 0] == pytest.approx(np.mean(ranks))
    assert found.bias[0, 0] == pytest.approx(float((judged[:, 0] - truth).mean()))
    x, y = truth.copy(), judged[:, 0].copy()
    for own in (*groups, slice(21, 23)):
        x[own] -= x[own].mean()
        y[own] -= y[own].mean()
    assert found.slope[0, 0] == pytest.approx(float(np.polyfit(x, y, 1)[0]))


def test_a_bias_and_a_weak_slope_that_a_rank_does_not_show():
    truth = np.linspace(0, 1, 20)
    found = Draws(["a"] * 20, 50).degrees(truth, (0.3 + 0.5 * truth)[:, None])
    assert found.rank == pytest.approx(np.ones((50, 1)))
    assert found.slope == pytest.approx(np.full((50, 1), 0.5)) and found.bias.mean() == pytest.approx(0.05, abs=0.02)


def test_unknown_degrees_are_left_out_and_a_constant_judgement_has_rank_zero():
    truth = np.array([0.1, 0.5, 0.9, math.nan])
    judged = np.array([[0.2], [0.2], [0.2], [0.9]])
    found = Draws(["a"] * 4, 20).degrees(truth, judged)
    assert found.rank[~np.isnan(found.rank)] == pytest.approx(0) and not np.isnan(found.rank).all()
    assert Draws(["a"] * 4, 20).one.degrees(truth, judged).bias[0, 0] == pytest.approx(-0.3)


def test_the_jackknife_of_a_mean_is_its_standard_error():
    values = RNG.normal(size=100)
    without = (values.sum() - values) / 99
    interval = jackknife(float(values.mean()), without)
    assert (interval.high - interval.low) / 2 == pytest.approx(1.96 * values.std(ddof=1) / 10, rel=1e-3)
    assert math.isnan(jackknife(1.0, np.array([1.0])).low)
