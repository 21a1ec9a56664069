"""Captions and adverbs."""

import numpy as np
import pytest

from aai.tiny.vocabulary import ADVERBS, BACKGROUNDS, PHENOMENA, adverb, caption, words


def test_adverbs_divide_the_intensity_into_fifths():
    assert [adverb(i) for i in (0.0, 0.19, 0.21, 0.5, 0.61, 0.99, 1.0)] == [
        "faint", "faint", "weak", "moderate", "strong", "extreme", "extreme",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("composition", "text"),
    [("noun", "a photo of *"), ("verb", "a * city"), ("adjective", "a city in the style of *")],
)
def test_the_first_template_is_the_default(composition, text):
    assert caption(composition, background="city") == text


def test_the_vocabulary_has_every_word_of_random_captions():
    rng = np.random.default_rng(0)
    captions = [caption("verb", f"{word} {name}", "city", rng) for name in PHENOMENA for word in ADVERBS]
    captions += [caption("background", background=name, rng=rng) for name in BACKGROUNDS]
    assert {word for text in captions for word in text.split()} <= set(words())
    assert len(words()) == len(set(words()))
