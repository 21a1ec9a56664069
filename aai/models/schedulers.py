"""Diffusion schedulers: samplers by name, the training loss, and conversions between noise levels."""

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
"""The model: noisy latents and timesteps to its output (noise, velocity or sample)."""

_MAX_SNR, _MIN_WEIGHT = 5.0, 0.05

# clip_sample is for pixels in [-1, 1], which latents are not; a checkpoint's configuration may omit it.
_CLASSES: dict[Scheduler, tuple[type[SchedulerMixin], dict[str, object]]] = {
    "ddim": (DDIMScheduler, {"clip_sample": False}),
    "ddpm": (DDPMScheduler, {"clip_sample": False}),
    "dpm++2m": (DPMSolverMultistepScheduler, {"algorithm_type": "dpmsolver++", "solver_order": 2}),
    "euler": (EulerDiscreteScheduler, {}),
    "euler-a": (EulerAncestralDiscreteScheduler, {}),
    "pndm": (PNDMScheduler, {"skip_prk_steps": True}),
    "unipc": (UniPCMultistepScheduler, {}),
}


def new_scheduler(default: SchedulerMixin, name: Scheduler | None) -> SchedulerMixin:
    """A fresh scheduler with the noise schedule of the checkpoint's `default`, and its class if no name is given."""
    kind, settings = (type(default), {}) if name is None else _CLASSES[name]
    return kind.from_config(default.config, **settings)


def new_noise_scheduler(default: SchedulerMixin) -> DDPMScheduler:
    """The scheduler that adds noise as in training; Euler's, for one, scales noisy latents differently."""
    return DDPMScheduler.from_config(default.config)


def denoising_loss(
    predict: Predict,
    scheduler: SchedulerMixin,
    latents: Float[Tensor, "batch c h w"],
    timesteps: Int[Tensor, " batch"],
    noise: Float[Tensor, "batch c h w"],
) -> Float[Tensor, " batch"]:
    """The min-SNR-weighted squared error of the model's noise or velocity prediction, per batch element.

    Source: Rombach et al. 2022, "High-Resolution Image Synthesis with Latent Diffusion Models", eq. 3; weights of
    Hang et al. 2023, "Efficient Diffusion Training via Min-SNR Weighting Strategy", section 3.4, with a lower bound so
    that every timestep counts.
    """
    alphas_cumprod = scheduler.alphas_cumprod.to(latents.device)[timesteps]
    snr = alphas_cumprod / (1 - alphas_cumprod).clamp(min=1e-6)
    noisy = scheduler.add_noise(latents, noise, timesteps)
    if scheduler.config.prediction_type == "v_prediction":
        target, divisor = scheduler.get_velocity(latents, noise, timesteps), snr + 1
    else:
        target, divisor = noise, snr
    error = ((predict(noisy, timesteps).float() - target) ** 2).flatten(1).mean(1)
    return error * (snr.clamp(max=_MAX_SNR) / divisor + _MIN_WEIGHT)


class NoiseLevels:
    """The noise levels before each of a scheduler's steps and after the last, from nearly pure noise to clean.

    Source: Salimans and Ho 2022, "Progressive Distillation for Fast Sampling of Diffusion Models", appendix D.
    """

    def __init__(self, scheduler: SchedulerMixin) -> None:
        self.timesteps = scheduler.timesteps
        self._prediction_type = scheduler.config.prediction_type
        alphas_cumprod = scheduler.alphas_cumprod[self.timesteps.round().long().cpu()]
        # The level after the last step is clean, or nearly so if the checkpoint sets set_alpha_to_one to false.
        final = getattr(scheduler, "final_alpha_cumprod", torch.tensor(1.0))
        self.alphas_cumprod = torch.cat([alphas_cumprod, final[None]])

    def signal(self, index: int) -> float:
        """The signal coefficient sqrt(alphas_cumprod) after `index` steps, from 0 to 1."""
        return float(self.alphas_cumprod[index].sqrt())

    def sigma(self, index: int) -> float:
        """The noise coefficient sqrt(1 - alphas_cumprod) after `index` steps, from 0 to 1."""
        return float((1 - self.alphas_cumprod[index]).sqrt())

    def edm_sigmas(self) -> list[float]:
        """The noise's standard deviation beside a signal of 1 before each step, from large to small.

        Source: Karras et al. 2022, "Elucidating the Design Space of Diffusion-Based Generative Models". Pure noise,
        whose level is infinite, counts as 4096, as in diffusers.
        """
        alphas_cumprod = self.alphas_cumprod[:-1].clamp(min=2**-24)
        levels: list[float] = ((1 - alphas_cumprod) / alphas_cumprod).sqrt().tolist()
        return levels

    def add_noise(
        self, clean: Float[Tensor, "batch c h w"], noise: Float[Tensor, "batch c h w"], index: int
    ) -> Float[Tensor, "batch c h w"]:
        """Noisy latents at the level after `index` steps."""
        return self.signal(index) * clean + self.sigma(index) * noise

    def split(
        self, latents: Float[Tensor, "batch c h w"], output: Float[Tensor, "batch c h w"], index: int
    ) -> tuple[Float[Tensor, "batch c h w"], Float[Tensor, "batch c h w"]]:
        """The clean latents and the noise that the model's output implies at the level after `index` steps."""
        signal, sigma = self.signal(index), self.sigma(index)
        if self._prediction_type == "v_prediction":
            return signal * latents - sigma * output, signal * output + sigma * latents
        if self._prediction_type == "sample":
            return output, (latents - signal * output) / sigma
        return (latents - sigma * output) / signal, output
