"""A workspace as a build would leave it, made in no time: the files need not exist, and vectors are noise.

`append` fills in what a row of a table leaves out. `add_files` and `add_cues` write a whole bank of five clips.
"""

import atexit
import json
import shutil
import tarfile
import tempfile
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from aai.identity import clip_id, content_id, seed_of
from aai.jobs.job import Job
from aai.jobs.jobfile import make_jobs
from tasks.render import RenderSectionOptions
from tasks.runtime.run import Run
from tasks.stages import make_config, open_run

DIM = 128  # of the shipped text encoder's token embeddings
IMAGE_DIM = 128  # of the shipped image encoder's space
LABELS = ["rain", "fire", "rain", "snow", None]
DURATIONS_S = [1.0, 2.0, 3.0, 4.0, 5.0]
CONTENTS = [content_id(b"recording %d" % number) for number in range(len(LABELS))]
CLIPS = [clip_id(content, 0.0, length_s) for content, length_s in zip(CONTENTS, DURATIONS_S, strict=True)]
QUICK = {"prompt": "a photo of *", "steps": 2}
GENERATED = b"http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"

_ENCODER = {"model": "encoder", "revision": "sha256:5f3a9c"}
_DIFFUSION = {"base_model": "pipeline", "base_revision": "sha256:0b71de"}
_LISTING = {"num_bytes": 160_044, "is_tar": False, "is_present": True, "listed_at": 1_767_225_600_000_000}
_MEMBER = {"offset": 1_536, "num_bytes": 20_000}
_FILE = {"num_items": 1}
DEFAULTS: dict[str, dict[str, Any]] = {
    "runs": {"run_id": "1", "took_s": 2.0, "new": 1, "rejected": 0, "stopped": False, "host": "localhost"},
    "audio_listing": _LISTING,
    "image_listing": _LISTING,
    "audio_members": _MEMBER,
    "image_members": _MEMBER,
    "audio_files": _FILE,
    "image_files": _FILE,
    "clips": {"start_s": 0.0, "duration_s": 5.0, "rate_hz": 16_000, "channels": 1, "level_dbfs": -20.0},
    "images": {"width": 64, "height": 64, "format": "PNG"},
    "audio_vectors": _ENCODER,
    "image_vectors": _ENCODER,
    "neighbours": {"index_version": 1},
    "cues": {"num_tokens": 2, "dim": DIM, "method": "mapper", "steps": 0, "took_s": 0.01, "image_ids": []} | _DIFFUSION,
    "renders": {"job": "job 1", "mode": "generate", "prompt": "a photo of *", "negative_prompt": "", "seed": 0}
    | {"steps": 25, "guidance": 4.0, "scheduler": "DDIMScheduler", "width": 64, "height": 64, "format": "png"}
    | _DIFFUSION,
    "rejects": {"error": "BadItem", "rejected_at": 1_767_225_600_000_000},
}
"""Values of columns that a row leaves out; columns that may be null are null without one."""


def run_on(bank, **keys) -> Run:
    """A run of the tiny profile in this process, whose cues are the mapper's."""
    keys = {"fit": {"method": "mapper"}, "pool": {"num_workers": 0}, "render": {"guidance": 1}} | keys
    return open_run(make_config(workspace=str(bank), **keys))


def append(run: Run, name: str, rows: Sequence[Mapping[str, Any]], of: str | None = None) -> None:
    """Append rows to a table under its recipe, or under that of another table."""
    recipe, schema = of or name, run.workspace.schemas[name].columns
    run.register(recipe)
    filled = [{column: None for column in schema.names} | DEFAULTS.get(name, {}) | dict(row) for row in rows]
    run.workspace.table(name).append(run.recipe(recipe), pa.Table.from_pylist(filled, schema=schema))


def add_listing(run: Run, kind: str, files: Sequence[Mapping[str, Any]]) -> list[str]:
    """List files of a kind, `audio` or `image`, each with a uri and perhaps metadata; returns their ids."""
    table = f"{kind}_listing"
    columns = set(run.workspace.schemas[table].columns.names)
    ids = [content_id(json.dumps(dict(file)).encode()) for file in files]
    rows = [{name: value for name, value in file.items() if name in columns} for file in files]
    append(run, table, [row | {"file_id": file_id} for row, file_id in zip(rows, ids, strict=True)])
    return ids


