"""Photos and masks to edit, and what jobs make of them."""

from pathlib import Path

import numpy as np
import pyarrow as pa
from PIL import Image

from aai.media.images import ImageOptions, decode
from aai.tiny.scenes import Scene
from aai.tiny.scenes import render as paint
from tasks.render import RenderPlan, plan_render
from tasks.render_source import RenderSource
from tasks.runtime.run import Run
from tests.bank import jobs_of

SIZES = {"wide.jpg": (200, 120), "tall.png": (90, 300), "turned.jpg": (160, 100)}
"""Across and down as they are stored; the last is turned by its EXIF."""


def scene(place: str, seed: int, size: tuple[int, int] = (64, 64)) -> Image.Image:
    return Image.fromarray(paint([Scene("background", None, place, 0.0, seed)]).pixels[0]).resize(size)


def write_photos(folder: Path) -> Path:
    folder.mkdir(parents=True)
    for number, (name, size) in enumerate(SIZES.items()):
        exif = Image.Exif()
        exif[0x0112] = 6 if name == "turned.jpg" else 1
        scene("city", number, size).save(folder / name, quality=95, exif=exif)
    return folder


def write_mask(path: Path, size: tuple[int, int]) -> None:
    """White in the right third."""
    mask = np.zeros((*size[::-1], 3), np.uint8)
    mask[:, size[0] * 2 // 3 :] = 255
    path.parent.mkdir(exist_ok=True)
    Image.fromarray(mask).save(path)


def seen(data: bytes) -> np.ndarray:
    return decode(data, "", ImageOptions()).pixels


def rejects_of(run: Run) -> list[dict]:
    return run.workspace.table("rejects").read().to_pylist()


def source_rows(run: Run, *jobs) -> pa.Table:
    return pa.concat_tables(RenderSource(run, jobs_of(run, *jobs)).pending().rows)


def ids_of(run: Run, *jobs) -> set[str]:
    return set(source_rows(run, *jobs)["render_id"].to_pylist())


def plan_of(run: Run, jobs) -> RenderPlan:
    return plan_render(run, RenderSource(run, jobs))
