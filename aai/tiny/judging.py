"""The tiny world's judge as scores of pictures; it has no opinion about names that it does not know."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image

from aai.metrics import JUDGE_BACKGROUND, JUDGE_INTENSITY, JUDGE_PHENOMENON, JUDGE_TONE
from aai.tiny.canvas import SIZE_PX
from aai.tiny.judge import Judge
from aai.tiny.vocabulary import BACKGROUNDS, PHENOMENA

Scores = Float[np.ndarray, " pictures"]


class TinyJudge:
    """Compares what pictures show with the clips' labels and with the background that the prompt names."""

    def __init__(self, folder: str) -> None:
        self.judge = Judge.load(folder)

    def __call__(
        self,
        pictures: Sequence[UInt8[np.ndarray, "_ _ 3"]],
        prompts: Sequence[str],
        labels: Sequence[Sequence[str | None]],
    ) -> dict[str, Scores]:
        """Whether phenomenon and background are those asked for, how strong the phenomenon is, and of what tone."""
        reading = self.judge.read(np.stack([_resized(picture) for picture in pictures]))
        phenomena, backgrounds = reading.phenomenon.argmax(dim=1).tolist(), reading.background.argmax(dim=1).tolist()
        return {
            JUDGE_PHENOMENON: _hits(phenomena, [_phenomenon(names) for names in labels]),
            JUDGE_INTENSITY: reading.mean_intensity().numpy().astype(float),
            JUDGE_TONE: reading.mean_tone().numpy().astype(float),
            JUDGE_BACKGROUND: _hits(backgrounds, [_background(prompt) for prompt in prompts]),
        }


def _phenomenon(labels: Sequence[str | None]) -> int | None:
    """The phenomenon that all of a picture's clips have as their label, if the judge knows it."""
    names = {label.strip().lower() if label else None for label in labels}
    name = names.pop() if len(names) == 1 else None
    return PHENOMENA.index(name) if name in PHENOMENA else None


def _background(prompt: str) -> int | None:
    """The one background that a prompt names, if the judge knows it."""
    words = set(prompt.lower().replace(",", " ").split())
    named = [number for number, name in enumerate(BACKGROUNDS) if name in words]
    return named[0] if len(named) == 1 else None


def _resized(picture: UInt8[np.ndarray, "height width 3"]) -> UInt8[np.ndarray, "64 64 3"]:
    return np.asarray(Image.fromarray(picture).resize((SIZE_PX, SIZE_PX), Image.Resampling.BOX))


def _hits(found: list[int], wanted: list[int | None]) -> Scores:
    """1 where the judge found what was wanted, 0 where not, NaN where nothing was wanted."""
    return np.array([np.nan if b is None else float(a == b) for a, b in zip(found, wanted, strict=True)])
