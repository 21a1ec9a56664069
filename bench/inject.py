"""What nouns, edits, restyled pictures and blends come to in the tiny world, read by its judge, and how fast they are.

    python bench/inject.py [--share 0.2] [--only edits photos]

Clips, scenes and seeds are held out: no model was trained on them. Cues are the shared mapper's. Photos are scenes as
they are painted, without a phenomenon; where a painter would put one into them is known, too.
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
from aai.edit.editor import Edited, Editor, Photos, Wanted
from aai.edit.options import STYLISED, EditOptions
from aai.edit.trajectories import Inversions
from aai.models.diffusion import Diffusion
from aai.tiny.canvas import SIZE_PX
from aai.tiny.clips import Clip, sample_clips
from aai.tiny.judge import load_judge
from aai.tiny.scenes import Scene, background_of
from aai.tiny.scenes import render as paint
from aai.tiny.score import Bench, Figure, show, within
from aai.tiny.vocabulary import BACKGROUNDS, PHENOMENA, caption
from aai.tiny.world import RENDER, WEIGHTS, World

LOCAL = ("fire", "waterfall", "tornado", "helicopter", "clock", "fireworks", "waves")
"""Phenomena that cover a part of a picture."""

SEED = 90_210
NEAR_PX, AT_ONCE, BLEND_STEPS = 4, 16, 8
NONE = 0.0  # where nothing is asked

Pictures = UInt8[np.ndarray, "pictures height width 3"]
Where = Bool[np.ndarray, "pictures height width"]


@dataclass(frozen=True)
class Heard:
    """Clips with their cues, and where each of them is to be seen."""

    clips: list[Clip]
    cues: torch.Tensor
    places: list[str]

    @property
    def names(self) -> list[str]:
        """What the clips are of."""
        return [clip.phenomenon for clip in self.clips]

    @property
    def levels(self) -> list[float]:
        """How intense they are."""
        return [clip.intensity for clip in self.clips]

    def prompts(self, way: str) -> list[str]:
        """Captions of the places, with or without cues."""
        return [caption(way, background=place) for place in self.places]

    @property
    def are_local(self) -> Bool[np.ndarray, " clips"]:
        """Which of them cover a part of a picture."""
        return np.isin(self.names, LOCAL)


def hear(bench: Bench, num_each: int) -> Heard:
    """Held-out clips, as many of each phenomenon, in all places in turn."""
    num = bench.num(num_each, 4)
    drawn = sample_clips(num * len(PHENOMENA) * 3, SEED)
    clips = [clip for name in PHENOMENA for clip in [c for c in drawn if c.phenomenon == name][:num]]
    cues = bench.world.cues(bench.world.hear([clip.wave() for clip in clips]))
    return Heard(clips, cues, [BACKGROUNDS[number % len(BACKGROUNDS)] for number in range(len(clips))])


def judged(
    bench: Bench, what: str, heard: Heard, pixels: Pictures, bars: tuple[float, float] = (NONE, NONE)
) -> Iterator[Figure]:
    """Whether phenomenon and place are seen."""
    reading, num = bench.read(pixels), len(pixels)
    names, places = (
        [known.index(each) for each in each_of]
        for known, each_of in ((PHENOMENA, heard.names), (BACKGROUNDS, heard.places))
    )
    seen = reading.phenomenon.argmax(1).numpy(), reading.background.argmax(1).numpy()
    yield Figure(f"{what}: phenomenon", float((seen[0] == names).mean()), bars[0], num)
    yield Figure(f"{what}: background", float((seen[1] == places).mean()), bars[1], num)


def intensity(bench: Bench, what: str, heard: Heard, pixels: Pictures, bar: float = NONE) -> Figure:
    """Whether what sounds more intense looks so."""
    seen = bench.read(pixels).mean_intensity().tolist()
    return Figure(f"{what}: intensity, Spearman", within(heard.names, heard.levels, seen), bar, len(seen))


def decibels(what: str, first: Pictures, second: Pictures, where: Where, bar: float = NONE) -> Figure:
    """PSNR over some pixels of all pictures."""
    error = ((first.astype(float) - second) ** 2).mean(-1)[where].mean()
    psnr = float(10 * np.log10(255**2 / error)) if error else float("inf")
    return Figure(f"{what}, dB", psnr, bar, int(where.any((1, 2)).sum()))


def made_of(
    bench: Bench,
    heard: Heard,
    way: str,
    options: EditOptions,
    photos: Pictures | None = None,
    masks: Float[np.ndarray, "pictures height width"] | None = None,
) -> Edited:
    """Each clip's edit of a generated source, or of its photo."""
    editor, inversions, parts = Editor(bench.world.diffusion, RENDER, options), Inversions(), []
    sources, prompts = heard.prompts("background"), heard.prompts(way)
    for first in range(0, len(prompts), AT_ONCE):
        some = slice(first, first + AT_ONCE)
        seeds = list(range(SEED + first, SEED + first + len(prompts[some])))
        cues = None if way == "background" else heard.cues[some]
        wanted = Wanted(sources[some], prompts[some], seeds, cues, [""] * len(seeds))
        if photos is None:
            parts.append(editor.from_prompts(wanted))
        else:
            given = None if masks is None else masks[some]
            own = Photos(photos[some], seeds, list(range(len(seeds))), given)
            parts.append(editor.from_photos(wanted, own, inversions))
    names = ("pictures", "sources", "masks")
    return Edited(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))


