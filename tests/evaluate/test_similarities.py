"""Similarities of pictures and what they should show, on vectors in the plane."""

import numpy as np
import pytest

from aai.evaluate.similarities import best_label, ranks_within, z_scores


def at_angles(*degrees: float) -> np.ndarray:
    angles = np.radians(degrees)
    return np.stack([np.cos(angles), np.sin(angles)], axis=1)


def test_a_rank_is_among_the_targets_of_other_clips():
    clips = at_angles(0, 30, 60, 90)
    assert ranks_within(at_angles(0, 0, 90), clips, [0, 3, 2]) == pytest.approx([1, 0, 2 / 3])


def test_a_z_score_is_in_standard_deviations_of_the_other_pictures():
    angles = [60, 70, 80, 90, 100]
    pictures, clips = at_angles(0, *angles), at_angles(0, 60)
    others = np.cos(np.radians(angles))
    expected = (1 - others.mean()) / others.std()
    assert z_scores(pictures, clips, [0, 1, 1, 1, 1, 1])[0] == pytest.approx(expected)
    assert np.isnan(z_scores(pictures[:5], clips, [0, 1, 1, 1, 1])).all()  # four others say little
    assert np.isnan(z_scores(at_angles(0), at_angles(0), [0])).all()


def test_the_label_that_is_most_similar_is_chosen():
    assert best_label(at_angles(10, 80, 44), at_angles(0, 90)) == [0, 1, 0]
