"""A small collection of sounds and pictures on disk, whose truth is known."""

import io
from functools import cache
from pathlib import Path
from typing import Any

import soundfile

from aai.media.images import encode
from aai.tiny.scenes import Scene, render, sample_scenes
from aai.tiny.sounds import SAMPLE_RATE_HZ, synthesise
from tasks.runtime.driver import StageSummary
from tasks.runtime.run import Run
from tasks.stages import make_config, open_run

CLIPS = {f"{name}-{level}": (name, level) for name in ("rain", "fire") for level in (0.2, 0.9)}
NUM_CLIPS, NUM_IMAGES = len(CLIPS), 12


def write_collection(folder: Path, repeats: int = 1) -> Path:
    """Folders `sounds`, with several takes of each clip, and `images`, and `said.csv` with labels and intensities."""
    for name, data in _files(repeats).items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return folder


@cache
def _files(repeats: int) -> dict[str, bytes]:
    """The files of a collection, by name; made once in a process."""
    files, lines = {}, ["file,label,intensity"]
    takes = {f"{name}{'-again' * take}": clip for take in range(repeats) for name, clip in CLIPS.items()}
    for number, (name, (phenomenon, level)) in enumerate(takes.items()):
        data = io.BytesIO()
        soundfile.write(data, synthesise(phenomenon, level, 700 + number), SAMPLE_RATE_HZ, format="FLAC")
        files[f"sounds/{name}.flac"] = data.getvalue()
        lines.append(f"sounds/{name}.flac,{phenomenon},{level}")
    scenes = [Scene("noun", name, None, i / 5, i) for name in ("rain", "fire") for i in range(NUM_IMAGES // 2)]
    for number, (scene, pixels) in enumerate(zip(scenes, render(scenes).pixels, strict=True)):
        files[f"images/{number}.png"] = encode(pixels, "png")
        lines.append(f"images/{number}.png,{scene.phenomenon},{scene.intensity}")
    return files | {"said.csv": ("\n".join(lines) + "\n").encode()}


def write_many_images(folder: Path, num: int = 80) -> int:
    """Add images to a collection; the number that it has then."""
    for number, pixels in enumerate(render(sample_scenes(num, 77)).pixels):
        (folder / "images" / f"many {number}.png").write_bytes(encode(pixels, "png"))
    return num + NUM_IMAGES


def run_on(folder: Path, bank: str = "bank", **keys: Any) -> Run:
    """A run on a collection, in this process; cues are the mapper's unless `keys` say otherwise."""
    locations = {"audio": str(folder / "sounds"), "images": str(folder / "images"), "workspace": str(folder / bank)}
    defaults = {
        "fit": {"method": "mapper"},
        "retrieve": {"num_neighbours": 2},
        "confidence": {"method": "none"},
        "pool": {"num_workers": 0},
    }
    return open_run(make_config(**{"metadata": str(folder / "said.csv")} | locations | defaults | keys))


def build(run: Run, until: str = "fit") -> dict[str, StageSummary]:
    """Run the stages of a build up to one of them; what each did, by its name."""
    done: dict[str, StageSummary] = {}
    for stage in run.stages:
        if stage.command == "build" and until not in done:
            done[stage.name] = run.do(stage)
    return done


def num_new(run: Run, until: str = "fit") -> dict[str, int]:
    """Run the stages of a build up to one of them; new items of those that had any."""
    return {name: summary.new for name, summary in build(run, until).items() if summary.new}
