"""Quality and speed of generation, edits, stylisation and blends in the tiny world, scored by its judge.

    python bench/inject.py [--share 0.2] [--only edits photos]

Clips, scenes and seeds are held out from training. Cues are the output of the shipped mapper. Photos are ground-truth
scenes without a phenomenon; the ground-truth mask of the phenomenon is known.
"""

import argparse
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import combinations
from multiprocessing import get_context
from unittest.mock import patch

import numpy as np
import torch
from diffusers import StableDiffusionPipeline
from jaxtyping import Bool, Float, UInt8
from scipy.ndimage import distance_transform_edt
from scipy.stats import spearmanr

from aai.cues.interpolate import between
from aai.edit.composite import finish
from aai.edit.editor import Editor, EditRequest, EditResult, Photos
from aai.edit.options import STYLISED, EditOptions
from aai.edit.trajectories import InversionCache
from aai.metrics import mean_rank_correlation
from aai.models.diffusion import Diffusion
from aai.tiny.canvas import SIZE_PX
from aai.tiny.clips import Clip, sample_clips
from aai.tiny.judge import load_judge
from aai.tiny.scenes import Scene, background_of
from aai.tiny.scenes import render as paint
from aai.tiny.score import Bench, Figure, show
from aai.tiny.vocabulary import BACKGROUNDS, PHENOMENA, caption
from aai.tiny.world import RENDER, WEIGHTS, World

LOCAL = ("fire", "waterfall", "tornado", "helicopter", "clock", "fireworks", "waves")
"""Phenomena that cover a part of the picture."""

SEED = 90_210
NEAR_PX, BATCH_SIZE, BLEND_STEPS = 4, 16, 8
NO_TARGET = 0.0

Pictures = UInt8[np.ndarray, "pictures height width 3"]
Mask = Bool[np.ndarray, "pictures height width"]


@dataclass(frozen=True)
class Clips:
    """Clips with their cues and a background for each."""

    sounds: list[Clip]
    cues: torch.Tensor
    backgrounds: list[str]

    @property
    def names(self) -> list[str]:
        """The phenomenon of each clip."""
        return [clip.phenomenon for clip in self.sounds]

    @property
    def levels(self) -> list[float]:
        """The intensity of each clip."""
        return [clip.intensity for clip in self.sounds]

    def prompts(self, composition: str) -> list[str]:
        """A prompt for each clip's background in a composition."""
        return [caption(composition, background=background) for background in self.backgrounds]

    @property
    def are_local(self) -> Bool[np.ndarray, " clips"]:
        """Whether each clip's phenomenon covers a part of the picture."""
        return np.isin(self.names, LOCAL)


def sample(bench: Bench, num_each: int) -> Clips:
    """Held-out clips, the same number of each phenomenon; the backgrounds rotate."""
    num = bench.num(num_each, 4)
    drawn = sample_clips(num * len(PHENOMENA) * 3, SEED)
    clips = [clip for name in PHENOMENA for clip in [c for c in drawn if c.phenomenon == name][:num]]
    cues = bench.world.cues(bench.world.embed_clips([clip.wave() for clip in clips]))
    return Clips(clips, cues, [BACKGROUNDS[number % len(BACKGROUNDS)] for number in range(len(clips))])


def judge_accuracy(
    bench: Bench, what: str, clips: Clips, pixels: Pictures, targets: tuple[float, float] = (NO_TARGET, NO_TARGET)
) -> Iterator[Figure]:
    """The judge's accuracy for phenomenon and background."""
    reading, num = bench.read(pixels), len(pixels)
    phenomena = [PHENOMENA.index(name) for name in clips.names]
    backgrounds = [BACKGROUNDS.index(name) for name in clips.backgrounds]
    is_right = reading.phenomenon.argmax(1).numpy() == phenomena, reading.background.argmax(1).numpy() == backgrounds
    yield Figure(f"{what}: phenomenon", float(is_right[0].mean()), targets[0], num)
    yield Figure(f"{what}: background", float(is_right[1].mean()), targets[1], num)


def intensity(bench: Bench, what: str, clips: Clips, pixels: Pictures, target: float = NO_TARGET) -> Figure:
    """Rank correlation of the clips' intensity and the judged one, within phenomena."""
    judged = bench.read(pixels).mean_intensity().numpy()
    rank = mean_rank_correlation(clips.names, np.array(clips.levels), judged)
    return Figure(f"{what}: intensity, Spearman", rank, target, len(judged))


def psnr_of(what: str, first: Pictures, second: Pictures, mask: Mask, target: float = NO_TARGET) -> Figure:
    """PSNR over the pixels of a mask, of all pictures together."""
    error = ((first.astype(float) - second) ** 2).mean(-1)[mask].mean()
    psnr = float(10 * np.log10(255**2 / error)) if error else float("inf")
    return Figure(f"{what}, dB", psnr, target, int(mask.any((1, 2)).sum()))


