"""What a mapper that a bank learns is worth, and what refinement adds to it, scored by the tiny world's judge.

    python bench/mapper.py [--methods shipped shipped+adapter] [--num 12] [--steps 600] [--templates "a photo of *"]

The bank is the demo's: its clips, and the images retrieved for them. The clips of the pictures are held out, `num` of
each phenomenon, with a seed for each picture. `learned` is a mapper trained on the bank, `+adapter` refines a mapper
on the images retrieved for the held-out clip, `inversion` is textual inversion on these images, and `words` are plain
words without degrees. `truth` is an upper bound: cues of the words for each clip's true phenomenon, intensity and
tone, so what it lacks is lost in rendering or by the judge. Figures have 95 % intervals, bootstrapped by clip within
phenomena. Differences are paired with those of the first method.
"""

import argparse
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from aai.cues.denoising import ClipToFit
from aai.cues.fit import Fitter, FreeCue
from aai.cues.mapper import CueMapper
from aai.cues.options import FitOptions, TrainMapperOptions
from aai.cues.train_mapper import MapperTraining
from aai.metrics import mean_rank_correlation
from aai.retrieve.neighbours import retrieve
from aai.retrieve.options import RetrieveOptions
from aai.tiny.clips import Clip, sample_clips
from aai.tiny.collection import IMAGE_SHARES, SEED, sample_recordings
from aai.tiny.judge import load_judge
from aai.tiny.scenes import Scene, sample_scenes
from aai.tiny.scenes import render as paint
from aai.tiny.training.diffusion import CaptionSampler
from aai.tiny.vocabulary import BACKGROUNDS, PHENOMENA, caption
from aai.tiny.world import RENDER, World
from tasks.runtime.image_prompts import ImagePrompts, prompts_of
from tasks.stages import make_config

USES = ("noun", "verb", "adjective")
HELD_OUT_SEED, PICTURES_SEED, BATCH = 777_001, 31_337, 20


@dataclass(frozen=True)
class Scores:
    """What the judge reads of each held-out clip's picture in one use."""

    is_right: np.ndarray
    keeps_place: np.ndarray
    level: np.ndarray
    tone: np.ndarray


