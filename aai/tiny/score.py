"""Measure the tiny world on held-out seeds: `python -m aai.tiny.score` prints one table.

Every figure is taken on scenes and clips that no model has learned from, and pictures are read by the judge, which
shares nothing with the models but the world.
"""

import argparse
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table
from scipy.stats import spearmanr

from aai.media.audio import AudioOptions, decode, resample, to_mono
from aai.tiny.clips import Clip, sample_clips
from aai.tiny.judge import Judge, Reading
from aai.tiny.scenes import Scene, render, sample_scenes
from aai.tiny.sounds import SAMPLE_RATE_HZ
from aai.tiny.training.data import HELD_OUT_SEED, to_tensor
from aai.tiny.vocabulary import ADVERBS, BACKGROUNDS, COMPOSITIONS, PHENOMENA, caption
from aai.tiny.world import WEIGHTS, World

_GAIN_DB = 10.0
_NUM_NEIGHBOURS = 5
_RENDER_BATCH = 25

RECORDINGS = {
    "fire_crackling": "fire",
    "rain": "rain",
    "sea_waves": "waves",
    "helicopter": "helicopter",
    "clock_tick": "clock",
}
"""Folders of the ESC-10 collection that the tiny world knows, and what it calls them."""


@dataclass(frozen=True)
class Figure:
    """One measured number: what, how much, the least (or, for errors, the most) that is asked, out of how many."""

    what: str
    value: float
    bar: float
    num: int
    lower_is_better: bool = False

    @property
    def reached(self) -> bool:
        """Whether the bar is met."""
        return self.value <= self.bar if self.lower_is_better else self.value >= self.bar


@dataclass(frozen=True)
class Bench:
    """What the figures are taken with; `share` shrinks the numbers of items for a quick look."""

    world: World
    judge: Judge
    share: float = 1.0

    def num(self, full: int, least: int = 1) -> int:
        """So many of something."""
        return max(least, round(full * self.share))

    def read(self, pixels: np.ndarray) -> Reading:
        """The judge's reading of pictures."""
        return self.judge.read(pixels)

    def rendered(self, prompts: Sequence[str], cues: torch.Tensor | None = None) -> np.ndarray:
        """A picture for each prompt, seeds counted from 0."""
        parts = []
        for start in track(range(0, len(prompts), _RENDER_BATCH), "render", transient=True):
            stop = min(start + _RENDER_BATCH, len(prompts))
            batch = None if cues is None else cues[start:stop]
            parts.append(self.world.render(prompts[start:stop], range(start, stop), batch))
        return np.concatenate(parts)


def within(groups: Sequence[str], truth: Sequence[float | int], value: Sequence[float | int]) -> float:
    """Spearman's rank correlation inside each group, averaged over the groups."""
    found = []
    for name in set(groups):
        members = [i for i, group in enumerate(groups) if group == name]
        found.append(spearmanr([truth[i] for i in members], [value[i] for i in members]).statistic)
    return float(np.mean(np.nan_to_num(found)))


def _share(read: torch.Tensor, truth: Sequence[int]) -> float:
    """Share of readings (probabilities, "none" last) whose best name is the true one."""
    return float((read.argmax(dim=1) == torch.tensor(truth)).float().mean())


def score_judge(bench: Bench) -> Iterator[Figure]:
    """The judge against the truth of scenes as they were drawn."""
    scenes = sample_scenes(bench.num(2000, 50), HELD_OUT_SEED)
    reading = bench.read(render(scenes).pixels)
    names = [PHENOMENA.index(s.phenomenon) if s.phenomenon else len(PHENOMENA) for s in scenes]
    places = [BACKGROUNDS.index(s.background) if s.background else len(BACKGROUNDS) for s in scenes]
    ways = [COMPOSITIONS.index(s.composition) for s in scenes]
    yield Figure("judge, real scenes: phenomenon", _share(reading.phenomenon, names), 0.99, len(scenes))
    yield Figure("judge, real scenes: background", _share(reading.background, places), 0.99, len(scenes))
    yield Figure("judge, real scenes: composition", _share(reading.composition, ways), 0.99, len(scenes))
    seen = np.array([s.phenomenon is not None for s in scenes])
    error = np.abs(reading.mean_intensity().numpy() - [s.intensity for s in scenes])[seen]
    yield Figure("judge, real scenes: intensity, mean absolute error", float(error.mean()), 0.06, int(seen.sum()), True)


