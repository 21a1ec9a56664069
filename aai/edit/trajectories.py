"""Denoising trajectories of source images and their edits.

A source is generated along with its edits, or is a photo: inverted by DDIM, or noised afresh at every step.
"""

from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from typing import Any, Protocol, runtime_checkable

import torch
from diffusers import SchedulerMixin
from jaxtyping import Float
from torch import Tensor

from aai.models.schedulers import NoiseLevels
from aai.noise import generator_of

Latents = Float[Tensor, "batch c h w"]
SourceLatents = Float[Tensor, "sources c h w"]
EditLatents = Float[Tensor, "edits c h w"]


@runtime_checkable
class Trajectory(Protocol):
    """The latents of sources and edits during sampling; `index` counts denoising steps from 0."""

    levels: NoiseLevels

    guides_sources: bool
    """Whether sources are sampled with classifier-free guidance, and so need unconditional predictions too."""

    def latents(self) -> tuple[SourceLatents, EditLatents]:
        """The current latents."""

    def model_inputs(self, index: int) -> tuple[SourceLatents, EditLatents]:
        """The current latents, scaled as the model's input."""

    def step(self, index: int, source_output: SourceLatents, edit_output: EditLatents) -> None:
        """Take a denoising step with the model's outputs."""

    def replace_edits(self, edits: EditLatents) -> None:
        """Replace the edits' latents."""


class Generated:
    """Generated sources: an edit starts from the noise of its source, and any scheduler denoises both."""

    guides_sources = True

    def __init__(
        self, scheduler: SchedulerMixin, step_kwargs: dict[str, Any], sources: SourceLatents, edits: EditLatents
    ) -> None:
        """`sources` and `edits` are unscaled noise; `step_kwargs` go to the scheduler's `step`."""
        self.levels, self._scheduler, self._step_kwargs = NoiseLevels(scheduler), scheduler, step_kwargs
        self._sizes = [len(sources), len(edits)]
        self._latents = torch.cat([sources, edits]) * scheduler.init_noise_sigma

    def latents(self) -> tuple[SourceLatents, EditLatents]:
        """The current latents."""
        sources, edits = self._latents.split(self._sizes)
        return sources, edits

    def model_inputs(self, index: int) -> tuple[SourceLatents, EditLatents]:
        """The current latents, scaled as the model's input."""
        scaled = self._scheduler.scale_model_input(self._latents, self.levels.timesteps[index])
        sources, edits = scaled.split(self._sizes)
        return sources, edits

    def step(self, index: int, source_output: SourceLatents, edit_output: EditLatents) -> None:
        """Take a denoising step with the model's outputs."""
        output, timestep = torch.cat([source_output, edit_output]), self.levels.timesteps[index]
        self._latents = self._scheduler.step(output, timestep, self._latents, **self._step_kwargs).prev_sample

    def replace_edits(self, edits: EditLatents) -> None:
        """Replace the edits' latents."""
        self._latents = torch.cat([self._latents[: self._sizes[0]], edits])


class Inverted:
    """Direct inversion: photos replay the latents of their DDIM inversion; edits take DDIM steps from its noise.

    Source: Ju et al. 2024, "PnP Inversion: Boosting Diffusion-based Editing with 3 Lines of Code", algorithm 1: its
    correction makes the source's latents equal to the stored ones.
    """

    guides_sources = False

    def __init__(
        self,
        levels: NoiseLevels,
        inversions: Float[Tensor, "sources levels c h w"],
        clean: SourceLatents,
        source_index: list[int],
    ) -> None:
        """`source_index` is each edit's source."""
        self.levels, self._inversions, self._clean, self._level = levels, inversions, clean, 0
        self._edits = inversions[source_index, 0].to(clean.dtype)

    def latents(self) -> tuple[SourceLatents, EditLatents]:
        """The current latents."""
        is_clean = self._level == len(self.levels.timesteps)
        sources = self._clean if is_clean else self._inversions[:, self._level].to(self._clean.dtype)
        return sources, self._edits

    def model_inputs(self, index: int) -> tuple[SourceLatents, EditLatents]:
        """The current latents, which DDIM does not scale."""
        return self.latents()

    def step(self, index: int, source_output: SourceLatents, edit_output: EditLatents) -> None:
        """Take a DDIM step of the edits; the sources take their stored latents."""
        self._level = index + 1
        self._edits = self.levels.add_noise(*self.levels.split(self._edits, edit_output, index), self._level)

    def replace_edits(self, edits: EditLatents) -> None:
        """Replace the edits' latents."""
        self._edits = edits


