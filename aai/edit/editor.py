"""Edits: pictures that are made from others and keep all but what their cues bring.

Sources and edits go through the UNet in one batch: each source once, however many edits it has, under its own prompt;
each edit under its prompt and, for guidance, under its negative one.

Sources: Hertz et al. 2022, "Prompt-to-Prompt Image Editing with Cross Attention Control"; for masks Couairon et al.
2023, "DiffEdit: Diffusion-based Semantic Image Editing with Mask Guidance".
"""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from torch import Tensor

from aai.edit.attention_control import Shared, Sharing, match_tokens, sharing_attention
from aai.edit.options import EditOptions
from aai.edit.trajectories import Course, Inversions, Mixed, Rendered, Replayed, invert
from aai.errors import BadItem
from aai.inject.prompt import parse
from aai.inject.splice import NO_ROW
from aai.inject.text_encoder import Conditioning
from aai.models.diffusion import Diffusion
from aai.models.options import RenderOptions
from aai.models.schedulers import Levels, new_scheduler

_NEIGHBOURHOOD = 3
"""Latents a side of which the largest value counts, so that a mask has no holes."""


@dataclass(frozen=True)
class Wanted:
    """A batch of edits; each list has an item for each."""

    source_prompts: Sequence[str]
    """What the sources show."""

    prompts: Sequence[str]
    seeds: Sequence[int]
    cues: Float[Tensor, "edits rows cue_dim"] | None
    negative_prompts: Sequence[str]


@dataclass(frozen=True)
class Photos:
    """What edits are made from, if not from generated pictures."""

    pixels: UInt8[np.ndarray, "photos height width 3"]
    """Of a size that the model takes."""

    keys: Sequence[Hashable]
    """What tells each photo from others, as its content's id: its inversion is remembered by that."""

    photo_of: Sequence[int]
    """Each edit's photo."""

    masks: Float[np.ndarray, "edits height width"] | None = None
    """Where each edit is allowed, from 0 to 1; without, that is found out."""


@dataclass(frozen=True)
class Edited:
    """What became of a batch of edits."""

    pictures: UInt8[np.ndarray, "edits height width 3"]
    """The edits as the model makes them, not yet put into their sources' pixels."""

    sources: UInt8[np.ndarray, "edits height width 3"]
    """The sources as the model makes them: generated, or a photo rebuilt from its latents."""

    masks: Float[np.ndarray, "edits height_of_latents width_of_latents"]
    """Where the edits are, from 0 to 1; 1 everywhere if nothing is to be kept."""