def edit(
    bench: Bench,
    clips: Clips,
    composition: str,
    options: EditOptions,
    photos: Pictures | None = None,
    masks: Float[np.ndarray, "pictures height width"] | None = None,
) -> EditResult:
    """One edit per clip: of a generated source, or of its photo."""
    editor, inversions, parts = Editor(bench.world.diffusion, RENDER, options), InversionCache(), []
    sources, prompts = clips.prompts("background"), clips.prompts(composition)
    for first in range(0, len(prompts), BATCH_SIZE):
        batch = slice(first, first + BATCH_SIZE)
        seeds = list(range(SEED + first, SEED + first + len(prompts[batch])))
        cues = None if composition == "background" else clips.cues[batch]
        request = EditRequest(sources[batch], prompts[batch], seeds, cues, [""] * len(seeds))
        if photos is None:
            parts.append(editor.from_prompts(request))
        else:
            own_masks = None if masks is None else masks[batch]
            own_photos = Photos(photos[batch], seeds, list(range(len(seeds))), own_masks)
            parts.append(editor.from_photos(request, own_photos, inversions))
    names = ("pictures", "sources", "masks")
    return EditResult(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))


def composited(
    sources: Pictures, result: EditResult, masks: Float[np.ndarray, "pictures height width"] | None = None
) -> Pictures:
    """Edits composited into their sources."""
    parts = zip(sources, result.pictures, result.sources, result.masks, strict=True)
    own_masks = [None] * len(sources) if masks is None else list(masks)
    return np.stack([finish(*part, EditOptions(), mask) for part, mask in zip(parts, own_masks, strict=True)])


def full_size(masks: Float[np.ndarray, "pictures h w"]) -> Mask:
    """Masks of latents as masks of pixels."""
    factor = SIZE_PX // masks.shape[1]
    return np.repeat(np.repeat(masks > 0.5, factor, 1), factor, 2)


def nouns(bench: Bench) -> Iterator[Figure]:
    """`a photo of *`."""
    clips = sample(bench, 20)
    pixels = bench.rendered([caption("noun")] * len(clips.sounds), clips.cues)
    yield next(judge_accuracy(bench, "noun", clips, pixels, (0.98, NO_TARGET)))
    yield intensity(bench, "noun", clips, pixels, 0.85)


def edits(bench: Bench) -> Iterator[Figure]:
    """`a * city` as an edit of `a city` with the same seed, and as plain text-to-image."""
    clips = sample(bench, 10)
    result = edit(bench, clips, "verb", EditOptions())
    pixels, outside = composited(result.sources, result), ~full_size(result.masks)
    yield from judge_accuracy(bench, "verb, edit", clips, pixels, (0.95, 0.97))
    yield intensity(bench, "verb, edit", clips, pixels, 0.7)
    yield psnr_of("verb, edit: outside its mask, before the composite", result.pictures, result.sources, outside, 30)
    yield psnr_of("verb, edit: outside its mask, after it", pixels, result.sources, outside, 30)
    plain = bench.rendered(clips.prompts("verb"), clips.cues)
    unshared = edit(bench, clips, "verb", EditOptions(preserve="none", cross_fraction=0, self_fraction=0))
    yield psnr_of("verb, prompt alone: outside the edit's mask", unshared.pictures, result.sources, outside)
    yield from judge_accuracy(bench, "verb, prompt alone", clips, plain)
    yield intensity(bench, "verb, prompt alone", clips, plain)
    for name, own in [("", clips.are_local), *((f", {name}", np.array(clips.names) == name) for name in LOCAL)]:
        share = float(result.masks[own].mean())
        yield Figure(f"verb, edit: mask's share of the picture, local{name}", share, 0.6, int(own.sum()), True)


def photos(bench: Bench) -> Iterator[Figure]:
    """`a * city` as an edit of a photo of a city: both inversions, with a computed mask and with the true one."""
    clips = sample(bench, 8)
    pairs = enumerate(zip(clips.sounds, clips.backgrounds, strict=True), start=SEED)
    scenes = [Scene("verb", clip.phenomenon, place, clip.intensity, seed) for seed, (clip, place) in pairs]
    pixels, truth = paint([background_of(scene) for scene in scenes]).pixels, paint(scenes).mask
    far = np.stack([distance_transform_edt(~mask) > NEAR_PX if mask.any() else ~mask for mask in truth])
    far &= clips.are_local[:, None, None]
    for inversion in ("direct", "virtual"):
        options = EditOptions(inversion=inversion)
        for named, masks in (("", None), (", mask given", truth.astype(np.float32))):
            what = f"photo, {inversion}{named}"
            result = edit(bench, clips, "verb", options, pixels, masks)
            edited = composited(pixels, result, masks)
            if masks is None:
                yield psnr_of(f"{what}: reconstruction", result.sources, pixels, np.ones_like(truth), 28)
                kept = edit(bench, clips, "background", options, pixels)
                yield psnr_of(f"{what}: edit that says nothing", kept.pictures, pixels, np.ones_like(truth))
            yield from judge_accuracy(bench, what, clips, edited, (0.9, 0.95))
            yield intensity(bench, what, clips, edited)
            near = f"{what}: outside truth + {NEAR_PX} px"
            asked = (NO_TARGET, NO_TARGET) if masks is None else (24, 35)
            yield psnr_of(f"{near}, before the composite", result.pictures, pixels, far, asked[0])
            yield psnr_of(f"{near}, after it", edited, pixels, far, asked[1])


