"""Aligners that `aai align train` makes from the tiny world's sounds, measured on fresh clips and scenes.

    python bench/aligners.py [--only shipped "3,000 pairs"]

Trains on pairs of a sound and a scene of the same phenomenon, with intensity and tone at most .04 and .1 apart, or on
captions of sounds, and retrieves for fresh clips among fresh scenes of all compositions. The table of docs/ALIGN.md.
"""

import argparse
import resource
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import soundfile
import torch
from PIL import Image
from rich.console import Console
from rich.table import Table

from aai.align.projector import Projector
from aai.metrics import mean_rank_correlation
from aai.models.clap import AudioEncoder
from aai.tiny.clips import sample_clips
from aai.tiny.scenes import Scene, render, sample_scenes
from aai.tiny.sounds import SAMPLE_RATE_HZ
from aai.tiny.vocabulary import ADVERBS, PHENOMENA
from aai.tiny.world import World, load_world

SEED, TRAINING_SEED = 77, 78
NUM_CLIPS, NUM_SCENES, NUM_NEIGHBOURS = 600, 2_000, 5
_MAX_DIFFERENCE, _MAX_TONE_DIFFERENCE = 0.04, 0.1
_SMALL = ("--set", "train.hidden_dim=256", "--set", "train.min_steps=400", "--set", "train.epochs=1")


@dataclass(frozen=True)
class Trained:
    """An aligner, the audio encoder that goes with it, and the processor time of the command that made them."""

    aligner: Projector
    audio: AudioEncoder
    seconds: float | None = None


def write_pairs(folder: Path, num: int) -> None:
    """Sounds and scenes of equal names, which sound and look alike."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(TRAINING_SEED)
    offsets = rng.uniform(-1, 1, (num, 2)) * (_MAX_DIFFERENCE, _MAX_TONE_DIFFERENCE)
    for i, (clip, (step, tone_step)) in enumerate(zip(sample_clips(num, TRAINING_SEED), offsets, strict=True)):
        soundfile.write(folder / f"{i:05}.wav", clip.wave(), SAMPLE_RATE_HZ)
        intensity, tone = np.clip([clip.intensity + step, clip.tone + tone_step], 0, 1)
        scene = Scene("noun", clip.phenomenon, None, float(intensity), int(rng.integers(2**31)), float(tone))
        Image.fromarray(render([scene]).pixels[0]).save(folder / f"{i:05}.png")


def from_pairs(num: int, changes: Sequence[str], folder: Path) -> Trained:
    """Train on pairs."""
    write_pairs(folder / "pairs", num)
    description = folder / "pairs.yaml"
    description.write_text("profile: tiny\noutput: trained\npairs: {folder: pairs}\n")
    seconds = _command("train", str(description), *_SMALL, *changes)
    return _read(folder / "trained", seconds)


def from_captions(folder: Path) -> Trained:
    """Train on captions alone: each phenomenon without and with each adverb."""
    captions = folder / "captions.txt"
    captions.write_text("\n".join(f"{adverb} {name}".strip() for name in PHENOMENA for adverb in ("", *ADVERBS)))
    seconds = _command("train", "--text-only", str(captions), "-o", str(folder / "trained"), *_SMALL)
    return _read(folder / "trained", seconds)


def shipped(_: Path) -> Trained:
    """The package's own."""
    world = load_world()
    return Trained(world.aligner, world.audio)


ALIGNERS: dict[str, Callable[[Path], Trained]] = {
    "shipped": shipped,
    "3,000 pairs": partial(from_pairs, 3_000, ("--set", "train.batch=512")),
    "200 pairs": partial(from_pairs, 200, ("--set", "train.batch=512")),
    "captions, no pair": from_captions,
    **{
        f"1,000 pairs, {blocks} blocks": partial(
            from_pairs,
            1_000,
            ("--set", "train.batch=256", "--set", "train.min_steps=200", "--set", f"train.tower_blocks={blocks}")
            + (("--set", "train.tower_learning_rate=0.0001") if blocks else ()),
        )
        for blocks in (0, 1)
    },
}


def _command(*words: str) -> float:
    """Run `aai align`; returns its processor time."""
    before = _children_s()
    subprocess.run([Path(sys.executable).parent / "aai", "align", *words], check=True)
    return _children_s() - before


def _children_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _read(folder: Path, seconds: float) -> Trained:
    tower = folder / "audio"
    audio = AudioEncoder(tower) if tower.exists() else load_world().audio
    return Trained(Projector.load(folder / "aligner").eval(), audio, seconds)


@torch.inference_mode()
def measured(world: World, made: Trained, waves: list[np.ndarray]) -> tuple[float, float, float]:
    """R@1 by phenomenon, and rank correlations of intensity and tone with the nearest scenes' mean."""
    clips, scenes = sample_clips(NUM_CLIPS, SEED), sample_scenes(NUM_SCENES, SEED)
    aligned = made.aligner(made.audio.embed_clips(waves, SAMPLE_RATE_HZ))
    nearest = (aligned @ world.embed_images(render(scenes).pixels).T).topk(NUM_NEIGHBOURS, dim=1).indices.tolist()
    names = [clip.phenomenon for clip in clips]
    right = np.mean([scenes[row[0]].phenomenon == name for row, name in zip(nearest, names, strict=True)])
    ranks = [
        mean_rank_correlation(
            names,
            np.array([getattr(clip, degree) for clip in clips]),
            np.array([np.mean([getattr(scenes[i], degree) for i in row]) for row in nearest]),
        )
        for degree in ("intensity", "tone")
    ]
    return float(right), ranks[0], ranks[1]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=ALIGNERS, default=list(ALIGNERS), help="train only these")
    chosen = parser.parse_args()
    world, waves = load_world(), [clip.wave() for clip in sample_clips(NUM_CLIPS, SEED)]
    table = Table("aligner", "R@1 by phenomenon", "intensity", "tone", "processor time of the command")
    for name in chosen.only:
        with tempfile.TemporaryDirectory() as folder:
            made = ALIGNERS[name](Path(folder))
            figures = measured(world, made, waves)
        spent = "" if made.seconds is None else f"{made.seconds:.0f} s"
        table.add_row(name, *(f"{figure:.3f}" for figure in figures), spent)
    Console(width=110).print(table)


if __name__ == "__main__":
    main()