def whole(
    photos: Pictures, made: Edited, allowed: Float[np.ndarray, "pictures height width"] | None = None
) -> Pictures:
    """Edits put back into what they are made from."""
    parts = zip(photos, made.pictures, made.sources, made.masks, strict=True)
    given = [None] * len(photos) if allowed is None else list(allowed)
    return np.stack([finish(*each, EditOptions(), mask) for each, mask in zip(parts, given, strict=True)])


def full_size(masks: Float[np.ndarray, "pictures h w"]) -> Where:
    """Masks of latents as masks of pixels."""
    each = SIZE_PX // masks.shape[1]
    return np.repeat(np.repeat(masks > 0.5, each, 1), each, 2)


def nouns(bench: Bench) -> Iterator[Figure]:
    """`a photo of *`."""
    heard = hear(bench, 20)
    pixels = bench.rendered([caption("noun")] * len(heard.clips), heard.cues)
    yield next(judged(bench, "noun", heard, pixels, (0.98, NONE)))
    yield intensity(bench, "noun", heard, pixels, 0.85)


def edits(bench: Bench) -> Iterator[Figure]:
    """`a * city`, made from `a city` with the same seed; beside the prompt alone."""
    heard = hear(bench, 10)
    made = made_of(bench, heard, "verb", EditOptions())
    pixels, outside = whole(made.sources, made), ~full_size(made.masks)
    yield from judged(bench, "verb, edit", heard, pixels, (0.95, 0.97))
    yield intensity(bench, "verb, edit", heard, pixels, 0.7)
    yield decibels("verb, edit: outside its mask, before the composite", made.pictures, made.sources, outside, 30)
    yield decibels("verb, edit: outside its mask, after it", pixels, made.sources, outside, 30)
    plain = bench.rendered(heard.prompts("verb"), heard.cues)
    alone = made_of(bench, heard, "verb", EditOptions(preserve="none", cross_fraction=0, self_fraction=0))
    yield decibels("verb, prompt alone: outside the edit's mask", alone.pictures, made.sources, outside)
    yield from judged(bench, "verb, prompt alone", heard, plain)
    yield intensity(bench, "verb, prompt alone", heard, plain)
    for name, own in [("", heard.are_local), *((f", {name}", np.array(heard.names) == name) for name in LOCAL)]:
        share = float(made.masks[own].mean())
        yield Figure(f"verb, edit: mask's share of the picture, local{name}", share, 0.6, int(own.sum()), True)


