"""Painters of phenomena: masks, and growth with intensity."""

import numpy as np
import pytest

from aai.tiny.phenomena import PHENOMENON_PAINTERS
from aai.tiny.scenes import Scene, render
from aai.tiny.vocabulary import BACKGROUNDS, PHENOMENA

WHOLE_IMAGE = {"rain", "snow", "thunder", "fireworks"}
VERBS = [Scene("verb", p, b, i, 40 + n) for p in PHENOMENA for n, b in enumerate(BACKGROUNDS) for i in (0.0, 0.5, 1.0)]


def test_every_phenomenon_has_a_painter():
    assert PHENOMENON_PAINTERS.keys() == set(PHENOMENA)


def test_a_mask_is_the_whole_image_or_a_part_of_it():
    for scene, mask in zip(VERBS, render(VERBS).mask, strict=True):
        if scene.phenomenon in WHOLE_IMAGE:
            assert mask.all(), scene
        else:
            assert 0.02 < mask.mean() < 0.75, scene


@pytest.mark.parametrize("phenomenon", sorted(set(PHENOMENA) - WHOLE_IMAGE))
def test_the_mask_grows_with_intensity(phenomenon):
    levels = np.linspace(0, 1, 6)
    scenes = [Scene("verb", phenomenon, "field", float(i), seed) for i in levels for seed in range(8)]
    cover = render(scenes).mask.mean(axis=(1, 2)).reshape(6, 8).mean(axis=1)
    assert (np.diff(cover) > 0).all()


@pytest.mark.parametrize("composition", ["noun", "verb", "adjective"])
@pytest.mark.parametrize("phenomenon", PHENOMENA)
def test_the_image_changes_with_intensity(phenomenon, composition):
    background = None if composition == "noun" else "city"
    seeds = range(8)
    low, middle, high = (
        render([Scene(composition, phenomenon, background, i, seed) for seed in seeds]).pixels.astype(float)
        for i in (0.1, 0.5, 0.9)
    )
    assert np.abs(high - low).mean() > np.abs(middle - low).mean() > 2
