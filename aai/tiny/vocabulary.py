"""Phenomena, backgrounds and compositions of the tiny world, and caption templates."""

from typing import Literal, get_args

import numpy as np

from aai.options import PLACEHOLDER

Phenomenon = Literal[
    "fire", "rain", "snow", "thunder", "waves", "fireworks", "waterfall", "tornado", "helicopter", "clock"
]
Background = Literal["city", "forest", "field", "mountains", "desert"]
Composition = Literal["background", "noun", "verb", "adjective"]

PHENOMENA: tuple[str, ...] = get_args(Phenomenon)
BACKGROUNDS: tuple[str, ...] = get_args(Background)
COMPOSITIONS: tuple[str, ...] = get_args(Composition)

ADVERBS = ("faint", "weak", "moderate", "strong", "extreme")
"""Adverbs for intensities, one per fifth of [0, 1]."""

TONES = ("red", "warm", "plain", "cool", "blue")
"""Words for tones, one per fifth of [0, 1]."""

_TEMPLATES: dict[str, tuple[str, ...]] = {
    "background": ("a {background}", "a photo of a {background}", "a picture of a {background}"),
    "noun": ("a photo of {phenomenon}", "{phenomenon}", "a picture of {phenomenon}"),
    "verb": ("a {phenomenon} {background}", "a photo of a {phenomenon} {background}"),
    "adjective": (
        "a {background} in the style of {phenomenon}",
        "a photo of a {background} in the style of {phenomenon}",
    ),
}


def adverb(intensity: float) -> str:
    """The adverb of an intensity in [0, 1]."""
    return ADVERBS[min(int(intensity * len(ADVERBS)), len(ADVERBS) - 1)]


def tone_word(tone: float) -> str:
    """The word of a tone in [0, 1]."""
    return TONES[min(int(tone * len(TONES)), len(TONES) - 1)]


def caption(
    composition: str, subject: str = PLACEHOLDER, background: str | None = None, rng: np.random.Generator | None = None
) -> str:
    """A caption; `subject` is a phenomenon with or without an adverb and a tone, or the placeholder of a cue.

    Without `rng` it uses the first template: "a photo of *", "a * city", "a city in the style of *".
    """
    templates = _TEMPLATES[composition]
    template = templates[0] if rng is None else templates[rng.integers(len(templates))]
    return template.format(phenomenon=subject, background=background)


def words() -> list[str]:
    """All words of captions, without duplicates."""
    text = " ".join(template for group in _TEMPLATES.values() for template in group)
    text = text.replace("{phenomenon}", "").replace("{background}", "")
    return list(dict.fromkeys([*text.split(), *PHENOMENA, *BACKGROUNDS, *ADVERBS, *TONES, PLACEHOLDER]))