class Editor:
    """Edits on a frozen diffusion model."""

    def __init__(self, diffusion: Diffusion, render: RenderOptions, edit: EditOptions) -> None:
        self.diffusion, self.render, self.edit = diffusion, render, edit

    @torch.inference_mode()
    def from_prompts(self, wanted: Wanted) -> Edited:
        """Edits of generated sources: an edit has its source's seed and noise.

        Raises:
            BadItem: as `Diffusion.encode_prompts`; a word to be reweighted is not in its prompt.
        """
        asked = list(zip(wanted.source_prompts, wanted.seeds, wanted.negative_prompts, strict=True))
        different = list(dict.fromkeys(asked))
        scheduler = new_scheduler(self.diffusion.own_scheduler, self.render.scheduler)
        scheduler.set_timesteps(self.render.steps, device=self.diffusion.device)
        seeds = [seed for _, seed, _ in different] + list(wanted.seeds)
        generators = [torch.Generator("cpu").manual_seed(seed) for seed in seeds]
        noise = self.diffusion.noise(generators, self.render)
        extra = self.diffusion.step_arguments(scheduler)
        course = Rendered(scheduler, extra, noise, generators, len(different))
        prompts, negatives = [prompt for prompt, _, _ in different], [negative for _, _, negative in different]
        return self._run(course, wanted, _Sources(prompts, negatives, [different.index(each) for each in asked]), None)

    @torch.inference_mode()
    def from_photos(self, wanted: Wanted, photos: Photos, inversions: Inversions) -> Edited:
        """Edits of photos, whose size the pictures have. Under direct inversion seeds change nothing.

        Raises:
            BadItem: as `from_prompts`.
        """
        virtual = self.edit.inversion == "virtual"
        seeds = wanted.seeds if virtual else [0] * len(wanted.seeds)
        asked = list(zip(photos.photo_of, wanted.source_prompts, seeds, strict=True))
        different = list(dict.fromkeys(asked))
        of = [different.index(each) for each in asked]
        prompts = [prompt for _, prompt, _ in different]
        pixels = torch.from_numpy(photos.pixels[[photo for photo, _, _ in different]]).permute(0, 3, 1, 2)
        clean = self.diffusion.encode_images(pixels / 127.5 - 1)
        scheduler = new_scheduler(self.diffusion.own_scheduler, "ddim")
        scheduler.set_timesteps(self.render.steps, device=self.diffusion.device)
        levels = Levels(scheduler)
        course: Course
        if virtual:
            course = Mixed(levels, clean, [seed for _, _, seed in different], of)
        else:
            keys = [(photos.keys[photo], prompt, self.render.steps, clean.shape[2:]) for photo, prompt, _ in different]

            def make(places: list[int]) -> Tensor:
                said = self.diffusion.encode_prompts([prompts[place] for place in places])
                return invert(lambda noisy, t: self.diffusion.predict(noisy, t, said), levels, clean[places])

            course = Replayed(levels, inversions.of(keys, make), clean, of)
        return self._run(course, wanted, _Sources(prompts, [""] * len(prompts), of), photos.masks)

    def _run(
        self, course: Course, wanted: Wanted, sources: "_Sources", masks: Float[np.ndarray, "edits h w"] | None
    ) -> Edited:
        num, of, begun = len(sources.prompts), sources.of, course.latents()[1]
        said, sizes = self._said(course, wanted, sources)
        rows, places = torch.arange(num, num + len(of)), torch.tensor(of)
        sharing = Sharing(
            rows.to(begun.device),
            places.to(begun.device),
            self._shared(wanted),
            sides=(begun.shape[2], begun.shape[3]),
            most_positions=self.edit.self_side**2,
        )
        change = _Change(self.edit, sharing, None if masks is None else torch.from_numpy(masks).to(begun))
        num_steps = len(course.levels.timesteps)
        with sharing_attention(self.diffusion.pipeline.unet, sharing):
            for at, timestep in enumerate(course.levels.timesteps):
                sharing.self_on = at < self.edit.self_fraction * num_steps
                sharing.cross_on = at < self.edit.cross_fraction * num_steps
                source, edit = course.inputs(at)
                batch = torch.cat([source, edit, edit, source][: len(sizes)])
                of_source, of_edit, *unsaid = self.diffusion.predict(batch, timestep, said).split(sizes)
                guided_source = self._guided(of_source, unsaid[1:])
                if at < (1 - self.edit.strength) * num_steps:
                    course.step(at, guided_source, guided_source[of])
                    course.keep(course.latents()[0][of])
                    continue
                change.note(course.levels, at, (source[of], edit), (of_source[of], of_edit))
                course.step(at, guided_source, self._guided(of_edit, unsaid[:1]))
                if self.edit.preserve != "none" and at >= self.edit.blend_from * num_steps:
                    source, edit = course.latents()
                    course.keep(source[of] + change.mask() * (edit - source[of]))
        source, edit = course.latents()
        made = self.diffusion.decode(torch.cat([source, edit]))
        mask = torch.ones_like(edit[:, 0]) if self.edit.preserve == "none" else change.mask()[:, 0]
        return Edited(made[num:], made[:num][of], mask.float().cpu().numpy())

    def _said(self, course: Course, wanted: Wanted, sources: "_Sources") -> tuple[Conditioning, list[int]]:
        """What the UNet attends to: of sources, of edits, then of edits and perhaps sources without their prompts."""
        parts = [
            self.diffusion.encode_prompts(sources.prompts),
            self.diffusion.encode_prompts(wanted.prompts, wanted.cues),
        ]
        if self.render.guidance > 1:
            parts.append(self.diffusion.encode_negatives(wanted.negative_prompts))
            if course.guides_sources:
                parts.append(self.diffusion.encode_negatives(sources.negatives))
        return Conditioning.join(parts), [len(part.context) for part in parts]

    def _guided(self, said: Tensor, unsaid: list[Tensor]) -> Tensor:
        return unsaid[0] + self.render.guidance * (said - unsaid[0]) if unsaid else said

    def _shared(self, wanted: Wanted) -> Shared:
        """How prompts agree in tokens, as the first text encoder has them: all read the same tokens."""
        encoder = self.diffusion.text_encoders[0]
        sources, _ = encoder.tokens([parse(prompt) for prompt in wanted.source_prompts])
        num_rows = 0 if wanted.cues is None else wanted.cues.shape[1]
        edits, rows = encoder.tokens([parse(prompt) for prompt in wanted.prompts], num_rows)
        is_cue = rows != NO_ROW
        column, share = match_tokens(sources.tolist(), edits.where(~is_cue, -1).tolist())
        if not num_rows:  # words stand for cues, and what the sources' prompts do not have is these
            is_cue = share == 0
        weight = torch.ones_like(share)
        for word, factor in self.edit.reweight.items():
            asked = encoder.tokenise([word])[0]
            for row, prompt in enumerate(wanted.prompts):
                weight[row, _places(word, asked, prompt, edits[row].tolist())] = factor
        return Shared(column, share, weight, is_cue).to(self.diffusion.device)


