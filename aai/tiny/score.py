"""Evaluation of the tiny world's models: `python -m aai.tiny.score` prints a table.

All scenes and clips are held out from training; images are classified by the judge, which is independent of the models.
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

from aai.media.audio import AudioOptions, decode, resample, to_mono
from aai.metrics import mean_rank_correlation
from aai.tiny.clips import Clip, sample_clips
from aai.tiny.judge import Judge, Reading
from aai.tiny.scenes import Scene, render, sample_scenes
from aai.tiny.sounds import SAMPLE_RATE_HZ
from aai.tiny.training.data import HELD_OUT_SEED, to_tensor
from aai.tiny.vocabulary import ADVERBS, BACKGROUNDS, COMPOSITIONS, PHENOMENA, TONES, caption
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
"""Classes of ESC-10 that are phenomena of the tiny world."""


@dataclass(frozen=True)
class Figure:
    """A result and its target."""

    what: str
    value: float
    bar: float
    """Target: minimum value, or maximum if lower is better."""
    num: int
    """Number of items."""
    lower_is_better: bool = False

    @property
    def reached(self) -> bool:
        """Whether the target is met."""
        return self.value <= self.bar if self.lower_is_better else self.value >= self.bar


@dataclass(frozen=True)
class Bench:
    """Models under evaluation; `share` scales the number of items, for quick tests."""

    world: World
    judge: Judge
    share: float = 1.0

    def num(self, full: int, minimum: int = 1) -> int:
        """Scaled number of items."""
        return max(minimum, round(full * self.share))

    def read(self, pixels: np.ndarray) -> Reading:
        """The judge's probabilities for images."""
        return self.judge.read(pixels)

    def rendered(self, prompts: Sequence[str], cues: torch.Tensor | None = None) -> np.ndarray:
        """Render one image per prompt, with seeds counted from 0."""
        parts = []
        for start in track(range(0, len(prompts), _RENDER_BATCH), "render", transient=True):
            stop = min(start + _RENDER_BATCH, len(prompts))
            batch = None if cues is None else cues[start:stop]
            parts.append(self.world.render(prompts[start:stop], range(start, stop), batch))
        return np.concatenate(parts)


def _accuracy(probabilities: torch.Tensor, truth: Sequence[int]) -> float:
    """Top-1 accuracy."""
    return float((probabilities.argmax(dim=1) == torch.tensor(truth)).float().mean())


def score_judge(bench: Bench) -> Iterator[Figure]:
    """Accuracy of the judge on ground-truth scenes."""
    scenes = sample_scenes(bench.num(2000, 50), HELD_OUT_SEED)
    reading = bench.read(render(scenes).pixels)
    names = [PHENOMENA.index(s.phenomenon) if s.phenomenon else len(PHENOMENA) for s in scenes]
    backgrounds = [BACKGROUNDS.index(s.background) if s.background else len(BACKGROUNDS) for s in scenes]
    compositions = [COMPOSITIONS.index(s.composition) for s in scenes]
    yield Figure("judge, real scenes: phenomenon", _accuracy(reading.phenomenon, names), 0.99, len(scenes))
    yield Figure("judge, real scenes: background", _accuracy(reading.background, backgrounds), 0.99, len(scenes))
    yield Figure("judge, real scenes: composition", _accuracy(reading.composition, compositions), 0.99, len(scenes))
    has_phenomenon = np.array([s.phenomenon is not None for s in scenes])
    error = np.abs(reading.mean_intensity().numpy() - [s.intensity for s in scenes])[has_phenomenon]
    yield Figure("judge, real scenes: intensity, mean absolute error", float(error.mean()), 0.06, len(error), True)
    error = np.abs(reading.mean_tone().numpy() - [s.tone for s in scenes])[has_phenomenon]
    yield Figure("judge, real scenes: tone, mean absolute error", float(error.mean()), 0.08, len(error), True)


