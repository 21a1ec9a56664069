"""The folder that a comparison writes: results.json, results.md, index.html, cells.parquet and pictures."""

import io
import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from aai.errors import BadConfig, BadItem
from aai.media import images
from aai.media.files import read_content
from aai.media.options import IngestOptions
from aai.metrics import METRICS
from aai.workspace.shards import read_next, read_picture
from aai.workspace.store import write_whole
from tasks.evaluate.cells import Cell, Location
from tasks.evaluate.figures import SECONDS, Figure, Sample
from tasks.evaluate.folder import alone_in
from tasks.evaluate.named_files import are_there, files_in, names_in, names_of, remove
from tasks.evaluate.options import ComparisonOptions
from tasks.evaluate.sounds import SOUNDS, write_sounds
from tasks.evaluate.tables import markdown, plain
from tasks.pictures import MASK
from tasks.runtime.run import Run

JSON, MARKDOWN, PAGE, CELLS = "results.json", "results.md", "index.html", "cells.parquet"
PICTURES, SOURCES, MASKS = "pictures", "sources", "masks"
FOLDERS = (PICTURES, SOURCES, MASKS, SOUNDS)
OURS = {JSON: b'"mark"', MARKDOWN: b"# Comparison of ", PAGE: b"<title>AAI comparison", CELLS: b"clip_uri"}
"""What the files of a comparison have in them."""

_QUALITY = 90


@dataclass(frozen=True)
class Results:
    """Everything that is written."""

    options: ComparisonOptions
    sample: Sample
    figures: list[Figure]
    seconds: Mapping[str, Mapping[str, float]]
    """Of each clip's cue, by method."""
    notes: list[str]

    @property
    def mean_seconds(self) -> dict[str, float]:
        """Mean time per clip, by method."""
        return {name: sum(own.values()) / len(own) for name, own in self.seconds.items() if own}


@dataclass(frozen=True)
class Comparison:
    """A comparison as it stands in its folder."""

    folder: Path
    is_new: bool
    """Whether this call has written it."""
    methods: list[str]
    reference: str
    figures: list[Figure]
    seconds: dict[str, float]
    notes: list[str]
    num_clips: int = 0


def stored(folder: Path, mark: str) -> Comparison | None:
    """The comparison in a folder, if everything that it depends on is as it was."""
    try:
        found = json.loads((folder / JSON).read_bytes())
    except (OSError, ValueError):
        return None
    if not isinstance(found, dict) or found.get("mark") != mark:
        return None
    names = names_of(folder / CELLS)
    if names is None or not are_there(folder, names) or not {MARKDOWN, PAGE} <= files_in(folder):
        return None
    try:
        figures = [Figure(**{name: _number(name, value) for name, value in row.items()}) for row in found["figures"]]
        methods = [method["name"] for method in found["methods"]]
        seconds = {method["name"]: method["seconds_per_clip"] for method in found["methods"]}
        return Comparison(
            folder, False, methods, found["reference"], figures, seconds, found["notes"], found["num_clips"]
        )
    except (KeyError, TypeError, AttributeError):  # somebody has changed it
        return None


def write(results: Results, run: Run, clips: pa.Table, cells: Sequence[Cell], mark: str) -> Comparison:
    """Write the folder; results.json comes last, and so marks a complete one.

    Raises:
        BadConfig: it cannot be written to.
        Transient: the store failed.
    """
    folder = Path(results.options.output)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with alone_in(folder):
            _write_files(folder, results, run, clips, cells, mark)
    except OSError as error:
        raise BadConfig(f"it cannot be written to ({error.strerror})", key="output", uri=str(folder)) from error
    seconds, methods = results.mean_seconds, list(results.sample.methods)
    reference, num_clips = results.options.compared_with, len(results.sample.clip_ids)
    return Comparison(folder, True, methods, reference, results.figures, seconds, results.notes, num_clips)


def _write_files(  # noqa: PLR0913
    folder: Path, results: Results, run: Run, clips: pa.Table, cells: Sequence[Cell], mark: str
) -> None:
    from tasks.evaluate.page import comparison_html  # it decodes sounds

    write_whole(folder / JSON, b'{"mark": null}\n')  # the folder is ours from here on, and not complete
    table, faults = _cells_table(results, clips, cells), list[str]()
    for name, values in _written(folder, run, clips, cells, faults).items():
        table = table.append_column(name, pa.array(values, pa.string()))
    results.notes.extend(
        f"{num:,} files cannot be read: {fault}; the next call tries again" for fault, num in Counter(faults).items()
    )
    remove(folder, (names_of(folder / CELLS) or set()) - names_in(table))  # of an earlier comparison
    buffer = io.BytesIO()
    pq.write_table(table, buffer)
    write_whole(folder / CELLS, buffer.getvalue())
    write_whole(folder / MARKDOWN, _markdown(results).encode())
    write_whole(folder / PAGE, comparison_html(results, run, clips, cells).encode())
    described = _as_json(results, run, None if faults else mark)
    write_whole(folder / JSON, (json.dumps(described, indent=1) + "\n").encode())


def _markdown(results: Results) -> str:
    sample, reference = results.sample, results.options.compared_with
    title = f"# Comparison of {len(sample.methods)} methods on {len(sample.clip_ids):,} clips\n\n"
    tables = markdown(results.figures, list(sample.methods), reference, list(sample.prompts), results.notes)
    methods = [f"- **{plain(method.name)}**: {plain(method.description)}" for method in results.options.methods]
    return title + _seconds_line(results) + tables + "\n".join(["", "## The methods", "", *methods, ""])


