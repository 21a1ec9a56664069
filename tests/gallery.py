"""A bank as a build and a rendering would leave it, made in a second: the files are real, the pictures are scenes
whose truth is known, and the rows are written by `tests.bank`.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from aai import identity
from aai.cues.options import FitOptions
from aai.media import images
from aai.tiny.scenes import Scene, render
from aai.tiny.sounds import SAMPLE_RATE_HZ, synthesise
from aai.workspace.shards import ShardWriter
from tasks.runtime.run import Run
from tasks.score import LABELS
from tests.bank import add_files, add_listing, append, run_on, unit_vectors

JOBS = {"noun": "a photo of *", "verb": "a * city", "adjective": "a forest in the style of *"}
_PLACES = {"noun": None, "verb": "city", "adjective": "forest"}


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


def add_clips(run: Run, folder: Path, sounds: Sequence[Sound] = SOUNDS) -> list[str]:
    """Sound files and the rows about them; returns the clips' ids."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, sound in enumerate(sounds):
        soundfile.write(folder / sound.name, synthesise(sound.phenomenon, sound.intensity, number), SAMPLE_RATE_HZ)
    contents = [identity.content_id((folder / sound.name).read_bytes()) for sound in sounds]
    files = [
        {
            "uri": str(folder / sound.name),
            "content_id": content,
            "label": sound.label,
            "attributes": json.dumps({"intensity": str(sound.intensity), "tone": 1 - sound.intensity}),
        }
        for sound, content in zip(sounds, contents, strict=True)
    ]
    add_files(run, "audio", files)
    ids = [identity.clip_id(content, 0.0, 5.0) for content in contents]
    rows = [{"clip_id": id, "content_id": content} for id, content in zip(ids, contents, strict=True)]
    append(run, "clips", [row | {"duration_s": 5.0, "rate_hz": SAMPLE_RATE_HZ} for row in rows])
    return ids


def add_vectors(run: Run, clip_ids: Sequence[str], vectors: np.ndarray | None = None) -> None:
    """Aligned vectors: those given, or noise."""
    if vectors is None:
        vectors = unit_vectors(len(clip_ids))
    vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    rows = [{"clip_id": id, "vector": vector} for id, vector in zip(clip_ids, vectors, strict=True)]
    append(run, "aligned_vectors", rows)


def add_neighbours(run: Run, folder: Path, clip_ids: Sequence[str], num: int = 3) -> list[Path]:
    """Image files, which are the neighbours of each clip; returns the files."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"scene {number}.png" for number in range(num)]
    scenes = [Scene("noun", "rain", None, number / num, number) for number in range(num)]
    for path, pixels in zip(paths, render(scenes).pixels, strict=True):
        path.write_bytes(images.encode(pixels, "png"))
    ids = [identity.image_id(path.read_bytes()) for path in paths]
    add_files(run, "image", [{"uri": str(path), "content_id": id} for path, id in zip(paths, ids, strict=True)])
    append(run, "images", [{"image_id": id} for id in ids])
    near = {"image_ids": ids, "similarities": [0.9, 0.5, 0.25][:num]}
    append(run, "neighbours", [{"clip_id": clip_id} | near for clip_id in clip_ids])
    return paths


def add_cues(run: Run, clip_ids: Sequence[str]) -> None:
    """Cues with three evaluations of the loss, except the last one's, which the mapper predicted."""
    method, rows = run.config.options(FitOptions).method, []
    for number, clip_id in enumerate(clip_ids):
        gain = 0.01 * (number + 1)
        row = {"clip_id": clip_id, "vector": [0.0] * 4, "num_tokens": 2, "dim": 2, "method": method, "seed": number}
        curve = [0.2, 0.2 - gain / 2, 0.2 - gain]
        losses = {"loss_curve": curve, "loss_before": curve[0], "loss_after": curve[-1]}
        is_last = clip_id == clip_ids[-1]
        rows.append(row | ({} if is_last else losses | {"steps": 16, "stop_reason": "steady"}))
    append(run, "cues", rows)


def add_renders(run: Run, clip_ids: Sequence[str], shown: Sequence[tuple[str, float]]) -> None:
    """A picture per clip and job, each a scene with the given phenomenon and intensity."""
    rows: list[dict[str, Any]] = []
    with ShardWriter(run.workspace, "renders", run.recipe("renders"), "png") as shard:
        for job, prompt in JOBS.items():
            scenes = [Scene(job, name, _PLACES[job], level, number) for number, (name, level) in enumerate(shown)]
            for clip_id, pixels in zip(clip_ids, render(scenes).pixels, strict=True):
                key = identity.content_id(f"{run.recipe('renders')} {job} {clip_id}".encode())
                location = shard.add(key, "png", images.encode(pixels, "png"))
                shard.add(key, "json", b"{}")
                row = {"render_id": key, "clip_ids": [clip_id], "job": job, "prompt": prompt, "format": "png"}
                rows.append(row | vars(location))
    append(run, "renders", rows)


def add_runs(run: Run) -> None:
    """Two runs of a stage, and rejects of two kinds."""
    started = ["2026-01-02T03:04:05+00:00", "2026-01-03T03:04:05+00:00"]
    first = {"run_id": "a", "stage": "fit", "started_at": started[0], "took_s": 20.0, "new": 4}
    second = {"run_id": "b", "stage": "fit", "started_at": started[1], "took_s": 5.0, "rejected": 1, "stopped": True}
    append(run, "runs", [first, second], of="cues")
    silent = [f"silent: the loudest part has {level} dBFS, below -60 dBFS" for level in (-90, -75)]
    faults = {"/sounds/a.wav": silent[0], "/sounds/b.wav": silent[1], "/sounds/c.wav": "the file is empty (0 bytes)"}
    files = [{"uri": uri, "content_id": identity.content_id(uri.encode())} for uri in faults]
    ids = add_listing(run, "audio", files)
    rejects = [
        {"id": id, "stage": "ingest_audio", "uri": uri, "sentence": text}
        for id, (uri, text) in zip(ids, faults.items(), strict=True)
    ]
    append(run, "rejects", rejects, of="clips")


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
    """Scores of all pictures: the ranks grow with the pictures' ids, and the judge sees each phenomenon."""
    with run.query() as query:
        renders = query.table(f"SELECT * FROM ({LABELS}) ORDER BY render_id").to_pylist()
    num = len(renders)
    metrics = {"ais_rank": [number / num for number in range(num)], "judge_phenomenon": [1.0] * num}
    for metric, values in metrics.items():
        rows = [row | {"metric": metric, "value": value} for row, value in zip(renders, values, strict=True)]
        append(run, "scores", rows)
