"""Scores of pictures: checked against vectors whose cosines and ranks are plain to see."""

import math

import numpy as np
import pytest

from aai.metrics import aggregate, ais_cosine, ais_rank, clip_score, correlation_within, rank_correlation


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


def test_the_rank_is_the_share_of_other_clips_that_are_further_away():
    others, none_own = at_angles(10, 20, 30, 40), np.zeros((1, 4), bool)
    for own, share in ((5, 1), (25, 0.5), (90, 0)):
        assert ais_rank(at_angles(0), at_angles(own), others, none_own) == pytest.approx([share])


def test_the_own_clip_is_no_other_and_a_tie_is_not_beaten():
    others = at_angles(10, -10, 50)
    assert ais_rank(at_angles(0), at_angles(10), others, np.array([[True, False, False]])) == pytest.approx([0.5])


def test_a_clip_without_others_has_no_rank():
    assert np.isnan(ais_rank(at_angles(0), at_angles(0), at_angles(0), np.ones((1, 1), bool))).all()
    assert np.isnan(ais_rank(at_angles(0), at_angles(0), np.empty((0, 2)), np.ones((1, 0), bool))).all()


def test_random_pictures_have_a_mean_rank_of_one_half():
    rng = np.random.default_rng(5)
    vectors = rng.normal(size=(600, 16))
    pictures, clips = np.split(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), 2)
    assert ais_rank(pictures, clips, clips, np.eye(300, dtype=bool)).mean() == pytest.approx(0.5, abs=0.05)


def test_the_correlation_of_ranks_does_not_mind_scale_and_shares_ties():
    assert rank_correlation(numbers(1, 2, 3, 4), numbers(0.1, 0.2, 5, 900)) == pytest.approx(1)
    assert rank_correlation(numbers(1, 2, 3), numbers(3, 2, 1)) == pytest.approx(-1)
    assert rank_correlation(numbers(1, 2, 2, 3), numbers(1, 2, 2, 3)) == pytest.approx(1)
    assert rank_correlation(numbers(1, 2, 2, 3), numbers(1, 2, 3, 4)) == pytest.approx(3 / math.sqrt(10))


def test_where_nothing_can_be_carried_there_is_no_correlation_and_where_nothing_was_carried_it_is_none():
    assert math.isnan(rank_correlation(numbers(1, 2), numbers(1, 2)))
    assert math.isnan(rank_correlation(numbers(2, 2, 2), numbers(1, 2, 3)))
    assert rank_correlation(numbers(1, 2, 3), numbers(7, 7, 7)) == 0


def test_correlation_is_taken_inside_groups_and_averaged():
    groups, truth = ["a"] * 3 + ["b"] * 3 + ["alone"], numbers(1, 2, 3, 10, 20, 30, 5)
    assert correlation_within(groups, truth, numbers(1, 2, 3, -1, -2, -3, 0)) == pytest.approx(0)
    assert math.isnan(correlation_within(["alone"], numbers(1), numbers(1)))


def test_an_aggregate_takes_each_metric_over_the_pictures_that_have_it():
    nan = math.nan
    found = aggregate(
        {
            "judge_phenomenon": np.array([1, 0, nan, 1, nan]),
            "judge_intensity": np.array([0.1, 0.5, 0.9, 0.2, nan]),
            "clip_score": np.full(5, nan),
        },
        ["rain", "rain", "rain", None, "rain"],
        np.array([0.2, 0.6, 0.7, 0.9, 0.9]),
    )
    assert found.num == 4
    assert found.means == pytest.approx({"judge_phenomenon": 2 / 3, "judge_intensity": 0.425})
    assert found.intensity == pytest.approx(1)  # of the three with label, truth and judgement


def test_without_known_intensities_there_is_no_correlation():
    found = aggregate({"judge_intensity": np.array([0.1, 0.2, 0.3])}, ["rain"] * 3, np.full(3, np.nan))
    assert found.intensity is None
    assert aggregate({}, [], np.empty(0)).num == 0
