"""The denoising loss of cues, computed in micro-batches.

A row is one sample (cue, image, timestep, noise) of the loss: an element of the UNet's batch. Memory grows with the
rows of a pass, not with clips, so every function here takes their maximum.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from aai.noise import generator_of


@runtime_checkable
class TextToImage(Protocol):
    """The frozen text-to-image model; `aai.models.diffusion.Diffusion` implements it."""

    @property
    def num_train_timesteps(self) -> int:
        """Timesteps are in [0, num_train_timesteps)."""

    @property
    def device(self) -> torch.device:
        """The device of the model."""

    def encode_prompts(self, prompts: Sequence[str], cues: Tensor | None = None) -> Any:
        """The UNet's conditioning, to be indexed by prompt; differentiable in the cues, prompts x tokens x dim."""

    def denoising_losses(self, latents: Tensor, conditioning: Any, timesteps: Tensor, noise: Tensor) -> Tensor:
        """The loss of each row."""


@dataclass(frozen=True)
class ClipToFit:
    """A clip with the images that supervise its cue, as latents."""

    clip_id: str
    aligned: Float[Tensor, " image_dim"]
    """Unit vector in the image encoder's space; textual inversion ignores it."""
    latents: Float[Tensor, "images c h w"]
    image_ids: tuple[str, ...]
    """Of the latents, in the same order."""
    weights: Float[Tensor, "images prompts"] | None = None
    """How often each pair is drawn, relative to the others; without them all are drawn equally often."""

    def __post_init__(self) -> None:
        assert len(self.image_ids) == len(self.latents), "an id for each image"


@dataclass(frozen=True)
class SampleRows:
    """Rows of one cue."""

    latents: Float[Tensor, "rows c h w"]
    prompts: list[str]
    timesteps: Int[Tensor, " rows"]
    noise: Float[Tensor, "rows c h w"]

    def __len__(self) -> int:
        return len(self.prompts)


def draw_rows(seed: int, clip: ClipToFit, num: int, templates: Sequence[str], num_timesteps: int) -> SampleRows:
    """Random rows of a clip, with stratified timesteps.

    Images come in random order, and again from the first after the last; or pairs of image and prompt by their weights.
    """
    rng = generator_of(seed)
    images, chosen = _draw_pairs(clip, num, len(templates), rng)
    fractions = (torch.arange(num) + torch.rand(num, generator=rng)) / num
    timesteps = (fractions * num_timesteps).long().clamp(max=num_timesteps - 1)
    noise = torch.randn((num, *clip.latents.shape[1:]), generator=rng)
    return SampleRows(clip.latents[images], [templates[index] for index in chosen.tolist()], timesteps, noise)


def _draw_pairs(clip: ClipToFit, num: int, num_prompts: int, rng: torch.Generator) -> tuple[Tensor, Tensor]:
    """Numbers of images and of their prompts."""
    if clip.weights is None:
        images = torch.randperm(len(clip.latents), generator=rng).repeat(-(-num // len(clip.latents)))[:num]
        return images, torch.randint(num_prompts, (num,), generator=rng)
    pairs = torch.multinomial(clip.weights.flatten(), num, replacement=True, generator=rng)
    return pairs // num_prompts, pairs % num_prompts


@torch.no_grad()
def losses_of(
    model: TextToImage, cues: Float[Tensor, "cues tokens dim"], rows: Sequence[SampleRows], max_rows: int
) -> Float[Tensor, " cues"]:
    """The mean loss of each cue over its rows; all cues have equally many."""
    return _mean_per_cue(list(_micro_batch_losses(model, cues, rows, max_rows)), rows)


def losses_and_gradient(
    model: TextToImage, cues: Float[Tensor, "cues tokens dim"], rows: Sequence[SampleRows], max_rows: int
) -> tuple[Float[Tensor, " cues"], Float[Tensor, "cues tokens dim"]]:
    """As `losses_of`, and the gradient of their sum with respect to the cues, accumulated over micro-batches."""
    cues = cues.detach().requires_grad_()
    gradient, parts = torch.zeros_like(cues), []
    with torch.enable_grad():
        for losses in _micro_batch_losses(model, cues, rows, max_rows):
            gradient += torch.autograd.grad(losses.sum() / len(rows[0]), cues)[0]
            parts.append(losses.detach())
    return _mean_per_cue(parts, rows), gradient


def _mean_per_cue(parts: list[Tensor], rows: Sequence[SampleRows]) -> Float[Tensor, " cues"]:
    return torch.cat(parts).view(len(rows), -1).mean(1)


def _micro_batch_losses(
    model: TextToImage, cues: Float[Tensor, "cues tokens dim"], rows: Sequence[SampleRows], max_rows: int
) -> Iterator[Float[Tensor, " rows"]]:
    """The loss of each row, cue by cue, at most `max_rows` at a time.

    Without gradients the text encoder keeps nothing, so it encodes the prompts of all micro-batches beforehand.
    """
    assert len({len(drawn) for drawn in rows}) == 1, "as many rows for each cue"
    cue_of_row = [index for index, drawn in enumerate(rows) for _ in range(len(drawn))]
    prompts = [prompt for drawn in rows for prompt in drawn.prompts]
    latents, timesteps, noise = (
        torch.cat(parts).split(max_rows)
        for parts in zip(*((drawn.latents, drawn.timesteps, drawn.noise) for drawn in rows), strict=True)
    )
    encoded = None if torch.is_grad_enabled() else _encode(model, cues, cue_of_row, prompts)
    for number, tensors in enumerate(zip(latents, timesteps, noise, strict=True)):
        part = slice(number * max_rows, (number + 1) * max_rows)
        conditioning = _encode(model, cues, cue_of_row[part], prompts[part]) if encoded is None else encoded[part]
        clean, at, added = (tensor.to(model.device) for tensor in tensors)
        yield model.denoising_losses(clean, conditioning, at, added)


def _encode(
    model: TextToImage, cues: Float[Tensor, "cues tokens dim"], cue_of_row: Sequence[int], prompts: Sequence[str]
) -> Any:
    """The conditioning of each row; rows with the same cue and prompt share one pass of the text encoder."""
    pairs = list(zip(cue_of_row, prompts, strict=True))
    unique = {pair: index for index, pair in enumerate(dict.fromkeys(pairs))}
    encoded = model.encode_prompts([prompt for _, prompt in unique], cues[[cue for cue, _ in unique]])
    return encoded[[unique[pair] for pair in pairs]]
