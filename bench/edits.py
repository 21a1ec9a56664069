"""Edits of photos in the tiny world without a mask: phenomenon, strength, and what changes outside the truth.

    python bench/edits.py [--num 200] [--set guide_from=empty --set threshold=0.5]

Every edit has a seed of its own; each photo and each clip is in two of them, and the intervals are bootstrapped by
photos and clips together. The truth is the mask of the phenomenon that the tiny world paints into the same photo; of
rain, snow, thunder and fireworks it is the whole picture. Intensities of 0 to 1: slope is that of the judged on the
heard one.

Source: Owen 2007, "The pigeonhole bootstrap", for intervals of items that cross two groups.
"""

import argparse
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from rich.console import Console
from rich.table import Table
from scipy.ndimage import distance_transform_edt

from aai.edit.composite import finish
from aai.edit.editor import Editor, EditRequest, Photos
from aai.edit.options import EditOptions
from aai.edit.trajectories import InversionCache
from aai.tiny.clips import Clip, sample_clips
from aai.tiny.judge import load_judge
from aai.tiny.scenes import Scene, background_of
from aai.tiny.scenes import render as paint
from aai.tiny.vocabulary import BACKGROUNDS, PHENOMENA, caption
from aai.tiny.world import RENDER, World, load_world

SEED, BATCH_SIZE, NUM_DRAWS = 41_000, 20, 1_000
NEAR_PX, VISIBLE, MIN_OUTSIDE = 4, 8, 0.02


@dataclass(frozen=True)
class Items:
    """Edits: a clip and a photo each, and what the tiny world would have painted."""

    clips: list[Clip]
    clip_of: np.ndarray
    photo_of: np.ndarray
    seeds: list[int]
    places: list[str]
    photos: np.ndarray
    truth: np.ndarray


def sample(num: int) -> Items:
    """Half as many clips and photos as edits; each is in two."""
    half, per = num // 2, num // 2 // len(PHENOMENA)
    drawn = sample_clips(half * 8, SEED)
    clips = [clip for name in PHENOMENA for clip in [c for c in drawn if c.phenomenon == name][:per]]
    clip_of = np.concatenate([np.arange(len(clips))] * 2)
    photo_of = np.concatenate([np.arange(len(clips)), (np.arange(len(clips)) * 7 + 3) % len(clips)])
    places = [BACKGROUNDS[photo % len(BACKGROUNDS)] for photo in photo_of]
    scenes = [
        Scene("verb", clips[clip].phenomenon, place, clips[clip].intensity, SEED + int(photo), clips[clip].tone)
        for clip, photo, place in zip(clip_of, photo_of, places, strict=True)
    ]
    seeds = np.random.default_rng(SEED).integers(2**62, size=len(scenes)).tolist()
    photos = paint([background_of(scene) for scene in scenes]).pixels
    return Items(clips, clip_of, photo_of, seeds, places, photos, paint(scenes).mask)


def edited(world: World, items: Items, options: EditOptions) -> tuple[np.ndarray, np.ndarray]:
    """The pictures, and the share of each that its mask covers."""
    cues = world.cues(world.embed_clips([clip.wave() for clip in items.clips]))[torch.from_numpy(items.clip_of)]
    editor, inversions = Editor(world.diffusion, RENDER, options), InversionCache()
    pictures, shares = [], []
    for first in range(0, len(items.seeds), BATCH_SIZE):
        part = slice(first, first + BATCH_SIZE)
        sources, prompts = (
            [caption(kind, background=place) for place in items.places[part]] for kind in ("background", "verb")
        )
        request = EditRequest(sources, prompts, items.seeds[part], cues[part], [""] * len(prompts))
        photos = Photos(items.photos[part], items.photo_of[part].tolist(), list(range(len(prompts))))
        made = editor.from_photos(request, photos, inversions)
        whole = zip(items.photos[part], made.pictures, made.sources, made.masks, strict=True)
        pictures += [finish(*each, options) for each in whole]
        shares += made.masks.mean((1, 2)).tolist()
    return np.stack(pictures), np.array(shares)


def measured(items: Items, pictures: np.ndarray) -> dict[str, np.ndarray]:
    """What is measured of each edit; NaN where the truth is the whole picture."""
    reading = load_judge().read(pictures)
    phenomena = [PHENOMENA.index(items.clips[clip].phenomenon) for clip in items.clip_of]
    places = [BACKGROUNDS.index(place) for place in items.places]
    outside = [_outside(*each) for each in zip(pictures, items.photos, items.truth, strict=True)]
    return {
        "right": (reading.phenomenon.argmax(1).numpy() == phenomena).astype(float),
        "background": (reading.background.argmax(1).numpy() == places).astype(float),
        "heard": np.array([items.clips[clip].intensity for clip in items.clip_of]),
        "judged": reading.mean_intensity().numpy(),
        "decibels": np.array([each[0] for each in outside]),
        "visible": np.array([each[1] for each in outside]),
        "far": np.array([each[2] for each in outside]),
    }


