"""The last blocks of the audio encoder, trained together with the projector."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Float16, Int64
from torch import Tensor, nn
from torch.func import functional_call

_CHUNK = 64
"""Clips that go through the blocks at a time. What a chunk needs for its gradients is computed again when they are, so
that memory does not grow with the batch: 64 clips of 2 blocks of HTSAT take 1 GB.

Source: Gao et al. 2021, "Scaling Deep Contrastive Learning Batch Size under Memory Limited Setup".
"""


@dataclass(frozen=True)
class Tower:
    """Blocks, and what enters them: the output of the frozen part of the encoder, which is computed once."""

    blocks: nn.Module
    """From their inputs to unit vectors."""
    inputs: Float16[np.ndarray, "sounds patches width"]
    """A row per sound of the pairs."""

    def weights(self) -> dict[str, Tensor]:
        """What is trained, by name."""
        return dict(self.blocks.named_parameters())

    def vectors(
        self, sounds: Int64[np.ndarray, " rows"], device: torch.device, weights: Mapping[str, Tensor] | None = None
    ) -> Float[Tensor, "rows dim"]:
        """Unit vectors of some sounds, with other weights if they are given; a sound that occurs twice is one row."""
        unique, rows = np.unique(sounds, return_inverse=True)
        chunks = [unique[start : start + _CHUNK] for start in range(0, len(unique), _CHUNK)]
        if torch.is_grad_enabled() and len(chunks) > 1:
            anchor = torch.zeros((), device=device, requires_grad=True)  # so that the results have gradients
            parts: list[Tensor] = [_Again.apply(anchor, self, chunk, device) for chunk in chunks]
        else:
            parts = [self.chunk(chunk, device, weights) for chunk in chunks]
        return torch.cat(parts)[torch.from_numpy(rows).to(device)]

    def chunk(
        self, sounds: Int64[np.ndarray, " rows"], device: torch.device, weights: Mapping[str, Tensor] | None = None
    ) -> Float[Tensor, "rows dim"]:
        """Unit vectors of so many sounds as go through the blocks at a time."""
        inputs = torch.from_numpy(self.inputs[sounds]).to(device).float()
        vectors: Tensor = functional_call(self.blocks, dict(weights or {}), (inputs,))
        return vectors


class _Again(torch.autograd.Function):
    """Vectors of a chunk; what their gradients need is computed again in the backward pass, and dropped after it."""

    @staticmethod
    def forward(ctx: Any, anchor: Tensor, tower: Tower, sounds: np.ndarray, device: torch.device) -> Tensor:
        """The vectors."""
        ctx.again = tower, sounds, device
        return tower.chunk(sounds, device)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[None, None, None, None]:
        """Add the gradients of the blocks' parameters to theirs."""
        tower, sounds, device = ctx.again
        with torch.enable_grad():
            vectors = tower.chunk(sounds, device)
        vectors.backward(gradients[0])
        return None, None, None, None