def adjectives(bench: Bench) -> Iterator[Figure]:
    """`a forest in the style of *`: text-to-image, and as a stylisation of a generated source and of a photo."""
    clips, options = sample(bench, 8), EditOptions(**STYLISED)
    pixels = bench.rendered(clips.prompts("adjective"), clips.cues)
    scenes = [Scene("background", None, place, 0.0, SEED + number) for number, place in enumerate(clips.backgrounds)]
    photos, mixing = paint(scenes).pixels, EditOptions(**STYLISED | {"inversion": "virtual"})
    of_source = edit(bench, clips, "adjective", options)
    of_photo = edit(bench, clips, "adjective", options, photos)
    of_mixed = edit(bench, clips, "adjective", mixing, photos)
    for what, result in (
        ("prompt alone", pixels),
        ("of a generated source", of_source.pictures),
        ("of a photo", of_photo.pictures),
        ("of a photo, virtual", of_mixed.pictures),
    ):
        yield from judge_accuracy(bench, f"adjective, {what}", clips, result, (0.95, 0.97))
        yield intensity(bench, f"adjective, {what}", clips, result)


def strengths(bench: Bench) -> Iterator[Figure]:
    """`a photo of *:0.5`: strengths from 0.25 to 1.25."""
    clips = sample(bench, 6)
    for strength in (0.25, 0.5, 0.75, 1.0, 1.25):
        pixels = bench.rendered([f"{caption('noun')}:{strength}"] * len(clips.sounds), clips.cues)
        yield next(judge_accuracy(bench, f"noun, strength {strength}", clips, pixels))
        judged = float(bench.read(pixels).mean_intensity().mean())
        yield Figure(f"noun, strength {strength}: mean judged intensity", judged, NO_TARGET, len(pixels))


