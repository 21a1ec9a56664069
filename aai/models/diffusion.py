"""The text-to-image model: a Stable Diffusion pipeline, 1.x or XL, frozen, with cues in its prompts."""

from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import (
    AutoencoderKL,
    DiffusionPipeline,
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
from aai.inject.text_encoder import Conditioning, TextEncoder, shares_of
from aai.models.checkpoint import load_frozen, loading
from aai.models.options import RenderOptions
from aai.models.revisions import pin
from aai.models.schedulers import denoising_loss, new_scheduler, training_noise

_TEXT_ENCODERS = {
    "StableDiffusionPipeline": {"text_encoder": CLIPTextModel},
    "StableDiffusionXLPipeline": {"text_encoder": CLIPTextModel, "text_encoder_2": CLIPTextModelWithProjection},
}
_UNCHECKED = {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}

_VAE_PIXELS = 1024 * 1024
"""Pixels that go through the VAE together: its memory grows with them, far faster than the UNet's."""


class Diffusion:
    """A frozen Stable Diffusion pipeline, 1.x or XL, that takes cues.

    A cue's rows are in the space of the text encoder's token embeddings (D8); where there are two text encoders, a row
    is one of the first and one of the second, one after the other.
    """

    def __init__(self, pipeline: StableDiffusionPipeline | StableDiffusionXLPipeline, name: str, revision: str) -> None:
        pipeline.set_progress_bar_config(disable=True)
        self.pipeline, self.name, self.revision = pipeline, name, revision
        self.own_scheduler = pipeline.scheduler
        self.training_noise = training_noise(pipeline.scheduler)
        self.is_xl = isinstance(pipeline, StableDiffusionXLPipeline)
        self.text_encoders = [TextEncoder(pipeline.tokenizer, pipeline.text_encoder)]
        if self.is_xl:
            self.text_encoders.append(TextEncoder(pipeline.tokenizer_2, pipeline.text_encoder_2))
        self._nothing: Conditioning | None = None

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return self.pipeline.device

    @property
    def dtype(self) -> torch.dtype:
        """The numbers that the UNet and the text encoders compute with."""
        return self.pipeline.unet.dtype

    @property
    def cue_dim(self) -> int:
        """The length of a cue's row."""
        return sum(self.cue_dims)

    @property
    def cue_dims(self) -> list[int]:
        """The lengths of a row's parts, one for each text encoder."""
        return [encoder.embedding.embedding_dim for encoder in self.text_encoders]

    @property
    def size_multiple(self) -> int:
        """What the sides of a picture are multiples of: then the UNet halves latents without a rest."""
        unet = self.pipeline.unet.config
        return int(self.pipeline.vae_scale_factor * 2 ** (len(unet.block_out_channels) - 1))

    @property
    def default_size(self) -> int:
        """Pixels across and down of the pictures that the model was made for."""
        return int(self.pipeline.unet.config.sample_size * self.pipeline.vae_scale_factor)

    @property
    def num_train_timesteps(self) -> int:
        """Timesteps are from 0, nearly clean, to one less than this, nearly noise."""
        return int(self.training_noise.config.num_train_timesteps)

    def encode_prompts(
        self, prompts: Sequence[str], cues: Float[Tensor, "prompts rows cue_dim"] | None = None
    ) -> Conditioning:
        """What the UNet attends to; gradients reach the cues.

        A prompt's cues are the rows of its different names, one after the other as they first come, each as many (see
        `aai.inject.prompt`). Of a cue of strength w, 1 - w of what it adds to the encoders' outputs is taken away
        again: the difference to the same prompt with `neutral` rows in the cue's place. At strength 1 that costs
        nothing.

        Raises:
            BadItem: a prompt is not well-formed, it has a placeholder but no cue is given, its cues do not share the
                rows evenly, or one would be cut off the prompt's end.
        """
        parsed = [parse(prompt) for prompt in prompts]
        if cues is not None:  # a cue without rows is what the plain model's clips have
            cues = cues.to(self.device) if cues.shape[1] else None
        said = self._encode(parsed, cues)
        changed = [(number, *each) for number, prompt in enumerate(parsed) for each in prompt.changed.items()]
        if not changed or cues is None:
            return said
        numbers = [number for number, _, _ in changed]
        weights = torch.tensor([1 - strength for _, _, strength in changed], device=self.device)
        less = [self._without(parsed[number], cues[number], name) for number, name, _ in changed]
        unsaid = self._encode([parsed[number] for number in numbers], torch.stack(less))
        return _less(said, unsaid, numbers, weights)

    @cached_property
    def neutral(self) -> Float[Tensor, " cue_dim"]:
        """A row that stands for nothing in particular: the mean of the vocabulary."""
        return torch.cat([encoder.embedding.weight.detach().mean(dim=0) for encoder in self.text_encoders])

    def word_embeddings(self, words: Sequence[str]) -> Float[Tensor, "words cue_dim"]:
        """A row for each word or phrase, the mean of its tokens: where a cue may start.

        Raises:
            BadItem: a word has no tokens.
        """
        return torch.cat([encoder.word_embeddings(words) for encoder in self.text_encoders], dim=-1)

    @torch.no_grad()
    def encode_images(self, pictures: Float[Tensor, "pictures 3 height width"]) -> Float[Tensor, "pictures c h w"]:
        """Latents of about unit variance, in float32, for pictures in [-1, 1]."""
        vae = self.pipeline.vae
        parts = [
            vae.encode(part.to(self.device, vae.dtype)).latent_dist.mean.float()
            for part in pictures.split(_at_once(pictures.shape[2] * pictures.shape[3]))
        ]
        return torch.cat(parts) * vae.config.scaling_factor

    def denoising_losses(
        self,
        latents: Float[Tensor, "rows c h w"],
        conditioning: Conditioning,
        timesteps: Int[Tensor, " rows"],
        noise: Float[Tensor, "rows c h w"],
    ) -> Float[Tensor, " rows"]:
        """How badly the UNet takes the noise out of each row again; see `aai.models.schedulers.denoising_loss`."""
        added = self._added(conditioning)

        def predict(noisy: Tensor, at: Tensor) -> Tensor:
            context = conditioning.context.to(self.dtype)
            return self.pipeline.unet(noisy.to(self.dtype), at, context, added_cond_kwargs=added).sample

        return denoising_loss(predict, self.training_noise, latents, timesteps, noise)

    @torch.inference_mode()
    def render(
        self,
        prompts: Sequence[str],
        seeds: Sequence[int],
        cues: Float[Tensor, "prompts rows cue_dim"] | None = None,
        negative_prompts: Sequence[str] | None = None,
        options: RenderOptions = RenderOptions(),  # noqa: B008 - frozen
    ) -> UInt8[np.ndarray, "prompts height width 3"]:
        """One picture for each prompt; a picture's noise depends on its seed alone. An empty negative is none.

        Raises:
            BadItem: as `encode_prompts`; a negative prompt has a placeholder.
        """
        assert len(prompts) == len(seeds), "a seed for each prompt"
        said = self.encode_prompts(prompts, cues)
        embeds = {"prompt_embeds": said.context, "pooled_prompt_embeds": said.pooled}
        if options.guidance > 1:
            unsaid = self.encode_negatives(negative_prompts or [""] * len(prompts))
            embeds |= {"negative_prompt_embeds": unsaid.context, "negative_pooled_prompt_embeds": unsaid.pooled}
        self.pipeline.scheduler = new_scheduler(self.own_scheduler, options.scheduler)  # it counts steps
        latents = self.pipeline(
            **{name: value for name, value in embeds.items() if value is not None},
            generator=[torch.Generator("cpu").manual_seed(seed) for seed in seeds],
            num_inference_steps=options.steps,
            guidance_scale=options.guidance,
            width=options.width or self.default_size,
            height=options.height or self.default_size,
            output_type="latent",
        ).images
        return self.decode(latents)

    @torch.inference_mode()
    def predict(
        self, latents: Float[Tensor, "rows c h w"], timestep: Tensor, conditioning: Conditioning
    ) -> Float[Tensor, "rows c h w"]:
        """The UNet's output for noisy latents at one timestep, in their own numbers."""
        scale = self.pipeline.vae_scale_factor
        added = self._added(conditioning, (latents.shape[2] * scale, latents.shape[3] * scale))
        context = conditioning.context.to(self.dtype)
        said = self.pipeline.unet(latents.to(self.dtype), timestep, context, added_cond_kwargs=added).sample
        return said.to(latents.dtype)

    def noise(self, generators: Sequence[torch.Generator], options: RenderOptions) -> Float[Tensor, "rows c h w"]:
        """The noise that rendering begins with, one picture from each generator."""
        sides = [
            (side or self.default_size) // self.pipeline.vae_scale_factor for side in (options.height, options.width)
        ]
        shape = (1, self.pipeline.unet.config.in_channels, *sides)
        drawn = [torch.randn(shape, generator=each, dtype=self.dtype) for each in generators]
        return torch.cat(drawn).to(self.device)

    def step_arguments(self, scheduler: SchedulerMixin) -> Callable[[list[torch.Generator]], dict[str, Any]]:
        """Makes, from a generator for each picture, what else a sampler's `step` takes."""
        self.pipeline.scheduler = scheduler
        return lambda generators: self.pipeline.prepare_extra_step_kwargs(generators, eta=0.0)

    def encode_negatives(self, negatives: Sequence[str]) -> Conditioning:
        """Each different negative prompt is encoded once, the empty one once for all."""
        if self._nothing is None:
            self._nothing = self._encode_nothing()
        others = sorted(set(negatives) - {""})
        known = self._nothing
        if others:
            known = Conditioning.join([known, self.encode_prompts(others)])
        return known[[["", *others].index(negative) for negative in negatives]]

    def decode(self, latents: Float[Tensor, "pictures c h w"]) -> UInt8[np.ndarray, "pictures height width 3"]:
        """Pictures of latents."""
        vae, parts = self.pipeline.vae, []
        num = _at_once(latents.shape[2] * latents.shape[3] * self.pipeline.vae_scale_factor**2)
        for part in latents.split(num):
            pixels = vae.decode(part.to(vae.dtype) / vae.config.scaling_factor).sample.float()
            parts.append(((pixels / 2 + 0.5).clamp(0, 1) * 255).round().to(torch.uint8).permute(0, 2, 3, 1).cpu())
        return torch.cat(parts).numpy()

    def _encode(self, prompts: Sequence[Prompt], cues: Float[Tensor, "prompts rows cue_dim"] | None) -> Conditioning:
        """Prompts whose cues are as strong as they are."""
        parts = [None] * len(self.cue_dims) if cues is None else cues.split(self.cue_dims, dim=-1)
        encoded = [encoder.encode(prompts, part) for encoder, part in zip(self.text_encoders, parts, strict=True)]
        if not self.is_xl:
            return Conditioning(encoded[0][0])
        return Conditioning(torch.cat([before_last for _, before_last, _ in encoded], dim=-1), encoded[1][2])

    def _without(self, prompt: Prompt, cues: Float[Tensor, "rows cue_dim"], name: str) -> Float[Tensor, "rows cue_dim"]:
        """The rows of a prompt's cues with those of one made neutral."""
        rows = torch.tensor(shares_of(prompt, len(cues))[name], device=cues.device)
        return cues.index_copy(0, rows, self.neutral.to(cues.dtype).expand(len(rows), -1))

    def _encode_nothing(self) -> Conditioning:
        """The empty prompt; SDXL says in its configuration whether that is zeros."""
        empty = self.encode_prompts([""])
        if empty.pooled is None or not self.pipeline.config.force_zeros_for_empty_prompt:
            return empty
        return Conditioning(torch.zeros_like(empty.context), torch.zeros_like(empty.pooled))

    def _added(self, conditioning: Conditioning, size: tuple[int, int] | None = None) -> dict[str, Tensor] | None:
        """What SDXL's UNet wants to know besides: the pooled prompt, and down and across; nothing was cropped."""
        if conditioning.pooled is None:
            return None
        size, pooled = size or (self.default_size,) * 2, conditioning.pooled.to(self.dtype)
        sizes = torch.tensor([*size, 0, 0, *size], dtype=self.dtype, device=self.device)
        return {"text_embeds": pooled, "time_ids": sizes.expand(len(pooled), -1)}


def load_diffusion(
    name: str | Path,
    device: str | torch.device = "cpu",
    revision: str | None = None,
    dtype: torch.dtype = torch.float32,
) -> Diffusion:
    """Load a pipeline from a folder or the hub, whole and frozen; safetensors only, no safety checker.

    `dtype` is as `aai.models.device.dtype_on` says; a VAE that overflows in half precision stays in float32.

    Raises:
        BadConfig: as `pin` and `load_frozen`; there is no pipeline, or it is neither Stable Diffusion 1.x nor XL.
    """
    diffusers_logging.disable_progress_bar()
    pinned = pin(name, revision)
    with loading(DiffusionPipeline, name):
        kind = DiffusionPipeline.load_config(name, revision=revision)["_class_name"]
    if kind not in _TEXT_ENCODERS:
        raise BadConfig(f"{name}: {kind} is not supported: name a pipeline of {' or '.join(_TEXT_ENCODERS)}")
    with loading(AutoencoderKL, name):
        settings = AutoencoderKL.load_config(name, subfolder="vae", revision=revision)
    vae_dtype = torch.float32 if kind == "StableDiffusionXLPipeline" and settings.get("force_upcast", True) else dtype
    parts = {part: load_frozen(each, name, revision, dtype, part) for part, each in _TEXT_ENCODERS[kind].items()}
    parts["unet"] = load_frozen(UNet2DConditionModel, name, revision, dtype, "unet")
    parts["vae"] = load_frozen(AutoencoderKL, name, revision, vae_dtype, "vae")
    if kind == "StableDiffusionPipeline":
        parts |= _UNCHECKED
    with loading(DiffusionPipeline, name):
        pipeline = DiffusionPipeline.from_pretrained(name, revision=revision, use_safetensors=True, **parts)
    return Diffusion(pipeline.to(device), *pinned)


def _less(said: Conditioning, unsaid: Conditioning, rows: list[int], weights: Float[Tensor, " less"]) -> Conditioning:
    """What is said, less a share of its difference to what is unsaid, at some rows; a row may come more than once."""
    at = torch.tensor(rows, device=weights.device)

    def apart(whole: Tensor, part: Tensor) -> Tensor:
        share = weights.to(whole.dtype).view(-1, *[1] * (whole.ndim - 1))
        return whole.index_add(0, at, (part - whole[at]) * share)

    context = apart(said.context, unsaid.context)
    if said.pooled is None or unsaid.pooled is None:
        return Conditioning(context)
    return Conditioning(context, apart(said.pooled, unsaid.pooled))


def _at_once(num_pixels: int) -> int:
    """How many pictures of so many pixels go through the VAE together."""
    return max(1, _VAE_PIXELS // num_pixels)
