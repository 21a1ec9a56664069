"""Scenes: deterministic pixels, exact masks, captions, validation."""

import numpy as np
import pytest

from aai.tiny.scenes import Scene, background_of, render, sample_scenes
from aai.tiny.vocabulary import ADVERBS, BACKGROUNDS, COMPOSITIONS, PHENOMENA

VERBS = [Scene("verb", p, b, i, 40 + n) for p in PHENOMENA for n, b in enumerate(BACKGROUNDS) for i in (0.0, 0.5, 1.0)]


def test_pixels_do_not_depend_on_the_batch():
    scenes = sample_scenes(60, seed=5)
    together = render(scenes).pixels
    backwards = render(scenes[::-1]).pixels[::-1]
    alone = np.concatenate([render([scene]).pixels for scene in scenes[:12]])
    assert np.array_equal(together, backwards)
    assert np.array_equal(together[:12], alone)


def test_another_seed_gives_other_pixels():
    for composition in COMPOSITIONS:
        scenes = [s for s in sample_scenes(40, seed=1) if s.composition == composition][:4]
        others = [Scene(s.composition, s.phenomenon, s.background, s.intensity, s.seed + 1) for s in scenes]
        different = (render(scenes).pixels != render(others).pixels).any(axis=(1, 2, 3))
        assert different.all(), composition


def test_outside_the_mask_a_verb_scene_equals_its_background():
    pictures, backgrounds = render(VERBS), render([background_of(scene) for scene in VERBS])
    outside = ~pictures.mask
    assert np.array_equal(pictures.pixels[outside], backgrounds.pixels[outside])
    assert not backgrounds.mask.any()


def test_inside_the_mask_a_verb_scene_differs_from_its_background():
    pictures, backgrounds = render(VERBS), render([background_of(scene) for scene in VERBS])
    changed = (pictures.pixels != backgrounds.pixels).any(axis=-1)
    for scene, mask, change in zip(VERBS, pictures.mask, changed, strict=True):
        assert mask.any(), scene
        assert change[mask].mean() > 0.75, scene


def test_captions_name_phenomenon_and_background():
    rng = np.random.default_rng(0)
    for scene in sample_scenes(200, seed=2):
        words = scene.caption(rng).split()
        assert (scene.phenomenon in words) == (scene.phenomenon is not None)
        assert (scene.background in words) == (scene.background is not None)
        assert ("style" in words) == (scene.composition == "adjective")
        if scene.phenomenon is None:
            assert not set(ADVERBS) & set(words)


def test_samples_cover_the_vocabulary_and_depend_on_the_seed():
    scenes = sample_scenes(600, seed=3)
    assert scenes == sample_scenes(600, seed=3)
    assert scenes != sample_scenes(600, seed=4)
    assert {s.composition for s in scenes} == set(COMPOSITIONS)
    assert {s.phenomenon for s in scenes} == {*PHENOMENA, None}
    assert {s.background for s in scenes} == {*BACKGROUNDS, None}


@pytest.mark.parametrize(
    ("scene", "name"),
    [
        ({"composition": "collage"}, "collage"),
        ({"composition": "noun", "phenomenon": "hail"}, "hail"),
        ({"composition": "noun"}, "phenomenon"),
        ({"composition": "verb", "phenomenon": "rain"}, "background"),
        ({"composition": "noun", "phenomenon": "rain", "background": "city"}, "city"),
        ({"composition": "noun", "phenomenon": "rain", "intensity": 1.5}, "1.5"),
    ],
)
def test_an_invalid_scene_is_rejected_by_name(scene, name):
    with pytest.raises(ValueError, match=name):
        Scene(**scene)