class VirtualInversion:
    """Virtual inversion: photos with new noise at every step; edits differ from them by the predicted clean latents.

    Source: Xu et al. 2024, "Inversion-Free Image Editing with Natural Language", eq. 9.
    """

    guides_sources = False

    def __init__(
        self, levels: NoiseLevels, clean: SourceLatents, seeds: Sequence[int], source_index: list[int]
    ) -> None:
        """`seeds` are the sources'; `source_index` is each edit's source."""
        self.levels, self._clean, self._source_index = levels, clean, source_index
        self._generators = [generator_of(seed) for seed in seeds]
        self._clean_edits = clean[source_index]
        self._add_noise(0)

    def latents(self) -> tuple[SourceLatents, EditLatents]:
        """The current latents."""
        return self._sources, self._edits

    def model_inputs(self, index: int) -> tuple[SourceLatents, EditLatents]:
        """The current latents, which are not scaled."""
        return self.latents()

    def step(self, index: int, source_output: SourceLatents, edit_output: EditLatents) -> None:
        """Update the clean edits by the difference of the predictions, and add the next level's noise."""
        source, _ = self.levels.split(self._sources, source_output, index)
        edit, _ = self.levels.split(self._edits, edit_output, index)
        self._clean_edits = self._clean[self._source_index] + edit - source[self._source_index]
        self._add_noise(index + 1)

    def replace_edits(self, edits: EditLatents) -> None:
        """Replace the edits' latents."""
        self._edits = edits

    def _add_noise(self, index: int) -> None:
        if index == len(self.levels.timesteps):
            self._sources, self._edits = self._clean, self._clean_edits
            return
        shape = (1, *self._clean.shape[1:])
        noise = torch.cat([torch.randn(shape, generator=generator) for generator in self._generators]).to(self._clean)
        self._sources = self.levels.add_noise(self._clean, noise, index)
        self._edits = self.levels.add_noise(self._clean_edits, noise[self._source_index], index)


def invert(
    predict: Callable[[Latents, Tensor], Latents], levels: NoiseLevels, clean: Latents
) -> Float[Tensor, "batch levels c h w"]:
    """DDIM inversion without guidance: latents at every noise level, from noise to clean.

    Source: Song et al. 2021, "Denoising Diffusion Implicit Models", section 4.3.
    """
    latents, inversion = clean, [clean]
    for index in reversed(range(len(levels.timesteps))):
        output = predict(latents, levels.timesteps[index])
        latents = levels.add_noise(*levels.split(latents, output, index + 1), index)
        inversion.append(latents)
    return torch.stack(inversion[::-1], dim=1)


class InversionCache:
    """The most recently used DDIM inversions, in half precision, up to a total size."""

    def __init__(self, max_mib: int = 1024) -> None:
        self._max_bytes, self._num_bytes = max_mib * 2**20, 0
        self._cached: OrderedDict[Hashable, Float[Tensor, "levels c h w"]] = OrderedDict()

    def get(
        self, keys: Sequence[Hashable], compute: Callable[[list[int]], Float[Tensor, "batch levels c h w"]]
    ) -> Float[Tensor, "batch levels c h w"]:
        """The inversions of some photos; `compute` gets the indices of the keys that are not cached."""
        if missing := [index for index, key in enumerate(keys) if key not in self._cached]:
            for index, inversion in zip(missing, compute(missing), strict=True):
                self._cached[keys[index]] = inversion.half()
                self._num_bytes += self._cached[keys[index]].nbytes
        inversions = torch.stack([self._cached[key] for key in keys])
        for key in keys:
            self._cached.move_to_end(key)
        while self._num_bytes > self._max_bytes and len(self._cached) > 1:
            self._num_bytes -= self._cached.popitem(last=False)[1].nbytes
        return inversions
