"""Image metrics, on vectors with known cosines and ranks."""

import math

import numpy as np
import pytest

from aai.metrics import (
    DEGREES,
    METRICS,
    Agreement,
    aggregate,
    agreement,
    ais_cosine,
    ais_rank,
    clip_score,
    mean_rank_correlation,
    rank_correlation,
)


def test_every_metric_has_a_label_and_a_help_line():
    assert all(name == metric.name and metric.label and metric.help for name, metric in METRICS.items())
    assert {name for name, metric in METRICS.items() if metric.is_share} == {
        "judge_phenomenon",
        "judge_background",
        "aic",
    }


def test_a_metric_has_a_range_a_direction_and_a_source():
    for metric in METRICS.values():
        assert metric.low < metric.high and metric.source
        assert (metric.direction == "truth") == (metric.name in DEGREES)


def test_what_agrees_with_the_encoder_that_retrieved_is_not_shown_first():
    names = list(METRICS)
    assert names.index("ais_rank") > names.index("judge_intensity") and names[0].startswith("judge_")


def numbers(*values: float) -> np.ndarray:
    return np.array(values, float)


def at_angles(*degrees: float) -> np.ndarray:
    """Unit vectors in the plane."""
    angles = np.radians(degrees)
    return np.stack([np.cos(angles), np.sin(angles)], axis=1)


def test_clip_score_is_two_and_a_half_cosines_and_never_negative():
    assert clip_score(at_angles(0, 0, 0), at_angles(0, 60, 120)) == pytest.approx([2.5, 1.25, 0])


def test_the_cosine_form_is_the_cosine():
    assert ais_cosine(at_angles(0, 0), at_angles(60, 180)) == pytest.approx([0.5, -1])


def test_the_rank_is_the_share_of_less_similar_clips():
    others, none_own = at_angles(10, 20, 30, 40), np.zeros((1, 4), bool)
    for own, share in ((5, 1), (25, 0.5), (90, 0)):
        assert ais_rank(at_angles(0), at_angles(own), others, none_own) == pytest.approx([share])


def test_the_own_clip_and_ties_do_not_count():
    others = at_angles(10, -10, 50)
    assert ais_rank(at_angles(0), at_angles(10), others, np.array([[True, False, False]])) == pytest.approx([0.5])


def test_a_clip_without_others_has_no_rank():
    assert np.isnan(ais_rank(at_angles(0), at_angles(0), at_angles(0), np.ones((1, 1), bool))).all()
    assert np.isnan(ais_rank(at_angles(0), at_angles(0), np.empty((0, 2)), np.ones((1, 0), bool))).all()


def test_random_images_have_a_mean_rank_of_one_half():
    rng = np.random.default_rng(5)
    vectors = rng.normal(size=(600, 16))
    pictures, clips = np.split(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), 2)
    assert ais_rank(pictures, clips, clips, np.eye(300, dtype=bool)).mean() == pytest.approx(0.5, abs=0.05)


def test_the_rank_correlation_ignores_scale_and_averages_ties():
    assert rank_correlation(numbers(1, 2, 3, 4), numbers(0.1, 0.2, 5, 900)) == pytest.approx(1)
    assert rank_correlation(numbers(1, 2, 3), numbers(3, 2, 1)) == pytest.approx(-1)
    assert rank_correlation(numbers(1, 2, 2, 3), numbers(1, 2, 2, 3)) == pytest.approx(1)
    assert rank_correlation(numbers(1, 2, 2, 3), numbers(1, 2, 3, 4)) == pytest.approx(3 / math.sqrt(10))


def test_a_constant_truth_has_no_rank_correlation_and_a_constant_measurement_has_zero():
    assert math.isnan(rank_correlation(numbers(1, 2), numbers(1, 2)))
    assert math.isnan(rank_correlation(numbers(2, 2, 2), numbers(1, 2, 3)))
    assert rank_correlation(numbers(1, 2, 3), numbers(7, 7, 7)) == 0


def test_the_rank_correlation_is_averaged_over_groups():
    groups, truth = ["a"] * 3 + ["b"] * 3 + ["alone"], numbers(1, 2, 3, 10, 20, 30, 5)
    assert mean_rank_correlation(groups, truth, numbers(1, 2, 3, -1, -2, -3, 0)) == pytest.approx(0)
    assert math.isnan(mean_rank_correlation(["alone"], numbers(1), numbers(1)))


def test_pictures_that_are_all_too_strong_have_a_bias_and_a_weak_slope_beside_a_perfect_rank():
    truth = numbers(0, 0.5, 1, 0.2, 0.4, 0.6)
    found = agreement(["a"] * 3 + ["b"] * 3, truth, 0.4 + 0.5 * truth)
    assert (found.rank, found.slope) == pytest.approx((1, 0.5))
    assert found.bias == pytest.approx(0.4 - 0.5 * truth.mean())
    assert agreement(["a", "a"], numbers(1, 1), numbers(1, 2)) == Agreement(None, 0.5, None)


def test_means_are_over_the_images_that_have_the_metric():
    nan = math.nan
    scores = aggregate(
        {
            "judge_phenomenon": np.array([1, 0, nan, 1, nan]),
            "judge_intensity": np.array([0.1, 0.5, 0.9, 0.2, nan]),
            "clip_score": np.full(5, nan),
        },
        ["rain", "rain", "rain", None, "rain"],
        np.array([0.2, 0.6, 0.7, 0.9, 0.9]),
    )
    assert scores.num == 4
    assert scores.means == pytest.approx({"judge_phenomenon": 2 / 3, "judge_intensity": 0.425})
    assert scores.intensity.rank == pytest.approx(1)  # of the three with group, true and judged intensity


def test_without_true_intensities_there_is_no_correlation():
    scores = aggregate({"judge_intensity": np.array([0.1, 0.2, 0.3])}, ["rain"] * 3, np.full(3, np.nan))
    assert scores.intensity == Agreement()
    assert aggregate({}, [], np.empty(0)).num == 0
