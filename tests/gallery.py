"""A bank as a build and a rendering would have left it, made in a second: the files are real, the pictures are scenes
whose truth is known, and the rows are written by hand.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import soundfile

from aai import identity
from aai.media import images
from aai.tiny.scenes import Scene, render
from aai.tiny.sounds import SAMPLE_RATE_HZ, synthesise
from aai.workspace import SCHEMAS
from aai.workspace.shards import ShardWriter
from tasks.runtime.config import make_config
from tasks.runtime.run import Run, open_run

JOBS = {"noun": "a photo of *", "verb": "a * city", "adjective": "a forest in the style of *"}
_PLACES = {"noun": None, "verb": "city", "adjective": "forest"}
_DIM = 32


@dataclass(frozen=True)
class Sound:
    """A clip to be made."""

    phenomenon: str
    intensity: float
    label: str | None
    name: str


SOUNDS = [
    Sound("rain", 0.1, "rain", "drizzle.flac"),
    Sound("rain", 0.5, "rain", "rain.flac"),
    Sound("rain", 0.9, "rain", "downpour.flac"),
    Sound("fire", 0.2, "fire", "embers.flac"),
    Sound("fire", 0.6, "fire", "fire.flac"),
    Sound("clock", 0.8, None, "unnamed.flac"),
]


def run_on(bank: Path | str, **keys: Any) -> Run:
    """A run of the tiny profile in this process."""
    return open_run(
        make_config(workspace=str(bank), **({"fit": {"method": "mapper"}, "pool": {"num_workers": 0}} | keys))
    )


def append(run: Run, name: str, num: int, of: str | None = None, **columns: Sequence[Any]) -> None:
    """Rows of a table under the recipe of a table; columns that are not given hold something empty."""
    schema, of = SCHEMAS[name].columns, of or name
    blank = {c.name: pa.repeat(pa.scalar(_blank(c)).cast(c.type), num) for c in schema}
    given = {key: pa.array(values, schema.field(key).type) for key, values in columns.items()}
    run.register(of)
    run.workspace.table(name).append(run.recipe(of), pa.table(blank | given, schema=schema))


def add_clips(run: Run, folder: Path, sounds: Sequence[Sound] = SOUNDS) -> list[str]:
    """Sound files and the rows about them; gives the clips' ids."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, sound in enumerate(sounds):
        soundfile.write(folder / sound.name, synthesise(sound.phenomenon, sound.intensity, number), SAMPLE_RATE_HZ)
    files = [(folder / sound.name).read_bytes() for sound in sounds]
    ids = [identity.clip_id(identity.content_id(data), 0.0, 5.0) for data in files]
    append(
        run, "clips", len(ids), clip_id=ids, uri=[str(folder / sound.name) for sound in sounds],
        offset=[None] * len(ids), num_bytes=[None] * len(ids), duration_s=[5.0] * len(ids),
        rate_hz=[SAMPLE_RATE_HZ] * len(ids), label=[sound.label for sound in sounds],
        attributes=[json.dumps({"intensity": str(sound.intensity)}) for sound in sounds],
    )  # fmt: skip
    return ids


def add_vectors(run: Run, clip_ids: Sequence[str], vectors: np.ndarray | None = None) -> None:
    """Aligned vectors: those given, or noise."""
    if vectors is None:
        vectors = np.random.default_rng(3).normal(size=(len(clip_ids), _DIM))
    vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    append(run, "aligned_vectors", len(clip_ids), clip_id=clip_ids, vector=vectors.tolist())