def score_vae(bench: Bench) -> Iterator[Figure]:
    """Encoder and decoder, without diffusion."""
    pixels = render(sample_scenes(bench.num(500, 20), HELD_OUT_SEED)).pixels
    vae, errors = bench.world.diffusion.pipeline.vae, []
    with torch.inference_mode():
        for start in range(0, len(pixels), 50):
            pictures = to_tensor(pixels[start : start + 50])
            rebuilt = vae.decode(vae.encode(pictures).latent_dist.mean).sample.clamp(-1, 1)
            errors.append(((rebuilt - pictures) ** 2).flatten(1).mean(1) / 4)
    yield Figure("VAE reconstruction, dB", float(-10 * torch.cat(errors).mean().log10()), 26.0, len(pixels))


def score_text(bench: Bench) -> Iterator[Figure]:
    """Plain words in prompts, and adverbs."""
    subjects = [(name, place) for name in PHENOMENA for place in BACKGROUNDS for _ in range(bench.num(4))]
    names, places = [PHENOMENA.index(n) for n, _ in subjects], [BACKGROUNDS.index(p) for _, p in subjects]
    for way, bars in (("noun", (0.99,)), ("verb", (0.98, 0.95)), ("adjective", (0.95, 0.97))):
        reading = bench.read(bench.rendered([caption(way, name, place) for name, place in subjects]))
        yield Figure(f"text, {way}: phenomenon", _share(reading.phenomenon, names), bars[0], len(names))
        if len(bars) > 1:
            yield Figure(f"text, {way}: background", _share(reading.background, places), bars[1], len(names))
    asked = [(name, level) for name in PHENOMENA for level in range(len(ADVERBS)) for _ in range(bench.num(6, 2))]
    reading = bench.read(bench.rendered([caption("noun", f"{ADVERBS[level]} {name}") for name, level in asked]))
    rank = within([name for name, _ in asked], [level for _, level in asked], reading.mean_intensity().tolist())
    yield Figure("text, graded adverbs: Spearman of asked and judged intensity", rank, 0.92, len(asked))


def score_retrieval(bench: Bench) -> Iterator[Figure]:
    """Audio to image, among scenes of all compositions."""
    scenes, vectors = _gallery(bench)
    clips = _clips(bench, 60)
    waves = [clip.wave() for clip in clips]
    rng = np.random.default_rng(HELD_OUT_SEED)
    louder = [np.clip(w * 10 ** (rng.normal(0, _GAIN_DB) / 20), -1, 1).astype(np.float32) for w in waves]
    for label, heard, bars in (("", waves, (0.98, 0.93)), (", gain of 10 dB deviation", louder, (0.95, 0.88))):
        best = (bench.world.hear(heard) @ vectors.T).topk(_NUM_NEIGHBOURS, dim=1).indices.tolist()
        first = np.mean([scenes[row[0]].phenomenon == clip.phenomenon for row, clip in zip(best, clips, strict=True)])
        levels = [np.mean([scenes[i].intensity for i in row]) for row in best]
        rank = within([c.phenomenon for c in clips], [c.intensity for c in clips], levels)
        yield Figure(f"audio to image{label}: R@1 by phenomenon", float(first), bars[0], len(clips))
        yield Figure(f"audio to image{label}: Spearman of intensity, top 5", rank, bars[1], len(clips))