class Bank:
    """The demo's images and clips, embedded, and held-out clips."""

    def __init__(self, num_each: int, num_images: int, sampler_steps: int) -> None:
        self.world, self.judge, self.sampler_steps = World(), load_judge(), sampler_steps
        pixels = paint(sample_scenes(num_images, SEED, IMAGE_SHARES)).pixels
        self.vectors = self.world.embed_images(pixels).numpy()
        self.latents = self._latents(pixels)
        drawn = sample_clips(num_each * 40, HELD_OUT_SEED)
        self.held_out = [clip for name in PHENOMENA for clip in [c for c in drawn if c.phenomenon == name][:num_each]]

    def _latents(self, pixels: np.ndarray) -> torch.Tensor:
        parts = []
        for first in range(0, len(pixels), 16):
            pictures = torch.from_numpy(pixels[first : first + 16]).permute(0, 3, 1, 2).float() / 127.5 - 1
            parts.append(self.world.diffusion.encode_images(pictures).clone())
        return torch.cat(parts)

    @cached_property
    def seen(self) -> list[ClipToFit]:
        """The demo's clips with the images retrieved for them."""
        return self.with_images([recording.clip for recording in sample_recordings(70)])

    @cached_property
    def fresh(self) -> list[ClipToFit]:
        """The held-out clips with the images retrieved for them."""
        return self.with_images(self.held_out)

    def with_images(self, clips: Sequence[Clip]) -> list[ClipToFit]:
        """Clips and the images that the profile's retrieval finds."""
        aligned = self.world.embed_clips([clip.wave() for clip in clips]).clone()
        found = retrieve(
            aligned.numpy(), self._search, lambda numbers: self.vectors[numbers], make_config().options(RetrieveOptions)
        )
        return [
            ClipToFit(f"{number:032x}", vector, self.latents[own.numbers], tuple(map(str, own.numbers)))
            for number, (vector, own) in enumerate(zip(aligned, found, strict=True))
        ]

    def _search(self, queries: np.ndarray, num: int) -> tuple[np.ndarray, np.ndarray]:
        cosines = queries @ self.vectors.T
        order = np.argsort(-cosines, axis=1)[:, :num]
        return order, np.take_along_axis(cosines, order, axis=1)

    def train(self, changes: Mapping[str, Any], templates: tuple[str, ...] | None) -> CueMapper:
        """A mapper as `train_mapper` learns it, or one under fixed templates with equal chances."""
        config = make_config(train_mapper={"method": "learned", **changes})
        options, clips, images = config.options(TrainMapperOptions), self.seen, self.images
        if templates is None:
            weights = torch.from_numpy(ImagePrompts(config)(self.vectors))
            clips, images = ([_weighted(each, weights) for each in own] for own in (clips, images))
        options = options.model_copy(update={"templates": templates or prompts_of(config)})
        start = self.world.diffusion.word_embeddings(options.start_words).mean(0, keepdim=True).float()
        start = start.expand(options.num_tokens, -1).clone()
        training = MapperTraining(self.world.diffusion, clips, start, options, config.seed, images=images)
        training.run(options.steps)
        return training.result()

    @property
    def images(self) -> list[ClipToFit]:
        """All images as those that stand for clips, as `train_mapper` takes them where they are few enough."""
        pairs = zip(torch.from_numpy(self.vectors), self.latents, strict=True)
        return [ClipToFit(f"image {n}", vector, own[None], (str(n),)) for n, (vector, own) in enumerate(pairs)]

    def cues(self, network: torch.nn.Module) -> torch.Tensor:
        """The network's cues of the held-out clips."""
        with torch.inference_mode():
            return network(torch.stack([clip.aligned for clip in self.fresh]))

    def refined(self, network: torch.nn.Module, options: FitOptions) -> torch.Tensor:
        """The cues fitted on the images of each held-out clip."""
        fitted = {cue.clip_id: cue.vector for cue in Fitter(self.world.diffusion, network, options, 0).fit(self.fresh)}
        return torch.stack([fitted[clip.clip_id] for clip in self.fresh])

    @torch.inference_mode()
    def true_cues(self) -> torch.Tensor:
        """Cues of the held-out clips' true phenomena, and of words interpolated at their true intensity and tone."""
        pipeline = self.world.diffusion.pipeline
        words = CaptionSampler(pipeline.tokenizer, pipeline.text_encoder.get_input_embeddings())
        scenes = [Scene("noun", clip.phenomenon, intensity=clip.intensity, tone=clip.tone) for clip in self.held_out]
        return words.vectors(scenes).float()

    def score(self, cues: torch.Tensor | None) -> dict[str, Scores]:
        """Pictures of each use, or those of plain words, as the judge reads them."""
        return {use: self._score(use, number, cues) for number, use in enumerate(USES)}

    def _score(self, use: str, number: int, cues: torch.Tensor | None) -> Scores:
        places = [BACKGROUNDS[index % len(BACKGROUNDS)] for index in range(len(self.held_out))]
        subjects = ["*"] * len(places) if cues is not None else [clip.phenomenon for clip in self.held_out]
        prompts = [caption(use, subject, place) for subject, place in zip(subjects, places, strict=True)]
        seeds = range(PICTURES_SEED + 1_000 * number, PICTURES_SEED + 1_000 * number + len(prompts))
        options, parts = RENDER.model_copy(update={"steps": self.sampler_steps}), []
        for first in range(0, len(prompts), BATCH):
            part = slice(first, first + BATCH)
            parts.append(self.world.render(prompts[part], seeds[part], None if cues is None else cues[part], options))
        reading = self.judge.read(np.concatenate(parts))
        names = [PHENOMENA.index(clip.phenomenon) for clip in self.held_out]
        is_there = reading.background.argmax(1).numpy() == [BACKGROUNDS.index(place) for place in places]
        kept = is_there.astype(float) if use != "noun" else np.full(len(places), np.nan)  # a noun has no place
        is_right, levels = reading.phenomenon.argmax(1).numpy() == names, reading.mean_intensity().numpy()
        return Scores(is_right, kept, levels, reading.mean_tone().numpy())


def _weighted(clip: ClipToFit, weights: torch.Tensor) -> ClipToFit:
    return replace(clip, weights=weights[[int(image_id) for image_id in clip.image_ids]])


Statistic = Callable[[np.ndarray], float]
"""Of the clips with these numbers."""


