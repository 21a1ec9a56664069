"""The text-to-image model: a Stable Diffusion pipeline, frozen, with cues in its prompts."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from diffusers import SchedulerMixin, StableDiffusionPipeline
from diffusers.utils import logging as diffusers_logging
from jaxtyping import Float, Int, UInt8
from torch import Tensor, nn
from transformers.utils import logging as transformers_logging

from aai.inject import PLACEHOLDER, spliced, spread_placeholders

_LARGEST_SNR, _LEAST_WEIGHT = 5.0, 0.05


class Diffusion:
    """A frozen Stable Diffusion 1.x pipeline that takes cues.

    `cue` rows are in the space of the text encoder's token embeddings (D8).
    """

    def __init__(self, pipeline: StableDiffusionPipeline) -> None:
        pipeline.set_progress_bar_config(disable=True)
        self.pipeline = pipeline
        for module in (pipeline.vae, pipeline.unet, pipeline.text_encoder):
            module.requires_grad_(False).eval()

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return self.pipeline.device

    @property
    def embedding(self) -> nn.Embedding:
        """The text encoder's token embedding."""
        return self.pipeline.text_encoder.get_input_embeddings()

    @property
    def placeholder_id(self) -> int:
        """The token that stands for a row of a cue."""
        return int(self.tokens([PLACEHOLDER])[0, 1])

    def tokens(self, prompts: Sequence[str]) -> Int[Tensor, "prompts tokens"]:
        """Token ids, padded and cut to the length that the text encoder takes."""
        tokenizer = self.pipeline.tokenizer
        length = tokenizer.model_max_length
        padded = tokenizer(list(prompts), padding="max_length", max_length=length, truncation=True, return_tensors="pt")
        return padded.input_ids.to(self.device)

    def encode_prompts(
        self, prompts: Sequence[str], cues: Float[Tensor, "prompts rows dim"] | None = None
    ) -> Float[Tensor, "prompts tokens dim"]:
        """What the UNet attends to; gradients reach the cues."""
        if cues is not None:
            prompts = [spread_placeholders(prompt, cues.shape[1]) for prompt in prompts]
        with spliced(self.embedding, self.placeholder_id, cues):
            return self.pipeline.text_encoder(self.tokens(prompts))[0]

    @torch.no_grad()
    def encode_images(self, pictures: Float[Tensor, "pictures 3 height width"]) -> Float[Tensor, "pictures c h w"]:
        """Latents of unit variance, for pictures in [-1, 1]."""
        vae = self.pipeline.vae
        return vae.encode(pictures.to(self.device)).latent_dist.mean * vae.config.scaling_factor

    @torch.inference_mode()
    def render(
        self,
        prompts: Sequence[str],
        seeds: Sequence[int],
        cues: Float[Tensor, "prompts rows dim"] | None = None,
        steps: int = 25,
        guidance: float = 4.0,
    ) -> UInt8[np.ndarray, "prompts height width 3"]:
        """One picture for each prompt; a picture's noise depends on its seed alone."""
        context = self.encode_prompts(prompts, cues)
        empty = self.encode_prompts([""]).expand(len(prompts), -1, -1)
        generators = [torch.Generator("cpu").manual_seed(seed) for seed in seeds]
        pictures = self.pipeline(
            prompt_embeds=context,
            negative_prompt_embeds=empty,
            generator=generators,
            num_inference_steps=steps,
            guidance_scale=guidance,
            output_type="np",
        ).images
        return np.round(pictures * 255).astype(np.uint8)


def load_diffusion(folder: str | Path, device: str | torch.device = "cpu") -> Diffusion:
    """Load a pipeline in float32; safetensors only, no safety checker."""
    diffusers_logging.disable_progress_bar()
    transformers_logging.disable_progress_bar()
    pipeline = StableDiffusionPipeline.from_pretrained(
        folder, dtype=torch.float32, use_safetensors=True, safety_checker=None, requires_safety_checker=False
    )
    return Diffusion(pipeline.to(device))


def denoising_loss(
    unet: nn.Module,
    scheduler: SchedulerMixin,
    latents: Float[Tensor, "rows c h w"],
    context: Float[Tensor, "rows tokens dim"],
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
    predicted = unet(noisy, timesteps, context).sample.float()
    error = ((predicted - target) ** 2).flatten(1).mean(1)
    return error * (ratio.clamp(max=_LARGEST_SNR) / scale + _LEAST_WEIGHT)
