"""Ingest: files become clips and images, named by their contents."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict
from functools import partial
from typing import Any

import pyarrow as pa

from aai.errors import BadItem
from aai.identity import clip_id, content_id, image_id
from aai.media import audio, images
from aai.media.files import (
    AUDIO_SUFFIXES,
    IMAGE_SUFFIXES,
    Described,
    File,
    described_by,
    find_files,
    load_descriptions,
    members,
    read_bytes,
)
from aai.workspace import SCHEMAS
from tasks.runtime.driver import StageSummary
from tasks.runtime.run import Run
from tasks.runtime.work import Outcome, Reject

_DESCRIBED = ("label", "caption", "licence", "attributes")
_FILE_COLUMNS = pa.schema(
    [("file_id", pa.string()), ("uri", pa.string()), ("num_bytes", pa.int64())]
    + [("is_tar", pa.bool_()), ("fault", pa.string())]
    + [(name, pa.string()) for name in _DESCRIBED]
)

Read = Callable[[bytes, dict[str, Any]], list[dict[str, Any]]]
"""Bytes, and what is known of them, to rows; raises BadItem."""


def ingest_audio(run: Run) -> StageSummary:
    """Take in every recording that is new or changed."""
    worker = partial(IngestWorker, "clips", AUDIO_SUFFIXES, partial(read_clips, options=run.config.ingest.audio))
    return run.drive("clips", audio_source(run), worker, sink="files")


def ingest_images(run: Run) -> StageSummary:
    """Take in every picture that is new or changed."""
    worker = partial(IngestWorker, "images", IMAGE_SUFFIXES, partial(read_image, options=run.config.ingest.images))
    return run.drive("images", image_source(run), worker, sink="files")


class FileSource:
    """The files that a configuration names, and what its tables say of them; listed once."""

    def __init__(self, key: str, places: tuple[str, ...], suffixes: frozenset[str], metadata: tuple[str, ...]) -> None:
        self._files = {file.file_id: file for file in find_files(key, places, suffixes)}
        self._metadata = metadata

    def ids(self) -> pa.ChunkedArray:
        """The ids of all files."""
        return pa.chunked_array([list(self._files)], pa.string())

    def rows(self, ids: pa.ChunkedArray) -> Iterable[pa.Table]:
        """What workers need of some of them."""
        said = load_descriptions(self._metadata)
        yield pa.Table.from_pylist([_file_row(self._files[each], said) for each in ids.to_pylist()], _FILE_COLUMNS)


def audio_source(run: Run) -> FileSource:
    """All recordings.

    Raises:
        BadConfig: a place does not exist or holds none.
    """
    return FileSource("audio", run.config.audio, AUDIO_SUFFIXES, run.config.metadata)


def image_source(run: Run) -> FileSource:
    """All pictures.

    Raises:
        BadConfig: a place does not exist or holds none.
    """
    return FileSource("images", run.config.images, IMAGE_SUFFIXES, run.config.metadata)


class IngestWorker:
    """Opens files, and tars member by member; what cannot be used is rejected with a sentence."""

    def __init__(self, table: str, suffixes: frozenset[str], read: Read) -> None:
        self.table, self.suffixes, self.read = table, suffixes, read

    def __call__(self, rows: pa.Table) -> Outcome:
        """Map a slice."""
        made: list[dict[str, Any]] = []
        done, rejects, num_parts = [], [], 0
        for file in rows.to_pylist():
            try:
                found, bad = self._open(file)
            except BadItem as error:
                rejects.append(Reject.of(file["file_id"], error, file["uri"]))
                continue
            made += found
            rejects += bad
            num_parts += len(found) + len(bad) if file["is_tar"] else 0
            done.append({name: file[name] for name in ("file_id", "uri", "num_bytes")} | {"num_items": len(found)})
        others = {self.table: pa.Table.from_pylist(made, schema=SCHEMAS[self.table].columns)}
        return Outcome(pa.Table.from_pylist(done, schema=SCHEMAS["files"].columns), rejects, others, num_parts)

    def _open(self, file: dict[str, Any]) -> tuple[list[dict[str, Any]], list[Reject]]:
        """The rows of a file, and the rejects among its members.

        Raises:
            BadItem: nothing in it can be used.
        """
        if file["fault"]:
            raise BadItem(f"{file['uri']}: {file['fault']}")
        if not file["is_tar"]:
            known = file | {"offset": None, "num_bytes": None}
            return self.read(read_bytes(file["uri"]), known), []
        found, rejects = [], []
        for number, (name, part) in enumerate(self._parts(file)):
            try:
                found += part()
            except BadItem as error:
                part_id = content_id(f"{file['file_id']} {number}".encode())
                rejects.append(Reject.of(part_id, error, f"{file['uri']}#{name}"))
        return found, rejects

    def _parts(self, file: dict[str, Any]) -> Iterator[tuple[str, Callable[[], list[dict[str, Any]]]]]:
        """The name of each member of a tar, and what reads it."""
        uri = file["uri"]
        for member in members(uri, self.suffixes):
            if isinstance(member, tuple):
                yield member[0], partial(_raise, member[1])
                continue
            known = {"uri": uri, "offset": member.offset, "num_bytes": member.num_bytes} | asdict(member.described)
            yield member.name, partial(self._read_member, known, f"{uri}#{member.name}")

    def _read_member(self, known: dict[str, Any], name: str) -> list[dict[str, Any]]:
        return self.read(read_bytes(known["uri"], known["offset"], known["num_bytes"]), known | {"name": name})


def read_clips(data: bytes, known: dict[str, Any], options: audio.AudioOptions) -> list[dict[str, Any]]:
    """A row of `clips` for each window of a recording in which something is heard.

    Raises:
        BadItem: it cannot be used, or is silent throughout.
    """
    name = known.get("name", known["uri"])
    recording = audio.decode(data, name, options)
    wave, rate_hz, file_id = audio.to_mono(recording.samples), recording.rate_hz, content_id(data)
    found = audio.windows(wave, rate_hz, options)
    if not found:
        raise BadItem(f"{name}: nothing is heard in it but in a last window shorter than min_window_s: lower that")
    common = _common(known) | {"rate_hz": rate_hz, "channels": recording.samples.shape[1]}
    return [
        common
        | {
            "clip_id": clip_id(file_id, window.start_s, window.duration_s),
            "start_s": window.start_s,
            "duration_s": window.duration_s,
            "level_dbfs": audio.level_dbfs(audio.cut(wave, rate_hz, window)),
        }
        for window in found
    ]


def read_image(data: bytes, known: dict[str, Any], options: images.ImageOptions) -> list[dict[str, Any]]:
    """The row of `images` of a picture.

    Raises:
        BadItem: it cannot be used.
    """
    decoded = images.decode(data, known.get("name", known["uri"]), options)
    height, width = decoded.pixels.shape[:2]
    made = {"image_id": image_id(data), "width": width, "height": height, "format": images.format_of(data)}
    return [_common(known) | made]


def _common(known: dict[str, Any]) -> dict[str, Any]:
    return {name: known[name] for name in ("uri", "offset", "num_bytes", *_DESCRIBED)}


def _file_row(file: File, said: dict[str, Described]) -> dict[str, Any]:
    known = {"file_id": file.file_id, "uri": file.uri, "num_bytes": file.num_bytes}
    known |= {"is_tar": file.is_tar, "fault": file.fault}
    return known | asdict(described_by(said, file.uri))


def _raise(error: BadItem) -> list[dict[str, Any]]:
    raise error