def blends(bench: Bench) -> Iterator[Figure]:
    """From a weak clip (intensity below 1/3) to a strong one of its phenomenon, in eight pictures with one seed."""
    clips = sample(bench, 24)
    dims, ends = bench.world.diffusion.cue_dims, []
    for name in PHENOMENA:
        own = [(level, number) for number, level in enumerate(clips.levels) if clips.names[number] == name]
        weak, strong = [n for level, n in own if level < 1 / 3], [n for level, n in own if level > 2 / 3]
        ends += list(zip(weak, strong, strict=False))[: bench.num(5, 2)]
    ats = np.linspace(0, 1, BLEND_STEPS)
    cues = torch.stack([between(clips.cues[a], clips.cues[b], at, dims) for a, b in ends for at in ats.tolist()])
    prompts, seeds = [caption("noun")] * BATCH_SIZE, [SEED + number // BLEND_STEPS for number in range(len(cues))]
    parts = []
    for first in range(0, len(cues), BATCH_SIZE):
        some = cues[first : first + BATCH_SIZE]
        parts.append(bench.world.render(prompts[: len(some)], seeds[first : first + BATCH_SIZE], some))
    judged = bench.read(np.concatenate(parts)).mean_intensity().view(-1, BLEND_STEPS).numpy()
    for slack, target in ((0.0, 0.9), (0.02, NO_TARGET)):
        share = float((np.diff(judged, axis=1) >= -slack).all(1).mean())
        yield Figure(f"blend: judged intensity rises, to {slack:g}, in every step", share, target, len(ends))
    ranks = [spearmanr(ats, row).statistic for row in judged]
    yield Figure("blend: Spearman of position and judged intensity", float(np.mean(ranks)), NO_TARGET, len(ends))


def differences(bench: Bench) -> Iterator[Figure]:
    """Whether the pictures of two clips with one label and seed differ as much as the clips, in intensity and tone."""
    clips, parts = sample(bench, 12), []
    for first in range(0, len(clips.sounds), BATCH_SIZE):
        some = clips.cues[first : first + BATCH_SIZE]
        parts.append(bench.world.render([caption("noun")] * len(some), [SEED] * len(some), some))
    vectors = bench.world.embed_images(np.concatenate(parts)).numpy()
    judged = bench.read(np.concatenate(parts)).mean_intensity().numpy()
    ranks: dict[str, list[float]] = {"embeddings": [], "judged intensity": []}
    for name in PHENOMENA:
        pairs = list(combinations([number for number, own in enumerate(clips.names) if own == name], 2))
        levels = np.array([abs(clips.levels[a] - clips.levels[b]) for a, b in pairs])
        tones = np.array([abs(clips.sounds[a].tone - clips.sounds[b].tone) for a, b in pairs])
        looks = [1 - vectors[a] @ vectors[b] for a, b in pairs], [abs(judged[a] - judged[b]) for a, b in pairs]
        for correlations, apart, values in zip(ranks.values(), (np.hypot(levels, tones), levels), looks, strict=True):
            correlations.append(float(spearmanr(apart, values).statistic))
    for (kind, found), target in zip(ranks.items(), (0.6, NO_TARGET), strict=True):
        yield Figure(
            f"two clips of a label: Spearman of differences, {kind}", float(np.mean(found)), target, len(judged)
        )


def rates(bench: Bench) -> Iterator[Figure]:
    """Pictures per second, against the library's pipeline called once per picture; and independence of the batch."""
    num = bench.num(32, 8)
    with get_context("spawn").Pool(1) as worker:
        baseline = num / worker.apply(time_pipeline, [num])
    render_batches(bench.world, 2, 2)
    yield Figure("pictures/s: StableDiffusionPipeline, one call each, all cores", baseline, NO_TARGET, num)
    for size in (1, BATCH_SIZE):
        found = num / timed(partial(render_batches, bench.world, num, size))
        yield Figure(f"pictures/s: ours, {size} at once, all cores", found, NO_TARGET, num)
        yield Figure(f"the same, over the pipeline's rate, {size} at once", found / baseline, NO_TARGET, num)
    cores = os.cpu_count() or 1
    with get_context("spawn").Pool(cores) as workers:
        found = cores * num / max(workers.map(time_own_process, [num] * cores, chunksize=1))
    yield Figure(f"pictures/s: ours, {BATCH_SIZE} at once, a worker for each core", found, NO_TARGET, cores * num)
    yield Figure("the same, over the pipeline's rate, a worker for each core", found / baseline, 3, cores * num)
    yield from batch_independence(bench)


def timed(call: Callable[[], None]) -> float:
    """Wall time in seconds."""
    started_s = time.perf_counter()
    call()
    return time.perf_counter() - started_s


def time_pipeline(num: int) -> float:
    """Seconds of the library's pipeline. Call it in a separate process, without our settings."""
    library = StableDiffusionPipeline.from_pretrained(WEIGHTS / "pipeline", dtype=torch.float32)
    library.set_progress_bar_config(disable=True)

    def call(seeds: range) -> None:
        for seed in seeds:
            generator, steps, guidance = torch.Generator().manual_seed(seed), RENDER.steps, RENDER.guidance
            library("a photo of rain", num_inference_steps=steps, guidance_scale=guidance, generator=generator)

    call(range(2))
    return timed(partial(call, range(num)))


def render_batches(world: World, num: int, size: int) -> None:
    """Render pictures in batches."""
    for first in range(0, num, size):
        world.render(["a photo of rain"] * size, range(first, first + size))


def time_own_process(num: int) -> float:
    """Seconds to render in a separate process on one core, after loading."""
    torch.set_num_threads(1)
    world = World()
    render_batches(world, 2, 2)
    return timed(partial(render_batches, world, num, BATCH_SIZE))


def batch_independence(bench: Bench) -> Iterator[Figure]:
    """The difference of a picture's latents alone and in a batch."""
    latents: list[torch.Tensor] = []
    decode = Diffusion.decode

    def recording_decode(self: Diffusion, denoised: torch.Tensor) -> Pictures:
        latents.append(denoised)
        return decode(self, denoised)

    with patch.object(Diffusion, "decode", recording_decode):
        bench.world.render(["a photo of rain"] * 32, range(32))
        bench.world.render(["a photo of rain"], [7])
    together, single = latents[0][7], latents[1][0]
    far = float((together - single).abs().max() / single.abs().max())
    yield Figure("a picture alone and among 32: largest relative difference", far, 1e-3, 32, True)


PARTS: dict[str, Callable[[Bench], Iterator[Figure]]] = {
    "nouns": nouns,
    "edits": edits,
    "photos": photos,
    "adjectives": adjectives,
    "strengths": strengths,
    "blends": blends,
    "differences": differences,
    "rates": rates,
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--share", type=float, default=1.0, help="fraction of the numbers of clips (default: 1)")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS), help="parts to measure")
    chosen = parser.parse_args(arguments)
    bench = Bench(World(), load_judge(), chosen.share)
    show([figure for part in chosen.only for figure in PARTS[part](bench)])


if __name__ == "__main__":
    main()
