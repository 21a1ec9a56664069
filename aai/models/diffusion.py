"""The text-to-image model: a frozen Stable Diffusion 1.x or XL pipeline with cues in its prompts."""

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from diffusers import (
    AutoencoderKL,
    DiffusionPipeline,
    LatentConsistencyModelPipeline,
    SchedulerMixin,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from diffusers.utils import logging as diffusers_logging
from jaxtyping import Float, Int, UInt8
from torch import Tensor
from transformers import CLIPTextModel, CLIPTextModelWithProjection

from aai.errors import BadConfig
from aai.inject.prompt import Prompt, parse
from aai.inject.text_encoder import Conditioning, TextEncoder, vector_ranges
from aai.models.checkpoint import load_errors, load_frozen
from aai.models.device import to_device
from aai.models.latent_codec import LatentCodec
from aai.models.options import RenderOptions
from aai.models.revisions import resolve_revision
from aai.models.sampling import sample
from aai.models.schedulers import denoising_loss, new_noise_scheduler
from aai.models.speed import UnetSpeed

Pipeline: TypeAlias = StableDiffusionPipeline | StableDiffusionXLPipeline | LatentConsistencyModelPipeline

_SD = {"text_encoder": CLIPTextModel}
_TEXT_ENCODERS = {
    "StableDiffusionPipeline": _SD,
    "LatentConsistencyModelPipeline": _SD,  # the same parts; its UNet takes the guidance scale as an input
    "StableDiffusionXLPipeline": {"text_encoder": CLIPTextModel, "text_encoder_2": CLIPTextModelWithProjection},
}
_NO_SAFETY_CHECKER = {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}


class Diffusion:
    """A frozen Stable Diffusion pipeline, 1.x or XL, that accepts cues.

    Cue vectors are in the token embedding space of the text encoder (D8). With two text encoders, a cue vector is the
    concatenation of one vector for each.
    """

    def __init__(self, pipeline: Pipeline, name: str, revision: str) -> None:
        pipeline.set_progress_bar_config(disable=True)
        self.pipeline, self.name, self.revision = pipeline, name, revision
        self.default_scheduler = pipeline.scheduler
        self.noise_scheduler = new_noise_scheduler(pipeline.scheduler)
        self.codec = LatentCodec(pipeline.vae, pipeline.device)
        self.speed = UnetSpeed(pipeline.unet, pipeline.device)
        self.is_xl = isinstance(pipeline, StableDiffusionXLPipeline)
        self.text_encoders = [TextEncoder(pipeline.tokenizer, pipeline.text_encoder)]
        if self.is_xl:
            self.text_encoders.append(TextEncoder(pipeline.tokenizer_2, pipeline.text_encoder_2))

    @property
    def device(self) -> torch.device:
        """The device of the models."""
        return self.pipeline.device

    @property
    def dtype(self) -> torch.dtype:
        """The floating-point type of the UNet and the text encoders."""
        return self.pipeline.unet.dtype

    @property
    def cue_dim(self) -> int:
        """The dimension of a cue vector."""
        return sum(self.cue_dims)

    @property
    def cue_dims(self) -> list[int]:
        """The token embedding dimension of each text encoder."""
        return [encoder.embedding.embedding_dim for encoder in self.text_encoders]

    @property
    def size_multiple(self) -> int:
        """Image sides are multiples of this many pixels, so that the UNet can halve the latents at every level."""
        unet = self.pipeline.unet.config
        return int(self.pipeline.vae_scale_factor * 2 ** (len(unet.block_out_channels) - 1))

    @property
    def default_size(self) -> int:
        """The native width and height in pixels."""
        return int(self.pipeline.unet.config.sample_size * self.pipeline.vae_scale_factor)

    @property
    def num_train_timesteps(self) -> int:
        """The number of timesteps; 0 is nearly clean, the highest nearly pure noise."""
        return int(self.noise_scheduler.config.num_train_timesteps)

    @property
    def has_guidance_input(self) -> bool:
        """Whether the UNet takes the guidance scale as an input (latent consistency models), in place of negatives."""
        return self.pipeline.unet.config.time_cond_proj_dim is not None

    def takes_negatives(self, options: RenderOptions) -> bool:
        """Whether classifier-free guidance is computed, from predictions for negative prompts."""
        return options.guidance > 1 and not self.has_guidance_input

    def encode_prompts(
        self, prompts: Sequence[str], cues: Float[Tensor, "prompts vectors cue_dim"] | None = None
    ) -> Conditioning:
        """Text conditioning of prompts with cues in their placeholders; differentiable with respect to the cues.

        A prompt's cue vectors are those of its distinct cue names, concatenated in order of first appearance, equally
        many for each (see `aai.inject.prompt`). A strength w other than 1 scales a cue's effect on the text encoders'
        output: E - (1 - w) * (E - E0), where E0 is the output with `mean_embedding` in place of the cue. Only prompts
        with such a strength are encoded twice.

        Raises:
            BadItem: a prompt is malformed, it has a placeholder but no cue is given, the cue vectors do not divide
                evenly among its cues, or a prompt is longer than the text encoders' context.
        """
        parsed = [parse(prompt) for prompt in prompts]
        if cues is not None:  # the text method's cues have no vectors
            cues = cues.to(self.device) if cues.shape[1] else None
        encoded = self._encode(parsed, cues)
        scaled = [(index, name, w) for index, prompt in enumerate(parsed) for name, w in prompt.scaled.items()]
        if not scaled or cues is None:
            return encoded
        indices = [index for index, _, _ in scaled]
        weights = torch.tensor([1 - strength for _, _, strength in scaled], device=self.device)
        neutral_cues = torch.stack([self._neutralise(parsed[index], cues[index], name) for index, name, _ in scaled])
        neutral = self._encode([parsed[index] for index in indices], neutral_cues)
        return _move_towards(encoded, neutral, indices, weights)

    def check_prompts(self, prompts: Sequence[str], num_vectors: int) -> None:
        """Check prompts with so many cue vectors each, without encoding them.

        Raises:
            BadItem: as `encode_prompts`.
        """
        for encoder in self.text_encoders:
            encoder.token_ids([parse(prompt) for prompt in prompts], num_vectors)

    @cached_property
    def mean_embedding(self) -> Float[Tensor, " cue_dim"]:
        """The mean token embedding of the vocabulary, which stands for no word in particular."""
        return torch.cat([encoder.embedding.weight.detach().mean(dim=0) for encoder in self.text_encoders])

    def word_embeddings(self, words: Sequence[str]) -> Float[Tensor, "words cue_dim"]:
        """The mean token embedding of each word or phrase, an initial value for cue vectors.

        Raises:
            BadItem: a word has no tokens.
        """
        return torch.cat([encoder.word_embeddings(words) for encoder in self.text_encoders], dim=-1)

    def encode_images(self, pictures: Float[Tensor, "pictures 3 height width"]) -> Float[Tensor, "pictures c h w"]:
        """Scaled latents, in float32, of images in [-1, 1]: the mean of the VAE's posterior."""
        return self.codec.encode(pictures)

    def denoising_losses(
        self,
        latents: Float[Tensor, "batch c h w"],
        conditioning: Conditioning,
        timesteps: Int[Tensor, " batch"],
        noise: Float[Tensor, "batch c h w"],
    ) -> Float[Tensor, " batch"]:
        """The denoising loss of each batch element; see `aai.models.schedulers.denoising_loss`."""
        added = self._added_conditioning(conditioning)

        def predict(noisy: Tensor, timesteps: Tensor) -> Tensor:
            context = conditioning.context.to(self.dtype)
            return self.pipeline.unet(noisy.to(self.dtype), timesteps, context, added_cond_kwargs=added).sample

        return denoising_loss(predict, self.noise_scheduler, latents, timesteps, noise)

    @torch.inference_mode()
    def render(
        self,
        prompts: Sequence[str],
        seeds: Sequence[int],
        cues: Float[Tensor, "prompts vectors cue_dim"] | None = None,
        negative_prompts: Sequence[str] | None = None,
        options: RenderOptions = RenderOptions(),  # noqa: B008 - frozen
    ) -> UInt8[np.ndarray, "prompts height width 3"]:
        """One image per prompt; its noise depends on its seed alone. An empty negative prompt is unconditional.

        Raises:
            BadItem: as `encode_prompts`; a negative prompt has a placeholder.
        """
        assert len(prompts) == len(seeds), "one seed per prompt"
        positive = self.encode_prompts(prompts, cues)
        negative = None
        if self.takes_negatives(options):
            negative = self.encode_negatives(negative_prompts or [""] * len(prompts))
        latents = sample(self, positive, negative, seeds, options)
        return self.decode(latents)

    @torch.inference_mode()
    def predict(
        self,
        latents: Float[Tensor, "batch c h w"],
        timestep: Tensor,
        conditioning: Conditioning,
        scales: Sequence[float] | None = None,
    ) -> Float[Tensor, "batch c h w"]:
        """The UNet's output for noisy latents at one timestep, in the latents' dtype.

        A model with `has_guidance_input` also takes each element's guidance scale, 1 without `scales`.
        """
        scale = self.pipeline.vae_scale_factor
        added = self._added_conditioning(conditioning, (latents.shape[2] * scale, latents.shape[3] * scale))
        context = conditioning.context.to(self.dtype)
        output = self.pipeline.unet(
            latents.to(self.dtype),
            timestep.to(self.device),
            context,
            timestep_cond=self._guidance_input(scales or [1.0] * len(latents)),
            added_cond_kwargs=added,
        ).sample
        return output.to(latents.dtype)

    def initial_noise(
        self, generators: Sequence[torch.Generator], options: RenderOptions
    ) -> Float[Tensor, "batch c h w"]:
        """The unscaled noise that sampling starts from, in float32, one batch element per generator."""
        sides = [
            (side or self.default_size) // self.pipeline.vae_scale_factor for side in (options.height, options.width)
        ]
        shape = (1, self.pipeline.unet.config.in_channels, *sides)
        noise = [torch.randn(shape, generator=generator) for generator in generators]
        return torch.cat(noise).to(self.device)

    def extra_step_kwargs(self, scheduler: SchedulerMixin, generators: list[torch.Generator]) -> dict[str, Any]:
        """The keyword arguments of a scheduler's `step` besides output, timestep and sample."""
        self.pipeline.scheduler = scheduler
        return self.pipeline.prepare_extra_step_kwargs(generators, eta=0.0)

    def encode_negatives(self, negatives: Sequence[str]) -> Conditioning:
        """Conditioning of negative prompts; each distinct one is encoded once per call, the empty one once in all."""
        conditioning, others = self._empty_prompt, sorted(set(negatives) - {""})
        if others:
            conditioning = Conditioning.join([conditioning, self.encode_prompts(others)])
        return conditioning[[["", *others].index(negative) for negative in negatives]]

    def decode(self, latents: Float[Tensor, "pictures c h w"]) -> UInt8[np.ndarray, "pictures height width 3"]:
        """RGB images of scaled latents.

        Raises:
            BadItem: the numbers of one are not finite.
        """
        return self.codec.decode(latents)

    def _encode(self, prompts: Sequence[Prompt], cues: Float[Tensor, "prompts vectors cue_dim"] | None) -> Conditioning:
        """Conditioning of prompts whose cues all have strength 1."""
        parts = [None] * len(self.cue_dims) if cues is None else cues.split(self.cue_dims, dim=-1)
        encoded = [encoder.encode(prompts, part) for encoder, part in zip(self.text_encoders, parts, strict=True)]
        if not self.is_xl:
            return Conditioning(encoded[0][0])
        return Conditioning(torch.cat([penultimate for _, penultimate, _ in encoded], dim=-1), encoded[1][2])

    def _neutralise(
        self, prompt: Prompt, cues: Float[Tensor, "vectors cue_dim"], name: str
    ) -> Float[Tensor, "vectors cue_dim"]:
        """A prompt's cue vectors with those of one cue replaced by the mean embedding."""
        indices = torch.tensor(vector_ranges(prompt, len(cues))[name], device=cues.device)
        return cues.index_copy(0, indices, self.mean_embedding.to(cues.dtype).expand(len(indices), -1))

    @cached_property
    def _empty_prompt(self) -> Conditioning:
        """Conditioning of the empty prompt; zeros if SDXL's configuration says so."""
        empty = self.encode_prompts([""])
        if empty.pooled is None or not self.pipeline.config.force_zeros_for_empty_prompt:
            return empty
        return Conditioning(torch.zeros_like(empty.context), torch.zeros_like(empty.pooled))

    def _guidance_input(self, scales: Sequence[float]) -> Float[Tensor, "batch dim"] | None:
        """The embedding of guidance scales, for models that take them.

        Source: Luo et al. 2023, "Latent Consistency Models", section 4.2.
        """
        if not self.has_guidance_input:
            return None
        weights, dim = torch.tensor(scales) - 1, self.pipeline.unet.config.time_cond_proj_dim
        return self.pipeline.get_guidance_scale_embedding(weights, dim).to(self.device, self.dtype)

    def _added_conditioning(
        self, conditioning: Conditioning, size: tuple[int, int] | None = None
    ) -> dict[str, Tensor] | None:
        """SDXL's added conditioning: the pooled prompt embedding, and size and crop ids (no crop)."""
        if conditioning.pooled is None:
            return None
        size, pooled = size or (self.default_size,) * 2, conditioning.pooled.to(self.dtype)
        time_ids = torch.tensor([*size, 0, 0, *size], dtype=self.dtype, device=self.device)
        return {"text_embeds": pooled, "time_ids": time_ids.expand(len(pooled), -1)}


def load_diffusion(
    name: str | Path,
    device: str | torch.device = "cpu",
    revision: str | None = None,
    dtype: torch.dtype = torch.float32,
) -> Diffusion:
    """Load a frozen pipeline from a folder or the hub; safetensors only, without safety checker.

    A VAE that overflows in half precision stays in float32.

    Raises:
        BadConfig: as `resolve_revision` and `load_frozen`; the pipeline is missing, or is neither Stable Diffusion 1.x
            nor XL.
    """
    diffusers_logging.disable_progress_bar()
    resolved = resolve_revision(name, revision)
    with load_errors(DiffusionPipeline, name):
        kind = DiffusionPipeline.load_config(name, revision=revision)["_class_name"]
    if kind not in _TEXT_ENCODERS:
        raise BadConfig(f"{kind} is not supported: choose a {' or a '.join(_TEXT_ENCODERS)}", uri=str(name))
    with load_errors(AutoencoderKL, name):
        vae_config = AutoencoderKL.load_config(name, subfolder="vae", revision=revision)
    upcast_vae = kind == "StableDiffusionXLPipeline" and vae_config.get("force_upcast", True)
    classes = _TEXT_ENCODERS[kind] | {"unet": UNet2DConditionModel, "vae": AutoencoderKL}
    components: dict[str, Any] = {}
    for part, model_class in classes.items():
        part_dtype = torch.float32 if part == "vae" and upcast_vae else dtype
        components[part] = to_device(load_frozen(model_class, name, revision, part_dtype, part), device)
    if kind != "StableDiffusionXLPipeline":
        components |= _NO_SAFETY_CHECKER
    with load_errors(DiffusionPipeline, name):
        pipeline = DiffusionPipeline.from_pretrained(name, revision=revision, use_safetensors=True, **components)
    return Diffusion(pipeline.to(device), *resolved)  # moves optional components, such as an image encoder


def _move_towards(
    start: Conditioning, end: Conditioning, indices: list[int], weights: Float[Tensor, " scaled"]
) -> Conditioning:
    """Add weighted differences `end - start` to some elements of `start`; an index may repeat."""
    index = torch.tensor(indices, device=weights.device)

    def interpolate(whole: Tensor, part: Tensor) -> Tensor:
        weight = weights.to(whole.dtype).view(-1, *[1] * (whole.ndim - 1))
        return whole.index_add(0, index, (part - whole[index]) * weight)

    context = interpolate(start.context, end.context)
    if start.pooled is None or end.pooled is None:
        return Conditioning(context)
    return Conditioning(context, interpolate(start.pooled, end.pooled))
