"""Rendering of scenes: 64 x 64 images with known ground truth.

Four compositions: a background; a phenomenon (noun); a phenomenon on a background (verb), whose pixels outside the mask
equal the background's; a background in the style of a phenomenon (adjective).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, UInt8

from aai.tiny import vocabulary
from aai.tiny.backgrounds import BACKGROUND_PAINTERS
from aai.tiny.canvas import SIZE_PX, Canvas, Draws
from aai.tiny.phenomena import PHENOMENON_PAINTERS, setting
from aai.tiny.styles import stylise
from aai.tiny.vocabulary import BACKGROUNDS, COMPOSITIONS, PHENOMENA, adverb, tone_word

_MAX_BATCH = 64
"""Scenes painted at once; larger batches do not fit the CPU cache."""


@dataclass(frozen=True)
class Scene:
    """Ground truth of an image.

    Raises:
        ValueError: a name is missing or not in the vocabulary, or the intensity or the tone is not in [0, 1].
    """

    composition: str
    phenomenon: str | None = None
    background: str | None = None
    intensity: float = 0.5
    seed: int = 0
    tone: float = 0.5
    """The phenomenon's colour: red at 0, its own at 0.5, blue at 1."""

    def __post_init__(self) -> None:
        if self.composition not in COMPOSITIONS:
            raise ValueError(f"composition {self.composition!r} is not one of {', '.join(COMPOSITIONS)}")
        is_needed = {"phenomenon": self.composition != "background", "background": self.composition != "noun"}
        for field, known in (("phenomenon", PHENOMENA), ("background", BACKGROUNDS)):
            name = getattr(self, field)
            if is_needed[field] and name not in known:
                raise ValueError(f"a {self.composition} scene needs a {field}, one of {', '.join(known)}; got {name!r}")
            if not is_needed[field] and name is not None:
                raise ValueError(f"a {self.composition} scene has no {field}; got {name!r}")
        if not 0 <= self.intensity <= 1:
            raise ValueError(f"intensity {self.intensity} is not in [0, 1]")
        if not 0 <= self.tone <= 1:
            raise ValueError(f"tone {self.tone} is not in [0, 1]")

    def caption(self, rng: np.random.Generator | None = None) -> str:
        """A random caption; without `rng` the first template of the vocabulary, with the adverb alone."""
        subject = self.phenomenon or ""
        if rng is not None and rng.random() < 0.5:
            subject = f"{tone_word(self.tone)} {subject}"
        if rng is None or rng.random() < 0.6:
            subject = f"{adverb(self.intensity)} {subject}"
        return vocabulary.caption(self.composition, subject, self.background, rng)


@dataclass(frozen=True)
class Pictures:
    """Rendered scenes: RGB pixels, and the mask of the phenomenon."""

    pixels: UInt8[np.ndarray, "scenes height width 3"]
    mask: Bool[np.ndarray, "scenes height width"]


def render(scenes: Sequence[Scene]) -> Pictures:
    """Render scenes; a scene's pixels do not depend on the rest of the batch."""
    pixels = np.empty((len(scenes), SIZE_PX, SIZE_PX, 3), np.uint8)
    mask = np.empty((len(scenes), SIZE_PX, SIZE_PX), bool)
    groups: dict[tuple[str | None, ...], list[int]] = {}
    for i, scene in enumerate(scenes):
        groups.setdefault((scene.composition, scene.phenomenon, scene.background), []).append(i)
    for members in groups.values():
        for start in range(0, len(members), _MAX_BATCH):
            batch = members[start : start + _MAX_BATCH]
            canvas = _paint([scenes[i] for i in batch])
            pixels[batch] = np.round(canvas.pixels * 255).astype(np.uint8)
            mask[batch] = canvas.cover
    return Pictures(pixels, mask)


def _paint(scenes: Sequence[Scene]) -> Canvas:
    """Paint scenes of one composition, phenomenon and background."""
    first = scenes[0]
    draws, canvas = Draws([scene.seed for scene in scenes]), Canvas(len(scenes))
    degrees = np.array([(scene.intensity, scene.tone) for scene in scenes], np.float32)
    intensity, tone = degrees.T[:, :, None, None]
    if first.background is None:
        canvas.lit(tone)
        setting(canvas, draws, str(first.phenomenon))
    else:
        BACKGROUND_PAINTERS[first.background](canvas, draws)
        canvas.lit(tone)
    canvas.reset()
    if first.composition == "adjective":
        stylise(canvas, draws, str(first.phenomenon), intensity)
    elif first.phenomenon is not None:
        PHENOMENON_PAINTERS[first.phenomenon](canvas, draws, intensity)
    return canvas


def sample_scenes(
    num: int, seed: int, shares: tuple[float, float, float, float] = (0.1, 0.3, 0.35, 0.25)
) -> list[Scene]:
    """Sample scenes: compositions with the given probabilities, everything else uniform."""
    rng, tones = np.random.default_rng(seed), np.random.default_rng([seed, 1]).random(num)
    scenes = []
    for seed_of_scene, tone in zip(rng.integers(2**62, size=num), tones, strict=True):
        composition = COMPOSITIONS[rng.choice(len(COMPOSITIONS), p=shares)]
        phenomenon = PHENOMENA[rng.integers(len(PHENOMENA))] if composition != "background" else None
        background = BACKGROUNDS[rng.integers(len(BACKGROUNDS))] if composition != "noun" else None
        intensity = float(rng.random()) if phenomenon else 0.0
        tone = float(tone) if phenomenon else 0.5
        scenes.append(Scene(composition, phenomenon, background, intensity, int(seed_of_scene), tone))
    return scenes


def background_of(scene: Scene) -> Scene:
    """The scene without its phenomenon, same seed: the source image of a verb or adjective scene."""
    return replace(scene, composition="background", phenomenon=None, intensity=0.0, tone=0.5)
