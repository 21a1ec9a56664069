"""The encoder of the images finds the prompts of scenes whose truth is known."""

import numpy as np
import pytest

from aai.errors import BadConfig
from aai.tiny.scenes import Scene, render
from aai.tiny.vocabulary import BACKGROUNDS, PHENOMENA
from tasks.runtime.image_prompts import ImagePrompts, names_places
from tasks.runtime.models import open_images
from tasks.stages import make_config


@pytest.fixture(scope="module")
def scenes() -> list[Scene]:
    pairs = [(name, BACKGROUNDS[number % 5]) for number, name in enumerate(PHENOMENA)]
    nouns = [Scene("noun", name, None, 0.7, seed) for seed, (name, _) in enumerate(pairs)]
    placed = [
        Scene(use, name, place, 0.7, seed) for use in ("verb", "adjective") for seed, (name, place) in enumerate(pairs)
    ]
    return nouns + placed


def test_an_image_is_trained_under_what_it_shows(scenes):
    config = make_config()
    prompts = ImagePrompts(config)
    weights = prompts(open_images(config).embed_images(render(scenes).pixels).numpy())
    assert weights.shape == (30, len(prompts.prompts)) and weights.mean(axis=0).sum() == pytest.approx(6, abs=0.1)
    best = [prompts.prompts[number] for number in weights.argmax(axis=1)]
    is_placed = np.array([any(place in prompt for place in BACKGROUNDS) for prompt in best])
    assert (~is_placed[:10]).mean() >= 0.9 and is_placed[10:].mean() >= 0.9
    right = [scene.background in prompt for scene, prompt in zip(scenes[10:], best[10:], strict=True)]
    assert np.mean(right) >= 0.9


def test_templates_without_places_need_no_encoder():
    assert names_places(make_config())
    assert not names_places(make_config(train_mapper={"templates": ["a photo of *"]}))


def test_a_caption_longer_than_the_encoders_context_stops_with_its_key():
    config = make_config(train_mapper={"templates": ["a * {place} " + "city " * 20]})
    with pytest.raises(BadConfig) as error:
        ImagePrompts(config)(np.eye(2, 128, dtype=np.float32))
    assert error.value.key == "train_mapper.templates"