def score_vae(bench: Bench) -> Iterator[Figure]:
    """Reconstruction PSNR of the autoencoder."""
    pixels = render(sample_scenes(bench.num(500, 20), HELD_OUT_SEED)).pixels
    vae, errors = bench.world.diffusion.pipeline.vae, []
    with torch.inference_mode():
        for start in range(0, len(pixels), 50):
            pictures = to_tensor(pixels[start : start + 50])
            rebuilt = vae.decode(vae.encode(pictures).latent_dist.mean).sample.clamp(-1, 1)
            errors.append(((rebuilt - pictures) ** 2).flatten(1).mean(1) / 4)
    yield Figure("VAE reconstruction, dB", float(-10 * torch.cat(errors).mean().log10()), 26.0, len(pixels))


def score_text(bench: Bench) -> Iterator[Figure]:
    """Text-to-image without cues: phenomena, backgrounds and adverbs."""
    pairs = [(name, background) for name in PHENOMENA for background in BACKGROUNDS for _ in range(bench.num(4))]
    names, backgrounds = [PHENOMENA.index(n) for n, _ in pairs], [BACKGROUNDS.index(b) for _, b in pairs]
    for use, bars in (("noun", (0.99,)), ("verb", (0.98, 0.95)), ("adjective", (0.95, 0.97))):
        reading = bench.read(bench.rendered([caption(use, name, background) for name, background in pairs]))
        yield Figure(f"text, {use}: phenomenon", _accuracy(reading.phenomenon, names), bars[0], len(names))
        if len(bars) > 1:
            yield Figure(f"text, {use}: background", _accuracy(reading.background, backgrounds), bars[1], len(names))
    graded = [(name, level) for name in PHENOMENA for level in range(len(ADVERBS)) for _ in range(bench.num(6, 2))]
    reading = bench.read(bench.rendered([caption("noun", f"{ADVERBS[level]} {name}") for name, level in graded]))
    levels = np.array([level for _, level in graded], float)
    rank = mean_rank_correlation([name for name, _ in graded], levels, reading.mean_intensity().numpy())
    yield Figure("text, graded adverbs: Spearman of requested and judged intensity", rank, 0.92, len(graded))
    reading = bench.read(bench.rendered([caption("noun", f"{TONES[level]} {name}") for name, level in graded]))
    rank = mean_rank_correlation([name for name, _ in graded], levels, reading.mean_tone().numpy())
    yield Figure("text, words for tones: Spearman of requested and judged tone", rank, 0.85, len(graded))


def score_retrieval(bench: Bench) -> Iterator[Figure]:
    """Audio-to-image retrieval among scenes of all compositions."""
    scenes, vectors = _gallery(bench)
    clips = _clips(bench, 60)
    waves = [clip.wave() for clip in clips]
    rng = np.random.default_rng(HELD_OUT_SEED)
    louder = [np.clip(w * 10 ** (rng.normal(0, _GAIN_DB) / 20), -1, 1).astype(np.float32) for w in waves]
    for label, audio, bars in (("", waves, (0.98, 0.93)), (", gain of 10 dB deviation", louder, (0.95, 0.88))):
        best = (bench.world.embed_clips(audio) @ vectors.T).topk(_NUM_NEIGHBOURS, dim=1).indices.tolist()
        first = np.mean([scenes[row[0]].phenomenon == clip.phenomenon for row, clip in zip(best, clips, strict=True)])
        levels = np.array([np.mean([scenes[i].intensity for i in row]) for row in best])
        rank = mean_rank_correlation([c.phenomenon for c in clips], np.array([c.intensity for c in clips]), levels)
        yield Figure(f"audio to image{label}: R@1 by phenomenon", float(first), bars[0], len(clips))
        yield Figure(f"audio to image{label}: Spearman of intensity, top 5", rank, bars[1], len(clips))
        tones = np.array([np.mean([scenes[i].tone for i in row]) for row in best])
        rank = mean_rank_correlation([c.phenomenon for c in clips], np.array([c.tone for c in clips]), tones)
        yield Figure(f"audio to image{label}: Spearman of tone, top 5", rank, 0.7, len(clips))