def relabel(run: Run, kind: str, labels: Mapping[str, str | None]) -> None:
    """Correct the labels of files, by uri, as a later listing does."""
    with run.query() as query:
        rows = query.table(f"SELECT * FROM known_{kind}_listing").to_pylist()
    changed = [
        row | {"label": labels[row["uri"]], "listed_at": row["listed_at"] + 1} for row in rows if row["uri"] in labels
    ]
    append(run, f"{kind}_listing", changed)


def add_files(run: Run, kind: str, files: Sequence[Mapping[str, Any]]) -> None:
    """List files and ingest them; each has a content_id, too."""
    ids = add_listing(run, kind, files)
    rows = [{"file_id": id, "content_id": file["content_id"]} for id, file in zip(ids, files, strict=True)]
    append(run, f"{kind}_files", rows)


def add_clips(run: Run, **metadata: Sequence[Any]) -> None:
    """Five recordings of a clip each; `metadata` replaces columns of the listing."""
    columns = {
        "content_id": CONTENTS,
        "uri": [f"/sounds/{number}.flac" for number in range(len(CLIPS))],
        "label": LABELS,
        "licence": ["CC0"] * len(CLIPS),
        "attributes": ["{}"] * len(CLIPS),
    }
    add_files(run, "audio", pa.table(columns | metadata).to_pylist())
    clips = pa.table({"clip_id": CLIPS, "content_id": CONTENTS, "duration_s": DURATIONS_S})
    append(run, "clips", clips.to_pylist())


def add_cues(run: Run, num_tokens: int = 2, dim: int = DIM, **metadata: Sequence[Any]) -> Run:
    """Clips and their cues, which are noise; a bank that was made before in this process is copied."""
    made = {name: run.recipe(name) for name in ("audio_listing", "audio_files", "clips", "cues")}
    key = json.dumps([num_tokens, dim, metadata, made])
    place = Path(run.workspace.uri)
    if place.exists():
        _write_cues(run, num_tokens, dim, metadata)
    elif key in _BANKS:
        shutil.copytree(_BANKS[key], place)
    else:
        _write_cues(run, num_tokens, dim, metadata)
        _BANKS[key] = shutil.copytree(place, _kept_banks() / str(len(_BANKS)))
    return run


_BANKS: dict[str, Path] = {}
"""Banks with cues and nothing else, by what they are made from: to write one takes as long as to render a picture."""


@cache
def _kept_banks() -> Path:
    folder = tempfile.mkdtemp(prefix="aai-banks-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return Path(folder)


def _write_cues(run: Run, num_tokens: int, dim: int, metadata: Mapping[str, Sequence[Any]]) -> None:
    add_clips(run, **metadata)
    noise = np.random.default_rng(0).normal(0, 0.02, (len(CLIPS), num_tokens * dim)).astype(np.float32)
    rows = [
        {"clip_id": id, "vector": vector, "num_tokens": num_tokens, "dim": dim, "seed": seed_of(0, "fit", id, "cue")}
        for id, vector in zip(CLIPS, noise, strict=True)
    ]
    append(run, "cues", rows)


def unit_vectors(num: int, dim: int = IMAGE_DIM, seed: int = 0) -> np.ndarray:
    """Random unit vectors."""
    vectors = np.random.default_rng(seed).normal(size=(num, dim)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def jobs_of(run: Run, *jobs: Mapping[str, Any]) -> tuple[Job, ...]:
    """Jobs with the run's options; what a job leaves out is quick to render."""
    return make_jobs([QUICK | dict(job) for job in jobs], run.config.options(RenderSectionOptions).of_jobs)


def rows_of(run: Run, name: str = "renders") -> list[dict]:
    """The rows of a table under the run's recipe, in the order of their ids."""
    table = run.workspace.table(name)
    return table.read(recipe=run.recipe(name)).sort_by(table.schema.id).to_pylist()


def json_of(run: Run, row: Mapping[str, Any]) -> dict[str, Any]:
    """The JSON beside a picture in its shard, as any reader of tars finds it."""
    with tarfile.open(run.workspace.store.path(row["shard"])) as archive:
        return json.load(archive.extractfile(f"{row['key']}.json"))
