"""Pairs of the tiny world on disk, and trainings of them that take seconds."""

import json
from pathlib import Path
from typing import Any

import soundfile
import yaml
from click.testing import Result
from typer.testing import CliRunner

from aai.media.images import encode
from aai.tiny.scenes import Scene, render
from aai.tiny.sounds import SAMPLE_RATE_HZ, synthesise
from flows.app.cli import app

KINDS = ("rain", "fire", "clock", "waves")
QUICK = {"batch": 32, "min_steps": 40, "epochs": 1, "hidden_dim": 64, "evaluations": 2}


def write_pairs(folder: Path, num: int = 48, seed: int = 0) -> Path:
    """Sounds beside scenes of the same phenomenon and intensity, with labels."""
    folder.mkdir(parents=True)
    kinds = [(KINDS[number % len(KINDS)], (number // len(KINDS)) * len(KINDS) / num) for number in range(num)]
    scenes = [Scene("noun", name, None, level, seed + number) for number, (name, level) in enumerate(kinds)]
    for number, ((name, level), pixels) in enumerate(zip(kinds, render(scenes).pixels, strict=True)):
        soundfile.write(folder / f"{number:03}.flac", synthesise(name, level, seed + number), SAMPLE_RATE_HZ)
        (folder / f"{number:03}.png").write_bytes(encode(pixels, "png"))
        (folder / f"{number:03}.json").write_text(json.dumps({"label": name}))
    return folder


def call(*arguments: object) -> Result:
    """A command of `aai align`."""
    return CliRunner().invoke(app, ["align", *map(str, arguments)])


def train_on_pairs(folder: Path, **keys: Any) -> Result:
    """Pairs in a folder, the file of their training, and its result."""
    write_pairs(folder / "pairs")
    done = call("train", write_training(folder / "pairs.yaml", {"folder": "pairs"}, **keys))
    assert done.exit_code == 0, done.output
    return done


def write_training(path: Path, pairs: dict[str, Any], **keys: Any) -> Path:
    """A training in this process."""
    held_out = {"held_out": 0.3, "validation": 0.1}
    given = {"pairs": held_out | pairs, "train": QUICK, "pool": {"num_workers": 0}} | keys
    path.write_text(yaml.safe_dump(given))
    return path
