"""Training prompts of images: what an image shows besides the sound is named, so that the cue need not express it.

An image-text encoder compares an image with captions: templates with a sound and a place in them. The image is then
trained under the likely ones, with the cue in place of the sound. Otherwise the background of a clip's images becomes a
part of its cue, which then overrides the place in a prompt.
"""

import re
from collections.abc import Sequence
from functools import cache
from importlib.resources import files

import numpy as np
from jaxtyping import Float, Float32, Int64

from aai.cues.options import PLACE
from aai.options import PLACEHOLDER

_TEMPERATURE = 0.01
"""Softmax temperature over cosines: CLIP's own, whose logit scale is 100."""

_MIN_SHARE = 0.01
"""A template that suits fewer images is trained less than others: it would be on a few images alone."""

_TWO_ARTICLES = re.compile(r"\ban? (an?|the) ")


@cache
def everyday_places() -> tuple[str, ...]:
    """Some 60 places, as "forest": each fits after "a photo of a"."""
    return tuple((files("aai.cues") / "everyday_places.txt").read_text().splitlines())


def with_places(templates: Sequence[str], places: Sequence[str]) -> tuple[str, ...]:
    """The prompts: each template with a place, once for each of the places; others as they are."""
    return tuple(
        template.replace(PLACE, place) for template in templates for place in (places if PLACE in template else [""])
    )


def template_numbers(templates: Sequence[str], num_places: int) -> Int64[np.ndarray, " prompts"]:
    """The number of each prompt's template, in the order of `with_places`."""
    return np.repeat(np.arange(len(templates)), [num_places if PLACE in template else 1 for template in templates])


def captions_of(prompts: Sequence[str], sound: str) -> list[str]:
    """The prompts with a sound, as "a barking dog", in place of the cue."""
    return [_TWO_ARTICLES.sub(r"\1 ", prompt.replace(PLACEHOLDER, sound)) for prompt in prompts]


def likeliest(
    images: Float32[np.ndarray, "images dim"], texts: Float32[np.ndarray, "texts dim"]
) -> Int64[np.ndarray, " images"]:
    """The text nearest to each image; both are unit vectors."""
    return (images @ texts.T).argmax(axis=1)


def chances_of(scores: Float32[np.ndarray, "images prompts"]) -> Float[np.ndarray, "images prompts"]:
    """The probability of each prompt for each image, from the cosines of images and captions."""
    logits = scores / _TEMPERATURE
    chances = np.exp(logits - logits.max(axis=1, keepdims=True))
    normalised: np.ndarray = chances / chances.sum(axis=1, keepdims=True)
    return normalised


def balanced(
    chances: Float[np.ndarray, "images prompts"], templates: Int64[np.ndarray, " prompts"]
) -> Float[np.ndarray, "images prompts"]:
    """The chances divided by how often their template is the likely one, so that all templates are trained as often.

    Most images that are retrieved for sounds show the sound alone: without this a cue is hardly trained as a verb. Rows
    no longer sum to 1: images of a rare template have more weight. `templates` has each prompt's template.
    """
    shares = np.bincount(templates, chances.mean(axis=0))
    weighted: np.ndarray = chances / np.maximum(shares, _MIN_SHARE)[templates]
    return weighted
