"""Sounds in long recordings: are they read right where a window's border would cut them, and does noise get cues?

    python bench/windows.py [--recordings ESC-10] [--num 100]

Sounds of the tiny world, or recordings of five of its phenomena (ESC-10), are placed at random in noise of a given
level, five in a recording of a minute. A sound is read by the window that has most of it: right is the phenomenon of
the nearest of 2,000 held-out scenes. Intervals are bootstrapped by recording.
"""

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from aai.media.audio import AudioOptions, decode, resample, to_mono
from aai.media.windows import Window, cut, split
from aai.tiny.clips import sample_clips
from aai.tiny.scenes import render, sample_scenes
from aai.tiny.score import RECORDINGS
from aai.tiny.sounds import SAMPLE_RATE_HZ
from aai.tiny.world import World, load_world

SEED, DURATION_S, PER_RECORDING = 61_000, 60.0, 5
WINDOW_S, BORDER_S, MIN_SOUND_S, BATCH_SIZE = 5.0, 0.5, 1.0, 64

GRID: dict[str, Any] = {"window_s": WINDOW_S, "hop_s": WINDOW_S, "placement": "grid", "background_db": None}
WAYS: dict[str, dict[str, Any]] = {
    "one after another, as before": GRID,
    "overlapping by half": GRID | {"hop_s": WINDOW_S / 2},
    "around sounds": {"window_s": WINDOW_S, "hop_s": WINDOW_S},
}

Sound = tuple[str, np.ndarray]
"""A phenomenon and its wave."""


@dataclass(frozen=True)
class Placed:
    """Sounds in a recording, and which of them are read right when they are alone."""

    wave: np.ndarray
    names: list[str]
    starts_s: list[float]
    ends_s: list[float]
    are_right_alone: list[bool]

    def seconds(self, windows: Sequence[Window]) -> np.ndarray:
        """Seconds of each sound in each window."""
        starts = np.array([window.start_s for window in windows])[:, None]
        lengths = np.array([window.duration_s for window in windows])[:, None]
        both = np.minimum(starts + lengths, self.ends_s) - np.maximum(starts, self.starts_s)
        seconds: np.ndarray = both.clip(0)
        return seconds

    @property
    def are_cut(self) -> np.ndarray:
        """Whether a border of windows that come one after another is inside each sound."""
        after = np.array(self.starts_s) % WINDOW_S
        are_cut: np.ndarray = (after > BORDER_S) & (after < WINDOW_S - BORDER_S)
        return are_cut


class Reader:
    """Reads the phenomenon of sounds: that of the nearest scene."""

    def __init__(self, world: World) -> None:
        scenes = sample_scenes(2_000, SEED)
        self._world, self._names = world, [scene.phenomenon for scene in scenes]
        self._vectors = world.embed_images(render(scenes).pixels).numpy()

    def __call__(self, waves: Sequence[np.ndarray]) -> list[str | None]:
        """The phenomenon of each wave."""
        parts = [waves[first : first + BATCH_SIZE] for first in range(0, len(waves), BATCH_SIZE)]
        vectors = np.concatenate([self._world.embed_clips(part).numpy() for part in parts])
        return [self._names[index] for index in (vectors @ self._vectors.T).argmax(1)]


def place(sounds: Sequence[Sound], are_right: list[bool], rng: np.random.Generator, noise_dbfs: float) -> Placed:
    """Sounds in noise, one after another, with gaps of any length."""
    rate, lengths = SAMPLE_RATE_HZ, np.array([len(wave) for _, wave in sounds])
    wave = rng.normal(0, 10 ** (noise_dbfs / 20), round(DURATION_S * rate)).astype(np.float32)
    before = np.sort(rng.integers(0, len(wave) - lengths.sum(), len(sounds)))
    starts = before + np.concatenate([[0], lengths.cumsum()[:-1]])
    for start, (_, own) in zip(starts, sounds, strict=True):
        wave[start : start + len(own)] += own
    names, ends = [name for name, _ in sounds], (starts + lengths) / rate
    return Placed(wave.clip(-1, 1), names, (starts / rate).tolist(), ends.tolist(), are_right)