def picture_bytes(run: Run, location: Mapping[str, Any]) -> bytes:
    """A picture's file, in the format that `_format` says.

    Raises:
        BadItem: it cannot be read.
        Transient: the store failed.
    """
    if "shard" in location:
        return read_picture(run.workspace, location)
    data = read_content(location["uri"], location["offset"], location["num_bytes"], location["content_id"])
    pixels = images.decode(data, location["uri"], run.config.options(IngestOptions).images).pixels
    return images.encode(pixels, "webp", _QUALITY)


def _format(location: Mapping[str, Any]) -> str:
    """The extension of a picture's file: images of the collection become WebP."""
    return str(location["format"]) if "shard" in location else "webp"


def _written(
    folder: Path, run: Run, clips: pa.Table, cells: Sequence[Cell], faults: list[str]
) -> dict[str, list[str | None]]:
    """Write the files of all cells that are not there; columns with their paths relative to the folder.

    What cannot be read has no path, and its fault is added to the others.
    """
    pictures = {cell.picture_id: cell.location for cell in cells if cell.location}
    sources = {cell.source.id: cell.source.location for cell in cells if cell.source and cell.source.location}
    edits = {cell.picture_id: cell.location for cell in cells if cell.location and cell.is_edit}
    images = _write(folder, PICTURES, pictures, lambda location: picture_bytes(run, location), faults)
    of_source = _write(folder, SOURCES, sources, lambda location: picture_bytes(run, location), faults)
    masks = _write(folder, MASKS, edits, lambda location: read_next(run.workspace, location, MASK), faults)
    sounds = write_sounds(folder, run, clips.to_pylist(), faults)
    return {
        "image": [images.get(cell.picture_id) if cell.location else None for cell in cells],
        "source": [of_source.get(cell.source.id) if cell.source else None for cell in cells],
        "mask": [masks.get(cell.picture_id) for cell in cells],
        "sound": [sounds.get(cell.clip_id) for cell in cells],
    }


def _write(
    folder: Path,
    name: str,
    known: Mapping[str, Location],
    read: Callable[[Location], bytes | None],
    faults: list[str],
) -> dict[str, str]:
    """Write the files that are not there into a folder of this name; the paths of those that can be read, by id."""
    if not known:
        return {}
    (folder / name).mkdir(exist_ok=True)
    there = files_in(folder / name)

    def put(key: str) -> str | None:
        file = f"{key}.{'png' if name == MASKS else _format(known[key])}"
        if file in there:
            return f"{name}/{file}"
        try:
            data = read(known[key])
        except BadItem as error:
            faults.append(error.sentence)
            return None
        if data is None:
            return None
        write_whole(folder / name / file, data)
        return f"{name}/{file}"

    with ThreadPoolExecutor() as threads:
        paths = dict(zip(known, threads.map(put, known), strict=True))
    return {key: path for key, path in paths.items() if path}


def _cells_table(results: Results, clips: pa.Table, cells: Sequence[Cell]) -> pa.Table:
    known = {row["clip_id"]: row for row in clips.to_pylist()}
    names = [name for name in METRICS if any(name in row for row in results.sample.rows)]
    positions = {clip_id: number for number, clip_id in enumerate(results.sample.clip_ids)}
    text, real = pa.string(), pa.float64()
    columns: list[tuple[str, pa.DataType, list[Any]]] = [
        ("clip_id", text, [cell.clip_id for cell in cells]),
        ("clip_uri", text, [known[cell.clip_id]["uri"] for cell in cells]),
        ("label", text, [known[cell.clip_id]["label"] for cell in cells]),
        ("method", text, [cell.method for cell in cells]),
        ("prompt", text, [cell.prompt for cell in cells]),
        ("seed", pa.int64(), [cell.seed for cell in cells]),
        ("photo", text, [cell.photo or None for cell in cells]),
        (SECONDS, real, [row[SECONDS] for row in results.sample.rows]),
    ]
    columns += [(name, real, [row.get(name) for row in results.sample.rows]) for name in names]
    for name, truth in results.sample.truths.items():
        own = [float(truth[positions[cell.clip_id]]) for cell in cells]
        columns.append((f"own_{name}", real, [None if value != value else value for value in own]))
    return pa.table({name: pa.array(values, kind) for name, kind, values in columns})


def _as_json(results: Results, run: Run, mark: str | None) -> dict[str, Any]:
    options, seconds = results.options, results.mean_seconds
    used = {figure.metric for figure in results.figures}
    return {
        "created_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "aai": version("aai"),
        "mark": mark,
        "workspace": run.workspace.uri,
        "reference": options.compared_with,
        "num_clips": len(results.sample.clip_ids),
        "prompts": list(results.sample.prompts),
        "seeds": options.seeds,
        "methods": [method.model_dump() | {"seconds_per_clip": seconds.get(method.name)} for method in options.methods],
        "metrics": [_described(name, results) for name in METRICS if name in used],
        "figures": [figure.as_json() for figure in results.figures],
        "notes": results.notes,
    }


def _described(name: str, results: Results) -> dict[str, Any]:
    metric = METRICS[name]
    bounds = [None if abs(bound) == float("inf") else bound for bound in (metric.low, metric.high)]
    return {
        "name": name,
        "label": metric.label,
        "definition": metric.help,
        "source": metric.source,
        "direction": metric.direction,
        "range": bounds,
        "is_independent": name not in results.sample.dependent,
    }


def _seconds_line(results: Results) -> str:
    spent = ", ".join(f"{plain(name)} {value:.3g}" for name, value in results.mean_seconds.items())
    return (
        f"Seconds for a clip's cue, by the clock: {spent}. Retrieval, training of a mapper and rendering are extra.\n\n"
    )


def _number(name: str, value: Any) -> Any:
    """NaN for a number that is undefined."""
    return float("nan") if value is None and name in ("value", "low", "high") else value
