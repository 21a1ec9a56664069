"""Stylised scenes: the layout is kept, the colours change with intensity."""

import numpy as np

from aai.tiny.scenes import Scene, background_of, render
from aai.tiny.vocabulary import BACKGROUNDS, PHENOMENA


def test_a_style_keeps_the_layout():
    scenes = [Scene("adjective", p, b, 0.6, n) for p in PHENOMENA for n, b in enumerate(BACKGROUNDS)]
    styled = render(scenes).pixels.mean(axis=-1).reshape(len(scenes), -1)
    plain = render([background_of(scene) for scene in scenes]).pixels.mean(axis=-1).reshape(len(scenes), -1)
    other = np.roll(plain, 1, axis=0)
    kept = [np.corrcoef(a, b)[0, 1] for a, b in zip(styled, plain, strict=True)]
    chance = [np.corrcoef(a, b)[0, 1] for a, b in zip(styled, other, strict=True)]
    assert np.mean(kept) > 0.75
    assert np.mean(kept) > np.mean(chance) + 0.3


def test_styles_differ_and_are_stronger_with_intensity():
    plain = render([Scene("background", None, "field", 0.0, 3)]).pixels[0].astype(float)
    weak, strong = (
        render([Scene("adjective", name, "field", level, 3) for name in PHENOMENA]).pixels.astype(float)
        for level in (0.2, 0.9)
    )
    assert (np.abs(strong - plain).mean(axis=(1, 2, 3)) > np.abs(weak - plain).mean(axis=(1, 2, 3))).all()
    colours = strong.mean(axis=(1, 2))
    assert len(np.unique(colours.round(), axis=0)) == len(PHENOMENA)
