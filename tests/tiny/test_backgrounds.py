"""Painters of backgrounds."""

import numpy as np
import pytest

from aai.tiny.backgrounds import BACKGROUND_PAINTERS
from aai.tiny.canvas import Canvas, Draws
from aai.tiny.vocabulary import BACKGROUNDS


def paint(name: str, *seeds: int) -> np.ndarray:
    canvas = Canvas(len(seeds))
    BACKGROUND_PAINTERS[name](canvas, Draws(seeds))
    assert canvas.cover.all()
    return canvas.pixels


def test_every_background_has_a_painter():
    assert BACKGROUND_PAINTERS.keys() == set(BACKGROUNDS)


@pytest.mark.parametrize("name", BACKGROUNDS)
def test_a_background_fills_the_canvas_and_depends_on_the_seed(name):
    first, second = paint(name, 1, 2)
    assert 0 <= first.min() and first.max() <= 1
    assert np.array_equal(first, paint(name, 1)[0]) and not np.array_equal(first, second)


def test_backgrounds_differ_more_than_seeds_of_one_background():
    images = {name: paint(name, *range(8)).mean(axis=0) for name in BACKGROUNDS}
    others = {name: paint(name, *range(8, 16)).mean(axis=0) for name in BACKGROUNDS}
    for name in BACKGROUNDS:
        distances = {other: np.abs(images[name] - image).mean() for other, image in others.items()}
        assert min(distances, key=distances.__getitem__) == name
