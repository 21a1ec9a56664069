"""How many rows of the denoising loss fit into memory: estimated from passes of few rows, verified by a larger one.

Memory is linear in the rows of a pass: what the backward pass needs is kept for each of them.
"""

import logging
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from aai.cues.denoising import SampleRows, losses_and_gradient, losses_of
from aai.cues.options import MOST_ROWS
from aai.models.diffusion import Diffusion
from aai.models.memory import free_bytes, peak_memory
from aai.noise import generator_of
from aai.options import PLACEHOLDER

_MOST_ROWS_ON_CPU = 16
"""More rows in a pass are no faster: a CPU is busy with four."""

_USED = 0.85
"""Share of the free memory that is planned with; the rest is for fragments and for what is not measured."""

_BACKWARD = 1.5
"""Memory of a forward and backward pass on a CPU, relative to the tensors that the forward pass keeps."""

_GIB = 2**30

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class RowMemory:
    """The memory of passes, forward and backward, as a line over their rows."""

    base: float
    """Bytes of a pass without rows."""
    per_row: float
    """Bytes of each row."""
    budget: float
    """Bytes that passes may take."""
    most: int
    """Rows that are not exceeded even where memory would do."""

    @classmethod
    def through(cls, small: tuple[int, int], large: tuple[int, int], budget: float, most: int) -> "RowMemory":
        """The line through two measurements (rows, bytes)."""
        per_row = max((large[1] - small[1]) / (large[0] - small[0]), 1.0)
        return cls(max(0.0, small[1] - small[0] * per_row), per_row, budget, most)

    @property
    def rows(self) -> int:
        """Rows that fit, at least one."""
        return max(1, min(self.most, int((self.budget - self.base) / self.per_row)))

    def after(self, rows: int, num_bytes: int) -> "RowMemory":
        """The line, raised if a pass took more than was expected."""
        return replace(self, per_row=max(self.per_row, (num_bytes - self.base) / rows))

    def __str__(self) -> str:
        return f"{self.rows} rows in a pass: {self.per_row / _GIB:.2f} GiB each, of {self.budget / _GIB:.1f} GiB"


def measure_rows(diffusion: Diffusion, num_tokens: int, share: float = 1.0, most: int | None = None) -> RowMemory:
    """Measure the rows that fit into the free memory of the model's device.

    Args:
        diffusion: the model, loaded.
        num_tokens: token vectors of a cue.
        share: the part of the device's memory that is this worker's own.
        most: rows that are not needed beyond; by default as many as make passes faster.
    """
    device = diffusion.device
    most = min(most or MOST_ROWS, MOST_ROWS if device.type == "cuda" else _MOST_ROWS_ON_CPU)
    if device.type == "cuda":
        run_passes(diffusion, num_tokens, 1)  # libraries take their workspaces once
    budget, one = _USED * free_bytes(device, share), (1, _pass_bytes(diffusion, num_tokens, 1))
    found = RowMemory.through((0, 0), one, budget, most)
    if found.rows > 1:
        found = RowMemory.through(one, (2, _pass_bytes(diffusion, num_tokens, 2)), budget, most)
    if device.type == "cuda" and (half := found.rows // 2) > 2:
        found = RowMemory.through(one, (half, _pass_bytes(diffusion, num_tokens, half)), budget, most)
    _log.info("fitting with %s", found)
    return found


def run_passes(diffusion: Diffusion, num_tokens: int, num_rows: int) -> None:
    """A forward and backward pass of rows with random contents, each with a cue of its own."""
    cues, rows = _random_rows(diffusion, num_tokens, num_rows)
    losses_and_gradient(diffusion, cues, rows, num_rows)


def try_passes(diffusion: Diffusion, num_tokens: int, num_rows: int) -> None:
    """Passes of rows with random contents, with gradients and without."""
    run_passes(diffusion, num_tokens, num_rows)
    cues, rows = _random_rows(diffusion, num_tokens, num_rows)
    losses_of(diffusion, cues, rows, num_rows)


def _pass_bytes(diffusion: Diffusion, num_tokens: int, num_rows: int) -> int:
    """Bytes that a pass takes beyond the model: measured on a GPU, on a CPU from the tensors that are kept."""
    if diffusion.device.type == "cuda":
        with peak_memory(diffusion.device) as peak:
            run_passes(diffusion, num_tokens, num_rows)
        return peak.num_bytes
    return int(_BACKWARD * _kept_bytes(diffusion, num_tokens, num_rows))


def _kept_bytes(diffusion: Diffusion, num_tokens: int, num_rows: int) -> int:
    """Bytes of the distinct tensors that a forward pass keeps for the backward pass, the weights left out."""
    kept: dict[int, torch.UntypedStorage] = {}  # held, so that no later one gets the address of one that was freed
    weights = {weight.untyped_storage().data_ptr() for weight in diffusion.pipeline.unet.parameters()}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage
        return tensor

    cues, rows = _random_rows(diffusion, num_tokens, num_rows)
    with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        conditioning = diffusion.encode_prompts([PLACEHOLDER] * num_rows, cues.requires_grad_())
        latents, timesteps = (
            torch.cat(parts) for parts in zip(*((row.latents, row.timesteps) for row in rows), strict=True)
        )
        diffusion.denoising_losses(latents, conditioning, timesteps, latents)
    return sum(storage.nbytes() for storage in kept.values())


def _random_rows(diffusion: Diffusion, num_tokens: int, num_rows: int) -> tuple[Tensor, list[SampleRows]]:
    side = diffusion.default_size // diffusion.pipeline.vae_scale_factor
    channels, steps = diffusion.pipeline.unet.config.in_channels, diffusion.num_train_timesteps
    rng = generator_of(0)
    latents = torch.randn(num_rows, channels, side, side, generator=rng)
    rows = [SampleRows(latent[None], [PLACEHOLDER], torch.tensor([steps // 2]), latent[None]) for latent in latents]
    cue = diffusion.mean_embedding.float().expand(num_rows, num_tokens, -1)
    return cue.clone(), rows
