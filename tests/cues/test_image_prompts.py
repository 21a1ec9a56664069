"""Images are captioned by the templates of training, with places in them."""

import numpy as np
import pytest

from aai.cues.image_prompts import (
    balanced,
    captions_of,
    chances_of,
    everyday_places,
    likeliest,
    template_numbers,
    with_places,
)


def test_the_places_are_many_and_have_no_duplicates():
    places = everyday_places()
    assert len(places) > 50 and len(set(places)) == len(places)
    assert [place for place in places if not place or place != place.strip() or "*" in place] == []


def test_a_template_with_a_place_stands_once_for_each_place():
    prompts = with_places(("a photo of *", "a * {place}"), ("city", "beach"))
    assert prompts == ("a photo of *", "a * city", "a * beach")


def test_captions_have_a_sound_for_the_cue_and_one_article():
    prompts = ("a photo of *", "a * city", "a city in the style of *")
    assert captions_of(prompts, "rain") == ["a photo of rain", "a rain city", "a city in the style of rain"]
    assert captions_of(prompts, "an owl") == ["a photo of an owl", "an owl city", "a city in the style of an owl"]


def test_the_likeliest_text_is_the_nearest():
    assert likeliest(np.eye(3, dtype=np.float32)[[2, 0]], np.eye(3, dtype=np.float32)).tolist() == [2, 0]


def test_chances_are_a_softmax_of_cosines():
    chances = chances_of(np.array([[0.30, 0.30], [0.30, 0.29], [0.2, 0.9]], np.float32))
    assert chances.sum(axis=1) == pytest.approx(1)
    assert chances[:, 1] == pytest.approx([0.5, 1 / (1 + np.exp(1)), 1], rel=1e-4)


def test_balanced_weights_train_all_templates_as_often():
    """Three images of nouns and one of a verb, one noun template and one verb template with two places."""
    templates = template_numbers(("a photo of *", "a * {place}"), 2)
    assert templates.tolist() == [0, 1, 1]
    weights = balanced(np.array([[1, 0, 0], [1, 0, 0], [1, 0, 0], [0, 0.75, 0.25]]), templates)
    assert weights[:3, 0] == pytest.approx([4 / 3] * 3) and weights[3] == pytest.approx([0, 3, 1])
    assert weights[:, 0].sum() == pytest.approx(weights[:, 1:].sum())


def test_a_template_that_suits_no_image_gets_no_weight_to_speak_of():
    weights = balanced(np.array([[1 - 1e-6, 1e-6]]), np.array([0, 1]))
    assert weights[0, 1] == pytest.approx(1e-4)