def add_neighbours(run: Run, folder: Path, clip_ids: Sequence[str], num: int = 3) -> list[Path]:
    """Picture files, and which of them are nearest to each clip; gives the files."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"scene {number}.png" for number in range(num)]
    scenes = [Scene("noun", "rain", None, number / num, number) for number in range(num)]
    for path, pixels in zip(paths, render(scenes).pixels, strict=True):
        path.write_bytes(images.encode(pixels, "png"))
    ids = [identity.image_id(path.read_bytes()) for path in paths]
    append(run, "images", num, image_id=ids, uri=[str(path) for path in paths], offset=[None] * num,
           num_bytes=[None] * num, width=[64] * num, height=[64] * num, format=["PNG"] * num)  # fmt: skip
    append(run, "neighbours", len(clip_ids), clip_id=clip_ids, image_ids=[ids] * len(clip_ids),
           similarities=[[0.9, 0.5, 0.25][:num]] * len(clip_ids))  # fmt: skip
    return paths


def add_cues(run: Run, clip_ids: Sequence[str]) -> None:
    """Cues that were fitted in three looks at the loss, except the last one's, which was predicted."""
    num = len(clip_ids)
    gains = [0.01 * (number + 1) for number in range(num)]
    curves: list[list[float] | None] = [[0.2, 0.2 - gain / 2, 0.2 - gain] for gain in gains[:-1]] + [None]
    append(run, "cues", num, clip_id=clip_ids, vector=[[0.0] * 4] * num, num_tokens=[2] * num, dim=[2] * num,
           method=[run.config.fit.method] * num, loss_curve=curves, steps=[16] * (num - 1) + [0],
           loss_before=[curve and curve[0] for curve in curves], loss_after=[curve and curve[-1] for curve in curves],
           stop_reason=["steady"] * (num - 1) + [None])  # fmt: skip


def add_renders(run: Run, clip_ids: Sequence[str], shown: Sequence[tuple[str, float]]) -> None:
    """A picture per clip and job, each a scene of what is said here to be shown."""
    rows: list[dict[str, Any]] = []
    with ShardWriter(run.workspace, "renders", run.recipe("renders")) as shard:
        for job, prompt in JOBS.items():
            scenes = [Scene(job, name, _PLACES[job], level, number) for number, (name, level) in enumerate(shown)]
            for clip_id, pixels in zip(clip_ids, render(scenes).pixels, strict=True):
                key = identity.content_id(f"{run.recipe('renders')} {job} {clip_id}".encode())
                place = shard.add(key, "png", images.encode(pixels, "png"))
                shard.add(key, "json", b"{}")
                asked = {"render_id": key, "clip_ids": [clip_id], "job": job, "prompt": prompt, "format": "png"}
                rows.append(asked | vars(place))
    append(run, "renders", len(rows), **{name: [row[name] for row in rows] for name in rows[0]})


def add_runs(run: Run) -> None:
    """Two runs of a stage, and rejects of two kinds."""
    started = ["2026-01-02T03:04:05+00:00", "2026-01-03T03:04:05+00:00"]
    append(run, "runs", 2, of="cues", run_id=["a", "b"], stage=["fit"] * 2, started_at=started, took_s=[20.0, 5.0],
           new=[4, 1], rejected=[0, 1], stopped=[False, True])  # fmt: skip
    silent = [f"silent: the loudest part has {level} dBFS, below -60 dBFS" for level in (-90, -75)]
    said = {"/sounds/a.wav": silent[0], "/sounds/b.wav": silent[1], "/sounds/c.wav": "the file is empty (0 bytes)"}
    append(run, "rejects", 3, of="clips", id=["1", "2", "3"], stage=["ingest_audio"] * 3, uri=list(said),
           error=["BadItem"] * 3, sentence=[f"{uri}: {text}" for uri, text in said.items()])  # fmt: skip


def make_gallery(folder: Path, sounds: Sequence[Sound] = SOUNDS, **keys: Any) -> Run:
    """A bank with everything but scores."""
    run = run_on(folder / "bank", **keys)
    clip_ids = add_clips(run, folder / "sounds", sounds)
    add_vectors(run, clip_ids)
    add_neighbours(run, folder / "images", clip_ids)
    add_cues(run, clip_ids)
    add_renders(run, clip_ids, [(sound.phenomenon, sound.intensity) for sound in sounds])
    add_runs(run)
    return run


def add_scores(run: Run) -> None:
    """Scores of all pictures: the ranks grow with the pictures' ids, and the judge sees what is heard."""
    renders = run.workspace.table("renders").read(["render_id"], run.recipe("renders")).sort_by("render_id")
    ids, num = renders["render_id"].to_pylist(), renders.num_rows
    metrics = {"ais_rank": [number / num for number in range(num)], "judge_phenomenon": [1.0] * num}
    for metric, values in metrics.items():
        append(run, "scores", num, render_id=ids, metric=[metric] * num, value=values)


def _blank(column: pa.Field) -> Any:
    if column.nullable:
        return None
    return [] if pa.types.is_list(column.type) else "" if pa.types.is_string(column.type) else 0