def measure(reader: Reader, placed: Sequence[Placed], changes: dict[str, Any]) -> Iterator[str]:
    """The cells of one way to place windows."""
    options, num, num_noise = AudioOptions(**changes), 0, 0
    cut_right, kept_right, window_right = [], [], []
    for each in placed:
        windows = split(each.wave, SAMPLE_RATE_HZ, options).windows
        heard = reader([cut(each.wave, SAMPLE_RATE_HZ, window) for window in windows])
        seconds = each.seconds(windows)
        is_read = np.array([[name == own for own in each.names] for name in heard])
        right = (is_read & (seconds > 0))[seconds.argmax(0), range(len(each.names))]
        cut_right.append(right[each.are_cut])
        kept_right.append(right[each.are_cut & np.array(each.are_right_alone)])
        window_right.append(is_read[range(len(windows)), seconds.argmax(1)][seconds.max(1) >= MIN_SOUND_S])
        num, num_noise = num + len(windows), num_noise + int((seconds.max(1) == 0).sum())
    yield from (str(num), str(num_noise), *map(interval, (cut_right, kept_right, window_right)))


def interval(groups: Sequence[np.ndarray]) -> str:
    """The share of true values, with its 95 % interval, bootstrapped by group."""
    sums, nums = np.array([group.sum() for group in groups]), np.array([len(group) for group in groups])
    draws = np.random.default_rng(SEED).integers(len(groups), size=(2_000, len(groups)))
    low, high = np.percentile(sums[draws].sum(1) / nums[draws].sum(1).clip(1), [2.5, 97.5])
    return f"{sums.sum() / max(1, nums.sum()):.3f} ({low:.3f} to {high:.3f}), n = {nums.sum()}"


def recordings(folder: Path, num: int, rng: np.random.Generator) -> list[Sound]:
    """Recordings of ESC-10, in random order."""
    paths = [(name, path) for kind, name in RECORDINGS.items() for path in sorted((folder / kind).glob("*.ogg"))]
    chosen = [paths[index] for index in rng.permutation(len(paths))[:num]]
    return [(name, _load(path)) for name, path in chosen]


def _load(path: Path) -> np.ndarray:
    recording = decode(path.read_bytes(), str(path), AudioOptions())
    return resample(to_mono(recording.samples), recording.rate_hz, SAMPLE_RATE_HZ)


def main() -> None:
    """Print a table for each level of noise."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--recordings", type=Path, help="folder of ESC-10; without it, sounds of the tiny world")
    parser.add_argument("--num", type=int, default=100, help="number of sounds (default: 100)")
    parser.add_argument("--noise", type=float, nargs="+", default=[-50.0], help="levels in dBFS (default: -50)")
    chosen = parser.parse_args()
    reader, rng = Reader(load_world()), np.random.default_rng(SEED)
    sounds = [(clip.phenomenon, clip.wave()) for clip in sample_clips(chosen.num, SEED)]
    sounds = recordings(chosen.recordings, chosen.num, rng) if chosen.recordings else sounds
    alone = reader([wave for _, wave in sounds])
    are_right = [heard == name for heard, (name, _) in zip(alone, sounds, strict=True)]
    for level in chosen.noise:
        parts = [slice(first, first + PER_RECORDING) for first in range(0, len(sounds), PER_RECORDING)]
        placed = [place(sounds[part], are_right[part], rng, level) for part in parts]
        title = f"noise {level:g} dBFS; alone {np.mean(are_right):.3f} are read right"
        table = Table(
            title, "windows", "of noise", "cut sounds read right", "of those right alone", "windows read right"
        )
        for way, changes in WAYS.items():
            table.add_row(way, *measure(reader, placed, changes))
        Console(width=170).print(table)


if __name__ == "__main__":
    main()
