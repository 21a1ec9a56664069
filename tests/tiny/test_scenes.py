"""The scenes keep their promises: same seed same pixels, true masks, kept layouts, growing intensity."""

import numpy as np
import pytest

from aai.tiny.scenes import Scene, background_of, render, sample_scenes
from aai.tiny.vocabulary import ADVERBS, BACKGROUNDS, COMPOSITIONS, PHENOMENA, adverb

WHOLE = {"rain", "snow", "thunder", "fireworks"}
VERBS = [Scene("verb", p, b, i, 40 + n) for p in PHENOMENA for n, b in enumerate(BACKGROUNDS) for i in (0.0, 0.5, 1.0)]


def test_the_same_seed_gives_the_same_pixels_in_any_company():
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


def test_outside_the_mask_a_verb_scene_is_its_background():
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


def test_masks_are_whole_where_all_the_light_changes_and_local_elsewhere():
    for scene, mask in zip(VERBS, render(VERBS).mask, strict=True):
        if scene.phenomenon in WHOLE:
            assert mask.all(), scene
        else:
            assert 0.02 < mask.mean() < 0.75, scene


@pytest.mark.parametrize("phenomenon", sorted(set(PHENOMENA) - WHOLE))
def test_local_phenomena_cover_more_the_more_intense_they_are(phenomenon):
    levels = np.linspace(0, 1, 6)
    scenes = [Scene("verb", phenomenon, "field", float(i), seed) for i in levels for seed in range(8)]
    cover = render(scenes).mask.mean(axis=(1, 2)).reshape(6, 8).mean(axis=1)
    assert (np.diff(cover) > 0).all()


@pytest.mark.parametrize("composition", ["noun", "verb", "adjective"])
@pytest.mark.parametrize("phenomenon", PHENOMENA)
def test_every_phenomenon_shows_its_intensity(phenomenon, composition):
    background = None if composition == "noun" else "city"
    seeds = range(8)
    low, middle, high = (
        render([Scene(composition, phenomenon, background, i, seed) for seed in seeds]).pixels.astype(float)
        for i in (0.1, 0.5, 0.9)
    )
    assert np.abs(high - low).mean() > np.abs(middle - low).mean() > 2


def test_a_style_keeps_the_layout():
    scenes = [Scene("adjective", p, b, 0.6, n) for p in PHENOMENA for n, b in enumerate(BACKGROUNDS)]
    styled = render(scenes).pixels.mean(axis=-1).reshape(len(scenes), -1)
    plain = render([background_of(scene) for scene in scenes]).pixels.mean(axis=-1).reshape(len(scenes), -1)
    other = np.roll(plain, 1, axis=0)
    kept = [np.corrcoef(a, b)[0, 1] for a, b in zip(styled, plain, strict=True)]
    chance = [np.corrcoef(a, b)[0, 1] for a, b in zip(styled, other, strict=True)]
    assert np.mean(kept) > 0.75
    assert np.mean(kept) > np.mean(chance) + 0.3


def test_captions_name_what_is_seen():
    rng = np.random.default_rng(0)
    for scene in sample_scenes(200, seed=2):
        words = scene.caption(rng).split()
        assert (scene.phenomenon in words) == (scene.phenomenon is not None)
        assert (scene.background in words) == (scene.background is not None)
        assert ("style" in words) == (scene.composition == "adjective")
        if scene.phenomenon is None:
            assert not set(ADVERBS) & set(words)


def test_adverbs_are_graded():
    assert [adverb(i) for i in (0.0, 0.19, 0.21, 0.5, 0.61, 0.99, 1.0)] == [
        "faint", "faint", "weak", "moderate", "strong", "extreme", "extreme",
    ]  # fmt: skip


def test_samples_hold_everything_and_depend_on_the_seed():
    scenes = sample_scenes(600, seed=3)
    assert scenes == sample_scenes(600, seed=3)
    assert scenes != sample_scenes(600, seed=4)
    assert {s.composition for s in scenes} == set(COMPOSITIONS)
    assert {s.phenomenon for s in scenes} == {*PHENOMENA, None}
    assert {s.background for s in scenes} == {*BACKGROUNDS, None}


@pytest.mark.parametrize(
    ("scene", "said"),
    [
        ({"composition": "collage"}, "collage"),
        ({"composition": "noun", "phenomenon": "hail"}, "hail"),
        ({"composition": "noun"}, "phenomenon"),
        ({"composition": "verb", "phenomenon": "rain"}, "background"),
        ({"composition": "noun", "phenomenon": "rain", "background": "city"}, "city"),
        ({"composition": "noun", "phenomenon": "rain", "intensity": 1.5}, "1.5"),
    ],
)
def test_an_impossible_scene_is_refused_by_name(scene, said):
    with pytest.raises(ValueError, match=said):
        Scene(**scene)
