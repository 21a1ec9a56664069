"""A contact sheet: the weakest and the strongest clip of each label, with retrieved image and pictures."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from aai.media import audio, images, windows
from aai.media.files import read_content
from aai.media.options import IngestOptions
from aai.tiny.canvas import SIZE_PX
from aai.tiny.sheets import contact_sheet, spectrogram
from aai.tiny.sounds import SAMPLE_RATE_HZ
from aai.workspace.shards import read_picture
from tasks.runtime.run import Run
from tasks.views.lookup import look_up
from tasks.views.results import intensity_of

_LOCATION = ("uri", "offset", "num_bytes")
_QUALITY = 80

Row = dict[str, Any]
Picture = UInt8[np.ndarray, "height width 3"]

_NOTHING = np.full((SIZE_PX, SIZE_PX, 3), 255, np.uint8)


def sheet(run: Run, path: Path, jobs: Sequence[str]) -> None:
    """Write a contact sheet: per clip its spectrogram, its best neighbour, and one picture per job.

    The metadata must have the clips' labels and intensities.

    Raises:
        BadItem: a source file no longer exists.
        Transient: the store failed.
    """
    clips = _extremes(run)
    rows = [[picture for clip in pair for picture in _pictures(run, clip, jobs)] for pair in clips.values()]
    columns = ["sound", "retrieved", *jobs]
    labels = [
        f"{column}, {level}" if column == "sound" else column for level in ("weak", "strong") for column in columns
    ]
    contact_sheet(rows, list(clips), labels).save(path, quality=_QUALITY, method=6)


def _extremes(run: Run) -> dict[str, list[Row]]:
    """The weakest and the strongest clip of each label."""
    with run.query() as query:
        rows = query.table("SELECT * FROM present_clips").to_pylist()
    by_label: dict[str, list[Row]] = {}
    for row in sorted(rows, key=lambda row: intensity_of(row["attributes"])):
        by_label.setdefault(row["label"], []).append(row)
    return {label: [clips[0], clips[-1]] for label, clips in sorted(by_label.items())}


def _pictures(run: Run, clip: Row, jobs: Sequence[str]) -> Iterator[Picture]:
    """The spectrogram of a clip, its best neighbour, and its first picture of each job."""
    yield spectrogram(_wave(run, clip))
    [neighbours] = look_up(run, "neighbours", [clip["clip_id"]], ["image_ids"])
    [image] = look_up(run, "present_images", neighbours["image_ids"][:1], _LOCATION, key="image_id")
    yield _decoded(read_content(*(image[name] for name in (*_LOCATION, "image_id"))), image["uri"])
    for row in _renders(run, clip, jobs):
        yield _decoded(read_picture(run.workspace, row), row["shard"]) if row else _NOTHING


def _renders(run: Run, clip: Row, jobs: Sequence[str]) -> list[Row | None]:
    """The first picture of each job; None if the job has none of the clip."""
    with run.query() as query:
        rows = query.table(f"SELECT * FROM renders WHERE clip_ids[1] = '{clip['clip_id']}' ORDER BY seed").to_pylist()
    return [next((row for row in rows if row["job"] == job), None) for job in jobs]


def _wave(run: Run, clip: Row) -> np.ndarray:
    data = read_content(*(clip[name] for name in (*_LOCATION, "content_id")))
    window = windows.Window(clip["start_s"], clip["duration_s"])
    wave, rate_hz = windows.decode_window(data, clip["uri"], window, run.config.options(IngestOptions).audio)
    return audio.resample(wave, rate_hz, SAMPLE_RATE_HZ)


def _decoded(data: bytes, uri: str) -> Picture:
    pixels: Picture = images.decode(data, uri, images.RENDERED).pixels
    return np.asarray(Image.fromarray(pixels).resize((SIZE_PX, SIZE_PX), Image.Resampling.BOX))