def score_cues(bench: Bench) -> Iterator[Figure]:
    """The mapper's cues as noun, verb and adjective."""
    clips = _clips(bench, 20)
    cues = bench.world.cues(bench.world.embed_clips([clip.wave() for clip in clips]))
    names, levels = [PHENOMENA.index(c.phenomenon) for c in clips], np.array([c.intensity for c in clips])
    for use, bars in (("noun", (0.98, 0.88)), ("verb", (0.97, 0.75)), ("adjective", (0.93, 0.55))):
        prompts = [caption(use, background=BACKGROUNDS[i % len(BACKGROUNDS)]) for i in range(len(clips))]
        reading = bench.read(bench.rendered(prompts, cues))
        rank = mean_rank_correlation([c.phenomenon for c in clips], levels, reading.mean_intensity().numpy())
        yield Figure(f"cues, {use}: phenomenon", _accuracy(reading.phenomenon, names), bars[0], len(clips))
        yield Figure(f"cues, {use}: Spearman of intensity", rank, bars[1], len(clips))
        tones = np.array([c.tone for c in clips])
        rank = mean_rank_correlation([c.phenomenon for c in clips], tones, reading.mean_tone().numpy())
        yield Figure(f"cues, {use}: Spearman of tone", rank, 0.6 if use == "noun" else 0.4, len(clips))


def score_recordings(bench: Bench, folder: Path) -> Iterator[Figure]:
    """Retrieval with real recordings of five phenomena (ESC-10)."""
    scenes, vectors = _gallery(bench)
    truth, waves = [], []
    for name, phenomenon in RECORDINGS.items():
        for path in sorted((folder / name).glob("*.ogg")):
            waves.append(_load(path))
            truth.append(phenomenon)
    best = (bench.world.embed_clips(waves) @ vectors.T).argmax(dim=1).tolist()
    right = np.array([scenes[i].phenomenon == name for i, name in zip(best, truth, strict=True)])
    yield Figure("real recordings: phenomenon of the nearest scene", float(right.mean()), 0.75, len(truth))


def _load(path: Path) -> np.ndarray:
    recording = decode(path.read_bytes(), str(path), AudioOptions())
    return resample(to_mono(recording.samples), recording.rate_hz, SAMPLE_RATE_HZ)


def _gallery(bench: Bench) -> tuple[list[Scene], torch.Tensor]:
    scenes = sample_scenes(bench.num(2000, 500), HELD_OUT_SEED)
    return scenes, bench.world.embed_images(render(scenes).pixels)


def _clips(bench: Bench, num_per_phenomenon: int) -> list[Clip]:
    """Held-out clips, the same number of each phenomenon."""
    num = bench.num(num_per_phenomenon, 4)
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
    """Print the table; the exit code is 1 if a target is missed."""
    example = "example: python -m aai.tiny.score --recordings ESC-10 --json scores.json"
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0], epilog=example)
    parser.add_argument("--json", type=Path, help="also write the results to this file")
    parser.add_argument("--recordings", type=Path, help="folder of ESC-10, with one folder per class")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS), help="evaluate only these")
    parser.add_argument("--share", type=float, default=1.0, help="fraction of the items, for a quick test (default: 1)")
    parser.add_argument(
        "--weights", type=Path, default=WEIGHTS, help="folder of the models (default: those of the package)"
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
    """Print results as a table."""
    table = Table("metric", "result", "target", "items", "")
    for figure in figures:
        sign = "<=" if figure.lower_is_better else ">="
        mark = "" if figure.reached else "missed"
        table.add_row(figure.what, f"{figure.value:.3f}", f"{sign} {figure.bar:g}", str(figure.num), mark)
    Console(width=110).print(table)


if __name__ == "__main__":
    main()