@dataclass(frozen=True)
class _Sources:
    """Different sources, and which of them each edit has."""

    prompts: Sequence[str]
    negatives: Sequence[str]
    of: list[int]


def _places(word: str, asked: Sequence[int], prompt: str, tokens: Sequence[int]) -> list[int]:
    """Where a word's tokens stand in a prompt's.

    Raises:
        BadItem: they do not.
    """
    starts = [at for at in range(len(tokens)) if list(tokens[at : at + len(asked)]) == list(asked)] if asked else []
    if not starts:
        raise BadItem(f"prompt {prompt!r}: {word!r} is to be reweighted, but does not stand in it: leave it out")
    return [at + step for at in starts for step in range(len(asked))]


class _Change:
    """Where edits come to differ from their sources."""

    def __init__(
        self, options: EditOptions, sharing: Sharing, given: Float[Tensor, "edits height width"] | None
    ) -> None:
        self._options, self._sharing, self._sum = options, sharing, torch.zeros(())
        self._given = None if given is None else F.adaptive_max_pool2d(given[:, None], sharing.sides)

    def note(self, levels: Levels, at: int, latents: tuple[Tensor, Tensor], outputs: tuple[Tensor, Tensor]) -> None:
        """Add how far the pictures that the model predicts differ, by as much as can be seen of them in the noise."""
        source, edit = (levels.split(noisy, said, at)[0] for noisy, said in zip(latents, outputs, strict=True))
        self._sum = self._sum + levels.signal(at) * (edit - source).abs().mean(1, keepdim=True).float()

    def mask(self) -> Float[Tensor, "edits 1 height width"]:
        """1 where an edit is, 0 where its source stays."""
        if self._given is not None:
            return self._given
        seen = self._sum if self._options.mask == "difference" else self._sharing.where_cues_act()[:, None]
        grown = F.max_pool2d(seen, _NEIGHBOURHOOD, 1, _NEIGHBOURHOOD // 2)
        return (grown > self._options.threshold * grown.amax((1, 2, 3), keepdim=True)).to(self._sharing.shared.share)