def _outside(picture: np.ndarray, photo: np.ndarray, truth: np.ndarray) -> tuple[float, float, float]:
    """PSNR outside the truth in dB, the share of it that changes visibly, and the PSNR far from the truth."""
    error, out = picture.astype(float) - photo, ~truth
    far = distance_transform_edt(out) > NEAR_PX
    if out.mean() < MIN_OUTSIDE or far.mean() < MIN_OUTSIDE:
        return np.nan, np.nan, np.nan
    near_db, far_db = (10 * np.log10(255**2 / max(0.01, (error[where] ** 2).mean())) for where in (out, far))
    return near_db, float((np.abs(error).max(-1)[out] > VISIBLE).mean()), far_db


Statistic = Callable[[dict[str, np.ndarray], np.ndarray], float]
"""Of measurements with weights."""


def mean(name: str) -> Statistic:
    """The weighted mean of one measurement."""
    return lambda values, weights: float(np.average(values[name], weights=weights))


def median(name: str) -> Statistic:
    """The weighted median of one measurement, where it is defined."""

    def of(values: dict[str, np.ndarray], weights: np.ndarray) -> float:
        order = np.argsort(values[name])  # NaN comes last
        own = np.where(np.isnan(values[name]), 0, weights)[order].cumsum()
        return float(values[name][order][np.searchsorted(own, own[-1] / 2)])

    return of


def slope(values: dict[str, np.ndarray], weights: np.ndarray) -> float:
    """The slope of judged on heard intensity."""
    heard = values["heard"] - np.average(values["heard"], weights=weights)
    return float((weights * heard * values["judged"]).sum() / (weights * heard**2).sum())


def bias(values: dict[str, np.ndarray], weights: np.ndarray) -> float:
    """The mean difference of judged and heard intensity."""
    return float(np.average(values["judged"] - values["heard"], weights=weights))


STATISTICS: dict[str, tuple[Statistic, str]] = {
    "phenomenon judged right": (mean("right"), "0.97"),
    "background judged right": (mean("background"), ""),
    "slope of judged on heard intensity": (slope, "0.7"),
    "bias of judged intensity": (bias, ""),
    "outside the truth, dB, median": (median("decibels"), "28"),
    "outside the truth, share that changes by more than 8 of 255, median": (median("visible"), ""),
    "more than 4 px outside the truth, dB, median": (median("far"), ""),
}


def interval(items: Items, values: dict[str, np.ndarray], statistic: Statistic) -> tuple[float, float, float]:
    """A statistic and its 95 % interval, photos and clips drawn with replacement."""
    rng, num = np.random.default_rng(SEED), len(items.clips)
    drawn = []
    for _ in range(NUM_DRAWS):
        clips, photos = (np.bincount(rng.integers(num, size=num), minlength=num) for _ in range(2))
        weights = (clips[items.clip_of] * photos[items.photo_of]).astype(float)
        drawn.append(statistic(values, weights))
    low, high = np.percentile(drawn, [2.5, 97.5])
    return statistic(values, np.ones(len(items.seeds))), float(low), float(high)


def show(items: Items, values: dict[str, np.ndarray], shares: np.ndarray) -> None:
    """Print the table, and which phenomena are judged wrong."""
    table = Table("what", "result", "95 % interval", "target")
    for what, (statistic, target) in STATISTICS.items():
        result, low, high = interval(items, values, statistic)
        table.add_row(what, f"{result:.3f}", f"{low:.3f} to {high:.3f}", target)
    console = Console(width=120)
    console.print(table)
    worst = np.nanmin(values["decibels"])
    names = [items.clips[clip].phenomenon for clip in items.clip_of]
    wrong = {name: int((1 - values["right"])[[own == name for own in names]].sum()) for name in PHENOMENA}
    local = ~np.isnan(values["decibels"])
    covered = (
        f"masks cover {shares[local].mean():.2f} of local phenomena's pictures, {shares[~local].mean():.2f} of others'"
    )
    console.print(f"{len(names)} edits; worst {worst:.1f} dB; {covered}; judged wrong: {wrong}")


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--num", type=int, default=200, help="edits, a multiple of 20 (default: 200)")
    parser.add_argument("--set", action="append", default=[], help="an option of edits, as threshold=0.5")
    parser.add_argument("--json", type=Path, help="also write what is measured of each edit to this file")
    chosen = parser.parse_args(arguments)
    changes: dict[str, Any] = {
        key: yaml.safe_load(value) for key, _, value in (text.partition("=") for text in chosen.set)
    }
    items = sample(chosen.num)
    pictures, shares = edited(load_world(), items, EditOptions(**changes))
    values = measured(items, pictures)
    show(items, values, shares)
    if chosen.json:
        chosen.json.write_text(json.dumps({name: each.tolist() for name, each in values.items()}))


if __name__ == "__main__":
    main()
