"""The judge: an independent classifier of phenomenon, background, composition, intensity and tone in images.

It is independent of the models under evaluation: another architecture (a plain CNN), other scenes and seeds for
training. `python -m aai.tiny.judge picture.png` prints its predictions.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from PIL import Image, UnidentifiedImageError
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from aai.pretrained import PretrainedModule
from aai.tiny.canvas import SIZE_PX
from aai.tiny.vocabulary import BACKGROUNDS, COMPOSITIONS, PHENOMENA

WEIGHTS = Path(__file__).parent / "weights" / "judge"
NUM_LEVELS = 21
"""Number of classes of intensity and of tone, evenly spaced from 0 to 1."""

_MAX_BATCH = 256


@dataclass(frozen=True)
class Verdict:
    """The judge's prediction for one image, with confidences in [0, 1].

    `phenomenon` and `background` are None if the composition has none; without a phenomenon `intensity` and `tone` are
    None. The confidence of these is the probability of an error of at most 0.1.
    """

    composition: str
    phenomenon: str | None
    background: str | None
    intensity: float | None
    tone: float | None
    confidence: dict[str, float]


@dataclass(frozen=True)
class Reading:
    """The judge's probabilities for a batch of images; the last phenomenon and the last background are "none"."""

    composition: Float[Tensor, "pictures compositions"]
    phenomenon: Float[Tensor, "pictures phenomena_or_none"]
    background: Float[Tensor, "pictures backgrounds_or_none"]
    intensity: Float[Tensor, "pictures levels"]
    tone: Float[Tensor, "pictures levels"]

    def mean_intensity(self) -> Float[Tensor, " pictures"]:
        """Expected intensity in [0, 1]."""
        return self.intensity @ torch.linspace(0, 1, NUM_LEVELS)

    def mean_tone(self) -> Float[Tensor, " pictures"]:
        """Expected tone in [0, 1]."""
        return self.tone @ torch.linspace(0, 1, NUM_LEVELS)


def _block(inputs: int, outputs: int, stride: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)
    )


class Judge(PretrainedModule):
    """A small CNN with five heads; 64 x 64 images in [-1, 1]."""

    def __init__(self, width: int = 24) -> None:
        super().__init__()
        self.features = nn.Sequential(
            _block(3, width, 2),
            _block(width, 2 * width, 1),
            _block(2 * width, 2 * width, 2),
            _block(2 * width, 4 * width, 1),
            _block(4 * width, 4 * width, 2),
            _block(4 * width, 6 * width, 1),
            nn.AdaptiveAvgPool2d(4),
            nn.Flatten(),
            nn.Linear(6 * width * 16, 192),
            nn.ReLU(inplace=True),
        )
        sizes = [len(COMPOSITIONS), len(PHENOMENA) + 1, len(BACKGROUNDS) + 1, NUM_LEVELS, NUM_LEVELS]
        self.heads = nn.ModuleList(nn.Linear(192, size) for size in sizes)

    def forward(self, pictures: Float[Tensor, "pictures 3 64 64"]) -> list[Tensor]:
        """Logits of composition, phenomenon, background, intensity and tone."""
        features = self.features(pictures)
        return [head(features) for head in self.heads]

    @torch.inference_mode()
    def read(self, pixels: UInt8[np.ndarray, "pictures 64 64 3"]) -> Reading:
        """Class probabilities of RGB images."""
        parts = []
        for start in range(0, len(pixels), _MAX_BATCH):
            batch = torch.from_numpy(np.ascontiguousarray(pixels[start : start + _MAX_BATCH]))
            logits = self(batch.permute(0, 3, 1, 2).float().div(127.5).sub(1))
            parts.append([F.softmax(values, dim=-1) for values in logits])
        return Reading(*(torch.cat(values) for values in zip(*parts, strict=True)))


@cache
def load_judge() -> Judge:
    """The shipped judge."""
    return Judge.load(WEIGHTS)


def verdicts(reading: Reading) -> list[Verdict]:
    """Most likely classes of each image, consistent with its composition (a noun has no background)."""
    verdicts = []
    levels = torch.linspace(0, 1, NUM_LEVELS)
    for i in range(len(reading.composition)):
        composition = COMPOSITIONS[int(reading.composition[i].argmax())]
        confidence = {"composition": float(reading.composition[i].max())}
        names: dict[str, str | None] = {"phenomenon": None, "background": None}
        for field, known, absent in (("phenomenon", PHENOMENA, "background"), ("background", BACKGROUNDS, "noun")):
            chances = getattr(reading, field)[i]
            best = int(chances[:-1].argmax())
            names[field] = None if composition == absent else known[best]
            confidence[field] = float(chances[-1] if composition == absent else chances[best])
        degrees: dict[str, float | None] = {"intensity": None, "tone": None}
        if names["phenomenon"]:
            for field in degrees:
                chances = getattr(reading, field)[i]
                degrees[field] = mean = float(chances @ levels)
                confidence[field] = float(chances[(levels - mean).abs() <= 0.1].sum())
        verdicts.append(
            Verdict(
                composition, names["phenomenon"], names["background"], degrees["intensity"], degrees["tone"], confidence
            )
        )
    return verdicts


def judge_files(paths: Sequence[Path]) -> list[Verdict]:
    """Predictions for image files of any size; they are resized to 64 x 64.

    Raises:
        ValueError: a file is missing or not an image; the message names it.
    """
    pixels = []
    for path in paths:
        try:
            with Image.open(path) as picture:
                pixels.append(np.asarray(picture.convert("RGB").resize((SIZE_PX, SIZE_PX), Image.Resampling.BOX)))
        except FileNotFoundError as error:
            raise ValueError(f"{path}: no such file") from error
        except (UnidentifiedImageError, OSError) as error:
            raise ValueError(f"{path}: not an image that Pillow can read ({error})") from error
    return verdicts(load_judge().read(np.stack(pixels)))


def main() -> None:
    """Print the predictions for image files."""
    parser = argparse.ArgumentParser(
        description=str(__doc__).splitlines()[0], epilog="example: python -m aai.tiny.judge picture.png"
    )
    parser.add_argument("pictures", nargs="+", type=Path, help="image files of any size and format")
    paths = parser.parse_args().pictures
    try:
        predictions = judge_files(paths)
    except ValueError as error:
        sys.exit(f"judge: {error}")
    table = Table("picture", "composition", "phenomenon", "intensity", "tone", "background")
    for path, verdict in zip(paths, predictions, strict=True):
        confidence = verdict.confidence
        degrees = [
            "-" if value is None else f"{value:.2f} ({confidence[field]:.0%})"
            for field, value in (("intensity", verdict.intensity), ("tone", verdict.tone))
        ]
        table.add_row(
            path.name,
            f"{verdict.composition} ({confidence['composition']:.0%})",
            f"{verdict.phenomenon or '-'} ({confidence['phenomenon']:.0%})",
            *degrees,
            f"{verdict.background or '-'} ({confidence['background']:.0%})",
        )
    Console().print(table)


if __name__ == "__main__":
    main()