def statistics(bank: Bank, scores: Scores) -> dict[str, Statistic]:
    """The figures of one method and use, for any selection of clips."""
    names = np.array([clip.phenomenon for clip in bank.held_out])
    levels, tones = (np.array([getattr(c, what) for c in bank.held_out]) for what in ("intensity", "tone"))
    return {
        "phenomenon": lambda own: float(scores.is_right[own].mean()),
        "background": lambda own: float(scores.keeps_place[own].mean()),
        "intensity": lambda own: mean_rank_correlation(list(names[own]), levels[own], scores.level[own]),
        "tone": lambda own: mean_rank_correlation(list(names[own]), tones[own], scores.tone[own]),
        "slope": lambda own: float(np.polyfit(levels[own], scores.level[own], 1)[0]),
        "bias": lambda own: float((scores.level[own] - levels[own]).mean()),
    }


def resampled(bank: Bank, num: int = 500) -> list[np.ndarray]:
    """Bootstrap selections of clips, drawn within phenomena."""
    rng, names = np.random.default_rng(0), np.array([clip.phenomenon for clip in bank.held_out])
    groups = [np.flatnonzero(names == name) for name in PHENOMENA]
    return [np.concatenate([rng.choice(group, len(group)) for group in groups]) for _ in range(num)]


def cell(value: float, draws: Sequence[float]) -> str:
    """A value with its 95 % interval; nothing where it is undefined."""
    if np.isnan(value):
        return ""
    low, high = np.nanpercentile(draws, [2.5, 97.5])
    return f"{value:.3f} [{low:.3f}, {high:.3f}]"


def show(bank: Bank, found: dict[str, dict[str, Scores]], took_s: dict[str, float]) -> None:
    """Print all figures, and the differences from the first method."""
    every, selections, first = np.arange(len(bank.held_out)), resampled(bank), next(iter(found))
    table = Table("method", "use", "phenomenon", "background", "intensity", "tone", "slope", "bias", "processor s/clip")
    paired = Table(f"minus {first}", "use", "phenomenon", "background", "intensity", "tone", "slope", "bias")
    for method, uses in found.items():
        for use, scores in uses.items():
            own, base = statistics(bank, scores), statistics(bank, found[first][use])
            cells = [cell(figure(every), [figure(draw) for draw in selections]) for figure in own.values()]
            table.add_row(method, use, *cells, f"{took_s[method]:.3f}")
            if method != first:
                differences = [
                    cell(figure(every) - base[name](every), [figure(draw) - base[name](draw) for draw in selections])
                    for name, figure in own.items()
                ]
                paired.add_row(method, use, *differences)
    Console(width=170).print(table, paired)


def cues_of(bank: Bank, method: str, network: CueMapper, args: argparse.Namespace) -> torch.Tensor | None:
    """The held-out clips' cues by a method; none for plain words."""
    if method == "words":
        return None
    if method == "truth":
        return bank.true_cues()
    if method == "inversion":
        start = bank.world.diffusion.word_embeddings(PHENOMENA).mean(0, keepdim=True).float().expand(2, -1).clone()
        return bank.refined(FreeCue(start), FitOptions(steps=args.inversion_steps, learning_rate=0.1, prior_weight=0.0))
    if method.endswith("adapter"):
        return bank.refined(network, FitOptions(steps=args.fit_steps))
    return bank.cues(network)


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = ("shipped", "learned", "learned+adapter", "shipped+adapter", "inversion", "words", "truth")
    parser.add_argument("--methods", nargs="+", choices=names, default=list(names))
    parser.add_argument("--num", type=int, default=12, help="held-out clips of each phenomenon")
    parser.add_argument("--images", type=int, default=2_000, help="images of the bank")
    parser.add_argument("--steps", type=int, default=600, help="training steps of the mapper")
    parser.add_argument("--templates", nargs="+", help="train under these with equal chances, whatever images show")
    parser.add_argument("--image-share", type=float, default=0.5, help="share of samples whose image is the clip")
    parser.add_argument("--sampler-steps", type=int, default=16)
    parser.add_argument("--fit-steps", type=int, default=8)
    parser.add_argument("--inversion-steps", type=int, default=48)
    args = parser.parse_args()
    bank, found, took_s, learned = Bank(args.num, args.images, args.sampler_steps), {}, {}, None
    assert bank.fresh, "held-out clips are embedded before anything is timed"
    for method in args.methods:
        if learned is None and method.startswith("learned"):
            learned = bank.train(
                {"steps": args.steps, "image_share": args.image_share}, args.templates and tuple(args.templates)
            )
        network = learned if method.startswith("learned") else bank.world.mapper
        started_s = time.process_time()
        cues = cues_of(bank, method, network, args)
        took_s[method] = (time.process_time() - started_s) / len(bank.held_out)
        found[method] = bank.score(cues)
        show(bank, found, took_s)


if __name__ == "__main__":
    main()