def score_cues(bench: Bench) -> Iterator[Figure]:
    """The mapper's cues in the three uses."""
    clips = _clips(bench, 20)
    cues = bench.world.cues(bench.world.hear([clip.wave() for clip in clips]))
    names, levels = [PHENOMENA.index(c.phenomenon) for c in clips], [c.intensity for c in clips]
    for way, bars in (("noun", (0.98, 0.88)), ("verb", (0.97, 0.75)), ("adjective", (0.93, 0.55))):
        prompts = [caption(way, background=BACKGROUNDS[i % len(BACKGROUNDS)]) for i in range(len(clips))]
        reading = bench.read(bench.rendered(prompts, cues))
        rank = within([c.phenomenon for c in clips], levels, reading.mean_intensity().tolist())
        yield Figure(f"cues, {way}: phenomenon", _share(reading.phenomenon, names), bars[0], len(clips))
        yield Figure(f"cues, {way}: Spearman of intensity", rank, bars[1], len(clips))


def score_recordings(bench: Bench, folder: Path) -> Iterator[Figure]:
    """Real recordings of five of the phenomena: the phenomenon of the nearest scene."""
    scenes, vectors = _gallery(bench)
    truth, waves = [], []
    for name, phenomenon in RECORDINGS.items():
        for path in sorted((folder / name).glob("*.ogg")):
            waves.append(_load(path))
            truth.append(phenomenon)
    best = (bench.world.hear(waves) @ vectors.T).argmax(dim=1).tolist()
    right = np.array([scenes[i].phenomenon == name for i, name in zip(best, truth, strict=True)])
    yield Figure("real recordings: phenomenon of the nearest scene", float(right.mean()), 0.75, len(truth))


def _load(path: Path) -> np.ndarray:
    recording = decode(path.read_bytes(), str(path), AudioOptions())
    return resample(to_mono(recording.samples), recording.rate_hz, SAMPLE_RATE_HZ)


def _gallery(bench: Bench) -> tuple[list[Scene], torch.Tensor]:
    scenes = sample_scenes(bench.num(2000, 500), HELD_OUT_SEED)
    return scenes, bench.world.see(render(scenes).pixels)


def _clips(bench: Bench, num_each: int) -> list[Clip]:
    """Held-out clips, as many of each phenomenon."""
    num = bench.num(num_each, 4)
    drawn = sample_clips(num * len(PHENOMENA) * 3, HELD_OUT_SEED)
    return [clip for name in PHENOMENA for clip in [c for c in drawn if c.phenomenon == name][:num]]


PARTS: dict[str, Callable[[Bench], Iterator[Figure]]] = {
    "judge": score_judge,
    "vae": score_vae,
    "text": score_text,
    "retrieval": score_retrieval,
    "cues": score_cues,
}


def main() -> None:
    """Print the table; the exit code is 1 when a bar is missed."""
    example = "example: python -m aai.tiny.score --recordings ESC-10 --json scores.json"
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0], epilog=example)
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    parser.add_argument("--recordings", type=Path, help="folder of real recordings, one folder per ESC-10 class")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS), help="measure only these")
    parser.add_argument("--share", type=float, default=1.0, help="share of the items, for a quick look (default: 1)")
    parser.add_argument(
        "--weights", type=Path, default=WEIGHTS, help="folder of the models (default: the shipped ones)"
    )
    options = parser.parse_args()
    if options.recordings and not any((options.recordings / name).is_dir() for name in RECORDINGS):
        sys.exit(f"score: {options.recordings} has none of the folders {', '.join(RECORDINGS)}")
    bench = Bench(World(options.weights), Judge.load(options.weights / "judge"), options.share)
    figures = [figure for part in options.parts for figure in PARTS[part](bench)]
    if options.recordings:
        figures += score_recordings(bench, options.recordings)
    show(figures)
    if options.json:
        options.json.write_text(json.dumps([vars(f) | {"reached": f.reached} for f in figures], indent=1) + "\n")
    sys.exit(not all(figure.reached for figure in figures))


def show(figures: list[Figure]) -> None:
    """Print figures as a table."""
    table = Table("what", "measured", "asked", "items", "")
    for figure in figures:
        sign = "<=" if figure.lower_is_better else ">="
        mark = "" if figure.reached else "missed"
        table.add_row(figure.what, f"{figure.value:.3f}", f"{sign} {figure.bar:g}", str(figure.num), mark)
    Console(width=110).print(table)


if __name__ == "__main__":
    main()
