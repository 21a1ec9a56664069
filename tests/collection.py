"""A small collection of sounds and pictures on disk, whose truth is known."""

from pathlib import Path
from typing import Any

import soundfile

from aai.media.images import encode
from aai.tiny.scenes import Scene, render
from aai.tiny.sounds import SAMPLE_RATE_HZ, synthesise
from tasks.runtime.driver import StageSummary
from tasks.runtime.run import Run
from tasks.stages import make_config, open_run

CLIPS = {f"{name}-{level}": (name, level) for name in ("rain", "fire") for level in (0.2, 0.9)}
NUM_CLIPS, NUM_IMAGES = len(CLIPS), 12


def write_collection(folder: Path, repeats: int = 1) -> Path:
    """Folders `sounds`, with several takes of each clip, and `images`, and `said.csv` with labels and intensities."""
    (folder / "sounds").mkdir(parents=True)
    (folder / "images").mkdir()
    lines = ["file,label,intensity"]
    takes = {f"{name}{'-again' * take}": clip for take in range(repeats) for name, clip in CLIPS.items()}
    for number, (name, (phenomenon, level)) in enumerate(takes.items()):
        wave = synthesise(phenomenon, level, 700 + number)
        soundfile.write(folder / "sounds" / f"{name}.flac", wave, SAMPLE_RATE_HZ)
        lines.append(f"sounds/{name}.flac,{phenomenon},{level}")
    scenes = [Scene("noun", name, None, i / 5, i) for name in ("rain", "fire") for i in range(NUM_IMAGES // 2)]
    for number, (scene, pixels) in enumerate(zip(scenes, render(scenes).pixels, strict=True)):
        (folder / "images" / f"{number}.png").write_bytes(encode(pixels, "png"))
        lines.append(f"images/{number}.png,{scene.phenomenon},{scene.intensity}")
    (folder / "said.csv").write_text("\n".join(lines) + "\n")
    return folder


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