def photos(bench: Bench) -> Iterator[Figure]:
    """`a * city`, made from a photo of a city, by both inversions, in a mask that is found and in one that is given."""
    heard = hear(bench, 8)
    clips = zip(heard.clips, heard.places, strict=True)
    scenes = [Scene("verb", c.phenomenon, place, c.intensity, SEED + number) for number, (c, place) in enumerate(clips)]
    pixels, truth = paint([background_of(scene) for scene in scenes]).pixels, paint(scenes).mask
    far = np.stack([distance_transform_edt(~mask) > NEAR_PX if mask.any() else ~mask for mask in truth])
    far &= heard.are_local[:, None, None]
    for inversion in ("direct", "virtual"):
        options = EditOptions(inversion=inversion)
        for named, masks in (("", None), (", mask given", truth.astype(np.float32))):
            what = f"photo, {inversion}{named}"
            made = made_of(bench, heard, "verb", options, pixels, masks)
            edited = whole(pixels, made, masks)
            if masks is None:
                yield decibels(f"{what}: reconstruction", made.sources, pixels, np.ones_like(truth), 28)
                kept = made_of(bench, heard, "background", options, pixels)
                yield decibels(f"{what}: edit that says nothing", kept.pictures, pixels, np.ones_like(truth))
            yield from judged(bench, what, heard, edited, (0.9, 0.95))
            yield intensity(bench, what, heard, edited)
            near = f"{what}: outside truth + {NEAR_PX} px"
            asked = (NONE, NONE) if masks is None else (24, 35)
            yield decibels(f"{near}, before the composite", made.pictures, pixels, far, asked[0])
            yield decibels(f"{near}, after it", edited, pixels, far, asked[1])


def adjectives(bench: Bench) -> Iterator[Figure]:
    """`a forest in the style of *`: the prompt alone, and made from a forest, generated or a photo."""
    heard, options = hear(bench, 8), EditOptions(**STYLISED)
    pixels = bench.rendered(heard.prompts("adjective"), heard.cues)
    scenes = [Scene("background", None, place, 0.0, SEED + number) for number, place in enumerate(heard.places)]
    photos, mixing = paint(scenes).pixels, EditOptions(**STYLISED | {"inversion": "virtual"})
    of_source = made_of(bench, heard, "adjective", options)
    of_photo = made_of(bench, heard, "adjective", options, photos)
    of_mixed = made_of(bench, heard, "adjective", mixing, photos)
    for what, made in (
        ("prompt alone", pixels),
        ("of a generated source", of_source.pictures),
        ("of a photo", of_photo.pictures),
        ("of a photo, virtual", of_mixed.pictures),
    ):
        yield from judged(bench, f"adjective, {what}", heard, made, (0.95, 0.97))
        yield intensity(bench, f"adjective, {what}", heard, made)


def strengths(bench: Bench) -> Iterator[Figure]:
    """`a photo of *:0.5`: from no cue at all to more than it says."""
    heard = hear(bench, 6)
    for strength in (0.25, 0.5, 0.75, 1.0, 1.25):
        pixels = bench.rendered([f"{caption('noun')}:{strength}"] * len(heard.clips), heard.cues)
        yield next(judged(bench, f"noun, strength {strength}", heard, pixels))
        seen = float(bench.read(pixels).mean_intensity().mean())
        yield Figure(f"noun, strength {strength}: mean judged intensity", seen, NONE, len(pixels))


