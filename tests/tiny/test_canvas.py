"""Drawing primitives."""

import numpy as np
import pytest

from aai.tiny.canvas import SIZE_PX, Canvas, Draws, X, Y, inside, noise, per_cell, ramp, soft_step


def test_random_numbers_depend_on_seed_purpose_and_index_alone():
    draws = Draws([3, 4])
    table = draws.table("trees", 5)
    assert np.array_equal(Draws([4]).table("trees", 5)[0], table[1])
    assert np.array_equal(draws.table("trees", 9)[:, :5], table)
    assert not np.array_equal(draws.table("clouds", 5), table)
    assert len(np.unique(table)) == table.size and 0 <= table.min() and table.max() < 1


def test_random_numbers_are_uniform():
    table = Draws(range(200)).table("x", 50)
    assert table.mean() == pytest.approx(0.5, abs=0.02) and table.var() == pytest.approx(1 / 12, abs=0.005)
    assert set(Draws(range(200)).choice("y", 4).tolist()) == {0, 1, 2, 3}


def test_a_soft_step_is_monotonic_in_either_direction():
    values = np.linspace(-1, 2, 50)
    assert soft_step(0, 1, values)[0] == 0 and soft_step(0, 1, values)[-1] == 1
    assert (np.diff(soft_step(0, 1, values)) >= 0).all() and (np.diff(soft_step(1, 0, values)) <= 0).all()
    assert inside(np.array([-1.0, 0.0, 1.0])).tolist() == pytest.approx([1, 0.5, 0])


def test_a_ramp_interpolates_the_palette():
    colours = ramp(np.array([0.0, 0.5, 0.75, 1.0]), [(0, 0, 0), (1, 0, 0), (1, 1, 0)])
    assert colours.tolist() == [[0, 0, 0], [1, 0, 0], [1, 0.5, 0], [1, 1, 0]]


def test_noise_is_periodic_and_in_range():
    draws = Draws([1])
    first, shifted = (noise(draws, "n", X + shift, Y) for shift in (0, 1))
    assert 0 <= first.min() and first.max() <= 1 and first.std() > 0.01
    assert np.allclose(first, shifted, atol=1e-3)


def test_cells_wrap_around():
    cell = np.broadcast_to(np.arange(SIZE_PX), (1, SIZE_PX, SIZE_PX))
    assert per_cell(np.array([[0.0, 1.0]]), cell)[0, 0, :4].tolist() == [0, 1, 0, 1]


def test_painting_blends_and_marks_the_covered_pixels():
    canvas, alpha = Canvas(1), np.zeros((1, SIZE_PX, SIZE_PX), np.float32)
    alpha[0, 0, :3] = (1.0, 0.5, 0.01)
    canvas.over((1, 0, 0), alpha)
    assert canvas.pixels[0, 0, :3, 0].tolist() == [1, 0.5, 0]
    assert canvas.cover.sum() == 2
    canvas.reset()
    assert not canvas.cover.any() and canvas.pixels[0, 0, 0, 0] == 1
