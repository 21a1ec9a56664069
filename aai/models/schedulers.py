"""Noise: schedulers by their names for taking it away, and the loss for predicting what was put in."""

from collections.abc import Callable

import torch
from diffusers import (
    DDIMScheduler,
    DDPMScheduler,
    DPMSolverMultistepScheduler,
    EulerAncestralDiscreteScheduler,
    EulerDiscreteScheduler,
    PNDMScheduler,
    SchedulerMixin,
    UniPCMultistepScheduler,
)
from jaxtyping import Float, Int
from torch import Tensor

from aai.models.options import Scheduler

Predict = Callable[[Tensor, Tensor], Tensor]
"""The model: noisy latents and their timesteps to noise or velocity."""

_LARGEST_SNR, _LEAST_WEIGHT = 5.0, 0.05

# Latents are no pixels in [-1, 1], so they are not clipped as such; a checkpoint's settings may say nothing of it.
_KINDS: dict[Scheduler, tuple[type[SchedulerMixin], dict[str, object]]] = {
    "ddim": (DDIMScheduler, {"clip_sample": False}),
    "ddpm": (DDPMScheduler, {"clip_sample": False}),
    "dpm++2m": (DPMSolverMultistepScheduler, {"algorithm_type": "dpmsolver++", "solver_order": 2}),
    "euler": (EulerDiscreteScheduler, {}),
    "euler-a": (EulerAncestralDiscreteScheduler, {}),
    "pndm": (PNDMScheduler, {"skip_prk_steps": True}),
    "unipc": (UniPCMultistepScheduler, {}),
}


def new_scheduler(own: SchedulerMixin, name: Scheduler | None) -> SchedulerMixin:
    """A scheduler that has taken no step yet, with the noise that a checkpoint was trained with.

    `own` is the checkpoint's; it is also the kind that is made if no name is given.
    """
    kind, settings = (type(own), {}) if name is None else _KINDS[name]
    return kind.from_config(own.config, **settings)


def training_noise(own: SchedulerMixin) -> DDPMScheduler:
    """What puts in noise as in training: some kinds, Euler's for one, scale noisy latents in a way of their own."""
    return DDPMScheduler.from_config(own.config)


def denoising_loss(
    predict: Predict,
    scheduler: SchedulerMixin,
    latents: Float[Tensor, "rows c h w"],
    timesteps: Int[Tensor, " rows"],
    noise: Float[Tensor, "rows c h w"],
) -> Float[Tensor, " rows"]:
    """Squared error of each row's prediction (noise or velocity, as the scheduler says), weighted by min-SNR.

    Source: Rombach et al. 2022, "High-Resolution Image Synthesis with Latent Diffusion Models", eq. 3; the weight
    is that of Hang et al. 2023, "Efficient Diffusion Training via Min-SNR Weighting Strategy", section 3.4, with a
    floor so that no timestep is forgotten.
    """
    kept = scheduler.alphas_cumprod.to(latents.device)[timesteps]
    ratio = kept / (1 - kept).clamp(min=1e-6)
    noisy = scheduler.add_noise(latents, noise, timesteps)
    if scheduler.config.prediction_type == "v_prediction":
        target, scale = scheduler.get_velocity(latents, noise, timesteps), ratio + 1
    else:
        target, scale = noise, ratio
    error = ((predict(noisy, timesteps).float() - target) ** 2).flatten(1).mean(1)
    return error * (ratio.clamp(max=_LARGEST_SNR) / scale + _LEAST_WEIGHT)


class Levels:
    """Noise levels of a scheduler's steps, from nearly noise to clean, and what a model's output means at each.

    Source: Salimans and Ho 2022, "Progressive Distillation for Fast Sampling of Diffusion Models", appendix D.
    """

    def __init__(self, scheduler: SchedulerMixin) -> None:
        self.timesteps = scheduler.timesteps
        self._kind = scheduler.config.prediction_type
        known = scheduler.alphas_cumprod
        kept = known[self.timesteps.round().long().cpu()]
        # After the last step it is clean, or as nearly so as the checkpoint's settings say.
        last = getattr(scheduler, "final_alpha_cumprod", torch.tensor(1.0))
        self.kept = torch.cat([kept, last[None]])

    def signal(self, at: int) -> float:
        """The share of the picture in the latents after `at` steps, from 0 to 1."""
        return float(self.kept[at].sqrt())

    def mix(
        self, picture: Float[Tensor, "rows c h w"], noise: Float[Tensor, "rows c h w"], at: int
    ) -> Float[Tensor, "rows c h w"]:
        """Latents after `at` steps."""
        return self.signal(at) * picture + float((1 - self.kept[at]).sqrt()) * noise

    def split(
        self, latents: Float[Tensor, "rows c h w"], output: Float[Tensor, "rows c h w"], at: int
    ) -> tuple[Float[Tensor, "rows c h w"], Float[Tensor, "rows c h w"]]:
        """The picture and the noise that the model takes latents for."""
        signal, spread = self.signal(at), float((1 - self.kept[at]).sqrt())
        if self._kind == "v_prediction":
            return signal * latents - spread * output, signal * output + spread * latents
        if self._kind == "sample":
            return output, (latents - signal * output) / spread
        return (latents - spread * output) / signal, output