def blends(bench: Bench) -> Iterator[Figure]:
    """From a weak clip (below a third) to a strong one of the same phenomenon, in eight pictures of one seed."""
    heard = hear(bench, 24)
    dims, ends = bench.world.diffusion.cue_dims, []
    for name in PHENOMENA:
        own = [(level, number) for number, level in enumerate(heard.levels) if heard.names[number] == name]
        weak, strong = [n for level, n in own if level < 1 / 3], [n for level, n in own if level > 2 / 3]
        ends += list(zip(weak, strong, strict=False))[: bench.num(5, 2)]
    ats = np.linspace(0, 1, BLEND_STEPS)
    cues = torch.stack([between(heard.cues[a], heard.cues[b], at, dims) for a, b in ends for at in ats.tolist()])
    prompts, seeds = [caption("noun")] * AT_ONCE, [SEED + number // BLEND_STEPS for number in range(len(cues))]
    parts = []
    for first in range(0, len(cues), AT_ONCE):
        some = cues[first : first + AT_ONCE]
        parts.append(bench.world.render(prompts[: len(some)], seeds[first : first + AT_ONCE], some))
    seen = bench.read(np.concatenate(parts)).mean_intensity().view(-1, BLEND_STEPS).numpy()
    for slack, bar in ((0.0, 0.9), (0.02, NONE)):
        share = float((np.diff(seen, axis=1) >= -slack).all(1).mean())
        yield Figure(f"blend: judged intensity rises, to {slack:g}, in every step", share, bar, len(ends))
    ranks = [spearmanr(ats, row).statistic for row in seen]
    yield Figure("blend: Spearman of the way and judged intensity", float(np.mean(ranks)), NONE, len(ends))


def differences(bench: Bench) -> Iterator[Figure]:
    """Whether pictures of two clips of one label, same seed, differ as the clips do."""
    heard, parts = hear(bench, 12), []
    for first in range(0, len(heard.clips), AT_ONCE):
        some = heard.cues[first : first + AT_ONCE]
        parts.append(bench.world.render([caption("noun")] * len(some), [SEED] * len(some), some))
    vectors = bench.world.see(np.concatenate(parts)).numpy()
    seen = bench.read(np.concatenate(parts)).mean_intensity().numpy()
    ranks: dict[str, list[float]] = {"embeddings": [], "judged intensity": []}
    for name in PHENOMENA:
        pairs = list(combinations([number for number, each in enumerate(heard.names) if each == name], 2))
        apart = [abs(heard.levels[a] - heard.levels[b]) for a, b in pairs]
        looks = [1 - vectors[a] @ vectors[b] for a, b in pairs], [abs(seen[a] - seen[b]) for a, b in pairs]
        for each, values in zip(ranks.values(), looks, strict=True):
            each.append(float(spearmanr(apart, values).statistic))
    for (kind, found), bar in zip(ranks.items(), (0.6, NONE), strict=True):
        yield Figure(f"two clips of a label: Spearman of differences, {kind}", float(np.mean(found)), bar, len(seen))


def rates(bench: Bench) -> Iterator[Figure]:
    """Pictures per second, beside the library's pipeline called once for each; and one alone beside a batch."""
    num = bench.num(32, 8)
    with get_context("spawn").Pool(1) as worker:
        peer = num / worker.apply(once_each, [num])
    render_some(bench.world, 2, 2)
    yield Figure("pictures/s: StableDiffusionPipeline, one call each, all cores", peer, NONE, num)
    for size in (1, AT_ONCE):
        found = num / seconds_of(partial(render_some, bench.world, num, size))
        yield Figure(f"pictures/s: ours, {size} at once, all cores", found, NONE, num)
        yield Figure(f"the same, over the pipeline's rate, {size} at once", found / peer, NONE, num)
    cores = os.cpu_count() or 1
    with get_context("spawn").Pool(cores) as workers:
        found = cores * num / max(workers.map(render_apart, [num] * cores, chunksize=1))
    yield Figure(f"pictures/s: ours, {AT_ONCE} at once, a worker for each core", found, NONE, cores * num)
    yield Figure("the same, over the pipeline's rate, a worker for each core", found / peer, 3, cores * num)
    yield from alone(bench)


def seconds_of(call: Callable[[], None]) -> float:
    """How long something takes."""
    started_s = time.perf_counter()
    call()
    return time.perf_counter() - started_s


def once_each(num: int) -> float:
    """The seconds that the library's pipeline takes in a process of its own, which has none of our settings."""
    library = StableDiffusionPipeline.from_pretrained(WEIGHTS / "pipeline", dtype=torch.float32)
    library.set_progress_bar_config(disable=True)

    def call(seeds: range) -> None:
        for seed in seeds:
            generator, steps, guidance = torch.Generator().manual_seed(seed), RENDER.steps, RENDER.guidance
            library("a photo of rain", num_inference_steps=steps, guidance_scale=guidance, generator=generator)

    call(range(2))
    return seconds_of(partial(call, range(num)))


def render_some(world: World, num: int, size: int) -> None:
    """Pictures in batches."""
    for first in range(0, num, size):
        world.render(["a photo of rain"] * size, range(first, first + size))


def render_apart(num: int) -> float:
    """The seconds that pictures take in a process of its own, on one core, once all is loaded."""
    torch.set_num_threads(1)
    world = World()
    render_some(world, 2, 2)
    return seconds_of(partial(render_some, world, num, AT_ONCE))


def alone(bench: Bench) -> Iterator[Figure]:
    """How much a picture's latents are others in a batch."""
    latents: list[torch.Tensor] = []
    decode = Diffusion.decode

    def noted(self: Diffusion, made: torch.Tensor) -> Pictures:
        latents.append(made)
        return decode(self, made)

    with patch.object(Diffusion, "decode", noted):
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
    parser.add_argument("--share", type=float, default=1.0, help="of the numbers of clips (default: 1)")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS), help="parts to measure")
    chosen = parser.parse_args(arguments)
    bench = Bench(World(), load_judge(), chosen.share)
    show([figure for part in chosen.only for figure in PARTS[part](bench)])


if __name__ == "__main__":
    main()
