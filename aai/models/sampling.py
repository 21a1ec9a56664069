"""Denoising of generated pictures: latents stay in float32 between the steps, whatever the model computes in.

Noise is drawn in float32 on the CPU, from each picture's own generator: a seed gives the same noise on every device, in
every data type, and whatever else is in the batch.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor

from aai.inject.text_encoder import Conditioning
from aai.models.options import RenderOptions
from aai.models.schedulers import NoiseLevels, new_scheduler
from aai.noise import generator_of

if TYPE_CHECKING:
    from aai.models.diffusion import Diffusion


class Guidance:
    """Classifier-free guidance, at all noise levels or in an interval of them.

    Source: Ho and Salimans 2022, "Classifier-Free Diffusion Guidance"; the interval is that of Kynkäänniemi et al.
    2024, "Applying Guidance in a Limited Interval Improves Sample and Distribution Quality in Diffusion Models", eq. 6.
    """

    def __init__(self, options: RenderOptions, sigmas: Sequence[float]) -> None:
        """`sigmas` are the noise levels before each step; see `NoiseLevels.edm_sigmas`."""
        self.scale = options.guidance
        low, high = options.guidance_interval or (-1.0, float("inf"))
        self._is_active = [low < sigma <= high for sigma in sigmas]

    def is_active(self, index: int) -> bool:
        """Whether a denoising step is guided; elsewhere the unconditional prediction is not needed."""
        return self._is_active[index]

    def combine(self, conditional: Tensor, unconditional: Tensor, scales: Tensor | None = None) -> Tensor:
        """The guided prediction; `scales` are those of each element, where they differ."""
        return unconditional + (self.scale if scales is None else scales) * (conditional - unconditional)


def sample(
    diffusion: "Diffusion",
    positive: Conditioning,
    negative: Conditioning | None,
    seeds: Sequence[int],
    options: RenderOptions,
) -> Float[Tensor, "prompts c h w"]:
    """Latents of new pictures, in float32; without negative conditioning there is no classifier-free guidance."""
    scheduler = new_scheduler(diffusion.default_scheduler, options.scheduler)  # schedulers have state
    scheduler.set_timesteps(options.steps)
    generators = [generator_of(seed) for seed in seeds]
    latents = diffusion.initial_noise(generators, options) * scheduler.init_noise_sigma
    step_kwargs = diffusion.extra_step_kwargs(scheduler, generators)
    guidance, scales = Guidance(options, NoiseLevels(scheduler).edm_sigmas()), [options.guidance] * len(seeds)
    both = Conditioning.join([negative, positive]) if negative else positive
    for index, timestep in enumerate(scheduler.timesteps):
        noisy = scheduler.scale_model_input(latents, timestep)
        if negative and guidance.is_active(index):
            unconditional, output = diffusion.predict(torch.cat([noisy, noisy]), timestep, both).chunk(2)
            output = guidance.combine(output, unconditional)
        else:
            output = diffusion.predict(noisy, timestep, positive, scales)
        latents = scheduler.step(output, timestep, latents, **step_kwargs).prev_sample
    return latents


def try_step(diffusion: "Diffusion", options: RenderOptions) -> Float[Tensor, "2 c h w"]:
    """Latents of two pictures after one step, sampled as pictures with these options: it compiles what is due."""
    once = options.model_copy(update={"steps": 1, "scheduler": "ddim", "guidance_interval": None})
    with torch.inference_mode():
        return sample(diffusion, diffusion.encode_negatives(["", ""]), None, [0, 1], once)
