"""A workspace in one picture: of each label its weakest and its strongest clip, and what became of them."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc
from jaxtyping import UInt8
from PIL import Image

from aai.media import audio, images
from aai.media.files import read_bytes
from aai.tiny.canvas import SIZE_PX
from aai.tiny.sheets import contact_sheet, spectrogram
from aai.tiny.sounds import SAMPLE_RATE_HZ
from aai.workspace.shards import read_picture
from tasks.runtime.run import Run
from tasks.runtime.tables import look_up
from tasks.views.results import intensity_of

_PLACE = ("uri", "offset", "num_bytes")
_QUALITY = 80

Row = dict[str, Any]
Picture = UInt8[np.ndarray, "height width 3"]

_NOTHING = np.full((SIZE_PX, SIZE_PX, 3), 255, np.uint8)


def sheet(run: Run, path: Path, jobs: Sequence[str]) -> None:
    """Write a contact sheet: spectrogram, best neighbour and one picture per job, of clips whose intensity is known.

    Raises:
        BadItem: a file of the collection is gone.
        Transient: the store failed.
    """
    clips = _extremes(run)
    rows = [[picture for clip in pair for picture in _became(run, clip, jobs)] for pair in clips.values()]
    columns = ["sound", "retrieved", *jobs]
    labels = [
        f"{column}, {level}" if column == "sound" else column for level in ("weak", "strong") for column in columns
    ]
    contact_sheet(rows, list(clips), labels).save(path, quality=_QUALITY, method=6)


def _extremes(run: Run) -> dict[str, list[Row]]:
    """Of each label the rows of its weakest and its strongest clip."""
    columns = ("clip_id", "label", "attributes", "start_s", "duration_s", *_PLACE)
    rows = run.workspace.table("clips").read(columns, run.recipe("clips")).to_pylist()
    by_label: dict[str, list[Row]] = {}
    for row in sorted(rows, key=lambda row: intensity_of(row["attributes"])):
        by_label.setdefault(row["label"], []).append(row)
    return {label: [some[0], some[-1]] for label, some in sorted(by_label.items())}


def _became(run: Run, clip: Row, jobs: Sequence[str]) -> Iterator[Picture]:
    """The sound of a clip, its best neighbour, and its first picture of each job."""
    yield spectrogram(_heard(run, clip))
    [near] = _rows(run, "neighbours", [clip["clip_id"]], ["image_ids"])
    [image] = _rows(run, "images", near["image_ids"][:1], _PLACE)
    yield _seen(read_bytes(*(image[name] for name in _PLACE)), image["uri"])
    for row in _renders(run, clip, jobs):
        yield _seen(read_picture(run.workspace, row), row["shard"]) if row else _NOTHING


def _rows(run: Run, table: str, ids: Sequence[str], columns: Sequence[str]) -> list[Row]:
    return look_up(run.workspace, table, run.recipe(table), ids, columns).to_pylist()


def _renders(run: Run, clip: Row, jobs: Sequence[str]) -> list[Row | None]:
    """The first picture of each job; none where the job left the clip out."""
    columns = ["job", "seed", "shard", "key", "offset", "num_bytes", "checksum"]
    of_clip = pc.list_element(pc.field("clip_ids"), 0) == clip["clip_id"]
    rows = run.workspace.table("renders").read(columns, run.recipe("renders"), of_clip).sort_by("seed").to_pylist()
    return [next((row for row in rows if row["job"] == job), None) for job in jobs]


def _heard(run: Run, clip: Row) -> np.ndarray:
    data, window = read_bytes(*(clip[name] for name in _PLACE)), audio.Window(clip["start_s"], clip["duration_s"])
    wave, rate_hz = audio.decode_window(data, clip["uri"], window, run.config.ingest.audio)
    return audio.resample(wave, rate_hz, SAMPLE_RATE_HZ)


def _seen(data: bytes, uri: str) -> Picture:
    pixels: Picture = images.decode(data, uri, images.RENDERED).pixels
    return np.asarray(Image.fromarray(pixels).resize((SIZE_PX, SIZE_PX), Image.Resampling.BOX))
