"""Courses: how an edit and what it is made from go from noise to pictures, side by side.

A source is rendered along with its edits, or is a photo: replayed from an inversion, or mixed with noise at every step.
"""

from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from typing import Any, Protocol, runtime_checkable

import torch
from diffusers import SchedulerMixin
from jaxtyping import Float
from torch import Tensor

from aai.models.schedulers import Levels

Latents = Float[Tensor, "rows c h w"]
OfSources = Float[Tensor, "sources c h w"]
OfEdits = Float[Tensor, "edits c h w"]


@runtime_checkable
class Course(Protocol):
    """The latents of sources and edits, step by step."""

    levels: Levels

    guides_sources: bool
    """Whether sources are made with guidance, and so are looked at under their negative prompts too."""

    def latents(self) -> tuple[OfSources, OfEdits]:
        """Where sources and edits are."""

    def inputs(self, at: int) -> tuple[OfSources, OfEdits]:
        """The same as the model takes it at a step."""

    def step(self, at: int, sources: OfSources, edits: OfEdits) -> None:
        """Go on by a step, with what the model said."""

    def keep(self, edits: OfEdits) -> None:
        """Let the edits be elsewhere."""


class Rendered:
    """Generated sources: each edit begins with the noise of its source, and any sampler takes both on."""

    guides_sources = True

    def __init__(
        self,
        scheduler: SchedulerMixin,
        extra: Callable[[list[torch.Generator]], dict[str, Any]],
        noise: Latents,
        generators: list[torch.Generator],
        num_sources: int,
    ) -> None:
        """`noise` and `generators` are those of the sources, then those of the edits.

        `extra` makes what else the sampler's `step` takes.
        """
        self.levels, self._scheduler = Levels(scheduler), scheduler
        self._latents = noise * scheduler.init_noise_sigma
        self._extra, self._sizes = extra(generators), [num_sources, len(noise) - num_sources]

    def latents(self) -> tuple[OfSources, OfEdits]:
        """Where sources and edits are."""
        sources, edits = self._latents.split(self._sizes)
        return sources, edits

    def inputs(self, at: int) -> tuple[OfSources, OfEdits]:
        """The same as the model takes it at a step."""
        scaled = self._scheduler.scale_model_input(self._latents, self.levels.timesteps[at])
        sources, edits = scaled.split(self._sizes)
        return sources, edits

    def step(self, at: int, sources: OfSources, edits: OfEdits) -> None:
        """Go on by a step, with what the model said."""
        said, timestep = torch.cat([sources, edits]), self.levels.timesteps[at]
        self._latents = self._scheduler.step(said, timestep, self._latents, **self._extra).prev_sample

    def keep(self, edits: OfEdits) -> None:
        """Let the edits be elsewhere."""
        self._latents = torch.cat([self._latents[: self._sizes[0]], edits])


class Replayed:
    """Photos whose latents are those of their inversion at every step; their edits take DDIM steps.

    Source: Ju et al. 2024, "PnP Inversion": the correction that it adds makes the source's latents the stored ones.
    """

    guides_sources = False

    def __init__(
        self, levels: Levels, courses: Float[Tensor, "sources levels c h w"], clean: OfSources, source_of: list[int]
    ) -> None:
        self.levels, self._courses, self._clean, self._at = levels, courses, clean, 0
        self._edits = courses[source_of, 0].to(clean.dtype)

    def latents(self) -> tuple[OfSources, OfEdits]:
        """Where sources and edits are."""
        ended = self._at == len(self.levels.timesteps)
        return self._clean if ended else self._courses[:, self._at].to(self._clean.dtype), self._edits

    def inputs(self, at: int) -> tuple[OfSources, OfEdits]:
        """The same as the model takes it at a step."""
        return self.latents()

    def step(self, at: int, sources: OfSources, edits: OfEdits) -> None:
        """Go on by a step, with what the model said."""
        self._edits = self.levels.mix(*self.levels.split(self._edits, edits, at), at + 1)
        self._at = at + 1

    def keep(self, edits: OfEdits) -> None:
        """Let the edits be elsewhere."""
        self._edits = edits


class Mixed:
    """Photos mixed with new noise at every step; edits differ from them as the model's two predictions do.

    Source: Xu et al. 2024, "Inversion-Free Image Editing with Natural Language", eq. 9: virtual inversion.
    """

    guides_sources = False

    def __init__(self, levels: Levels, clean: OfSources, seeds: Sequence[int], source_of: list[int]) -> None:
        self.levels, self._clean, self._of = levels, clean, source_of
        self._generators = [torch.Generator("cpu").manual_seed(seed) for seed in seeds]
        self._pictures = clean[source_of]
        self._mix(0)

    def latents(self) -> tuple[OfSources, OfEdits]:
        """Where sources and edits are."""
        return self._sources, self._edits

    def inputs(self, at: int) -> tuple[OfSources, OfEdits]:
        """The same as the model takes it at a step."""
        return self.latents()

    def step(self, at: int, sources: OfSources, edits: OfEdits) -> None:
        """Go on by a step, with what the model said."""
        before, _ = self.levels.split(self._sources, sources, at)
        after, _ = self.levels.split(self._edits, edits, at)
        self._pictures = self._clean[self._of] + after - before[self._of]
        self._mix(at + 1)

    def keep(self, edits: OfEdits) -> None:
        """Let the edits be elsewhere."""
        self._edits = edits

    def _mix(self, at: int) -> None:
        if at == len(self.levels.timesteps):
            self._sources, self._edits = self._clean, self._pictures
            return
        shape = (1, *self._clean.shape[1:])
        noise = torch.cat([torch.randn(shape, generator=each) for each in self._generators]).to(self._clean)
        self._sources = self.levels.mix(self._clean, noise, at)
        self._edits = self.levels.mix(self._pictures, noise[self._of], at)


def invert(
    predict: Callable[[Latents, Tensor], Latents], levels: Levels, clean: Latents
) -> Float[Tensor, "rows levels c h w"]:
    """The way back from pictures to noise, at every level from noise to clean, by DDIM and without guidance.

    Source: Song et al. 2021, "Denoising Diffusion Implicit Models", section 4.3.
    """
    latents, courses = clean, [clean]
    for at in reversed(range(len(levels.timesteps))):
        said = predict(latents, levels.timesteps[at])
        latents = levels.mix(*levels.split(latents, said, at + 1), at)
        courses.append(latents)
    return torch.stack(courses[::-1], dim=1)


class Inversions:
    """The courses of the photos that were inverted last, as many as fit into so many MiB, in half precision."""

    def __init__(self, most_mib: int = 1024) -> None:
        self._most_bytes, self._num_bytes = most_mib * 2**20, 0
        self._known: OrderedDict[Hashable, Float[Tensor, "levels c h w"]] = OrderedDict()

    def of(
        self, keys: Sequence[Hashable], make: Callable[[list[int]], Float[Tensor, "rows levels c h w"]]
    ) -> Float[Tensor, "rows levels c h w"]:
        """The courses of some photos; `make` makes those of the ones at some places that are not known."""
        if missing := [place for place, key in enumerate(keys) if key not in self._known]:
            for place, course in zip(missing, make(missing), strict=True):
                self._known[keys[place]] = course.half()
                self._num_bytes += self._known[keys[place]].nbytes
        found = torch.stack([self._known[key] for key in keys])
        for key in keys:
            self._known.move_to_end(key)
        while self._num_bytes > self._most_bytes and len(self._known) > 1:
            self._num_bytes -= self._known.popitem(last=False)[1].nbytes
        return found
