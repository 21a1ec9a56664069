"""Ingest: files and tar members become clips and images, named by their contents."""

from collections.abc import Callable, Iterator
from functools import partial
from itertools import groupby
from typing import Any

import pyarrow as pa

from aai.errors import BadItem
from aai.identity import clip_id, content_id, image_id
from aai.media import audio, images, windows
from aai.media.files import read_bytes
from aai.media.options import IngestOptions
from aai.workspace import SCHEMAS
from tasks.runtime.config import Config
from tasks.runtime.stage import Context, Stage
from tasks.runtime.work import Outcome, Reject

_MAX_GAP_BYTES = 2**20
_MAX_RANGE_BYTES = 2**26
"""Neighbouring tar members are read together, up to 64 MB, if the gaps between them are small."""

_UNUSED = "unused"
"""What `read` says of a file besides the columns: sound streams that are not used."""
_SPLIT = "store each as a file of its own to use the others (ffmpeg -map)"

Rows = list[dict[str, Any]]

Read = Callable[[bytes, str], tuple[Rows, dict[str, Any]]]
"""Bytes and the name of their file to rows, and further columns of the file; raises BadItem."""


class Ingester:
    """Opens files and tar members; what cannot be used is rejected with its reason."""

    def __init__(self, files: str, items: str, read: Read) -> None:
        self.files, self.items, self.read = files, items, read

    def __call__(self, rows: pa.Table) -> Outcome:
        """Map a slice, in the order of the tars that it is from."""
        items: list[dict[str, Any]] = []
        files: list[dict[str, Any]] = []
        rejects = []
        for row, data in _contents(rows.to_pylist()):
            try:
                if isinstance(data, BadItem):
                    raise data
                found, about = self.read(data, row["name"])
            except BadItem as error:
                rejects.append(Reject.of(row["file_id"], error, row["name"]))
                continue
            items += found
            if unused := about.pop(_UNUSED, 0):
                others = BadItem(f"it has {unused + 1} sound streams, of which the first is used: {_SPLIT}")
                rejects.append(Reject.of(f"{row['file_id']}/streams", others, row["name"], part_of=row["file_id"]))
            own = {"file_id": row["file_id"], "content_id": content_id(data), "num_items": len(found)}
            files.append(own | about)
        extra = {self.items: pa.Table.from_pylist(items, schema=SCHEMAS[self.items].columns)}
        return Outcome(pa.Table.from_pylist(files, schema=SCHEMAS[self.files].columns), rejects, extra)


def _contents(rows: list[dict[str, Any]]) -> Iterator[tuple[dict[str, Any], bytes | BadItem]]:
    """Rows with the bytes of their items; members that lie side by side in a tar are read in one request."""
    for (uri, _), group in groupby(rows, key=lambda row: (row["uri"], row["offset"] is None)):
        for run in _ranges(list(group)):
            faults = [row for row in run if row["fault"]]
            good = [row for row in run if not row["fault"]]
            yield from ((row, BadItem(row["fault"], uri=row["name"])) for row in faults)
            yield from _read_range(uri, good)


def _read_range(uri: str, rows: list[dict[str, Any]]) -> Iterator[tuple[dict[str, Any], bytes | BadItem]]:
    if not rows:
        return
    first, last = rows[0]["offset"], rows[-1]
    try:
        data = read_bytes(uri) if first is None else read_bytes(uri, first, last["offset"] + last["num_bytes"] - first)
    except BadItem as error:
        yield from ((row, error) for row in rows)
        return
    if first is None:
        yield rows[0], data
        return
    for row in rows:
        start = row["offset"] - first
        yield row, data[start : start + row["num_bytes"]]


def _ranges(rows: list[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    """Rows of one file in runs that are read together."""
    run: list[dict[str, Any]] = []
    for row in rows:
        if run and not _is_next(run, row):
            yield run
            run = []
        run.append(row)
    if run:
        yield run


def _is_next(run: list[dict[str, Any]], row: dict[str, Any]) -> bool:
    if row["offset"] is None or row["fault"] or run[-1]["fault"]:
        return False
    end = run[-1]["offset"] + run[-1]["num_bytes"]
    is_near = 0 <= row["offset"] - end <= _MAX_GAP_BYTES
    return bool(is_near and row["offset"] + row["num_bytes"] - run[0]["offset"] <= _MAX_RANGE_BYTES)


def read_clips(data: bytes, name: str, options: audio.AudioOptions) -> tuple[Rows, dict[str, Any]]:
    """A row of `clips` for each window of a recording that is not silent, and how much of it is left out.

    Raises:
        BadItem: the recording cannot be used, or no window has sound.
    """
    recording = audio.decode(data, name, options)
    wave, rate_hz, digest = audio.to_mono(recording.samples), recording.rate_hz, content_id(data)
    found, left_out = windows.split(wave, rate_hz, options)
    if not found:
        raise BadItem(windows.no_window(wave, rate_hz, options), uri=name)
    unused = {_UNUSED: recording.num_unused} if recording.num_unused else {}
    return [
        {
            "clip_id": clip_id(digest, window.start_s, window.duration_s),
            "content_id": digest,
            "start_s": window.start_s,
            "duration_s": window.duration_s,
            "rate_hz": rate_hz,
            "channels": recording.samples.shape[1],
            "level_dbfs": audio.level_dbfs(windows.cut(wave, rate_hz, window)),
        }
        for window in found
    ], {"duration_s": recording.duration_s} | left_out._asdict() | unused


def read_image(data: bytes, name: str, options: images.ImageOptions) -> tuple[Rows, dict[str, Any]]:
    """The row of `images` of an image file.

    Raises:
        BadItem: it cannot be used.
    """
    decoded = images.decode(data, name, options)
    height, width = decoded.pixels.shape[:2]
    return [{"image_id": image_id(data), "width": width, "height": height, "format": decoded.format}], {}


def _audio(context: Context) -> Ingester:
    return Ingester("audio_files", "clips", partial(read_clips, options=context.options(IngestOptions).audio))


def _images(context: Context) -> Ingester:
    return Ingester("image_files", "images", partial(read_image, options=context.options(IngestOptions).images))


def _audio_settings(config: Config) -> dict[str, Any]:
    return config.options(IngestOptions).audio.settings()


def _image_settings(config: Config) -> dict[str, Any]:
    return config.options(IngestOptions).images.settings()


_ROWS = """
    SELECT file_id, uri, uri AS name, NULL::BIGINT AS "offset", NULL::BIGINT AS num_bytes, fault
    FROM current_{kind}_listing WHERE NOT is_tar
    UNION ALL
    SELECT m.file_id, l.uri, l.uri || '#' || m.name, m."offset", m.num_bytes, m.fault
    FROM {kind}_members m JOIN current_{kind}_listing l ON m.tar_id = l.file_id
"""

IMAGES = Stage(
    name="ingest_images",
    table="image_files",
    also=("images",),
    reads=("image_members", "image_listing"),
    rows=_ROWS.format(kind="image"),
    options=IngestOptions,
    section="ingest",
    settings=_image_settings,
    worker=_images,
    code_version=3,
    label="images",
)
CLIPS = Stage(
    name="ingest_audio",
    table="audio_files",
    also=("clips",),
    reads=("audio_members", "audio_listing"),
    rows=_ROWS.format(kind="audio"),
    options=IngestOptions,
    section="ingest",
    settings=_audio_settings,
    worker=_audio,
    slice_size=64,
    code_version=4,
    label="clips",
)
