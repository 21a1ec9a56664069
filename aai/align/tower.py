"""The last blocks of the audio encoder, trained together with the projector."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Float16, Int64
from torch import Tensor, nn
from torch.func import functional_call
from torch.utils.checkpoint import checkpoint

_CHUNK = 64
"""Clips that go through the blocks at a time. What a chunk needs for its gradients is computed again when they are, so
that memory does not grow with the batch: 64 clips of 2 blocks of HTSAT take 0.5 GB.

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
        is_again = torch.is_grad_enabled() and len(unique) > _CHUNK
        parts = []
        for start in range(0, len(unique), _CHUNK):
            inputs = torch.from_numpy(self.inputs[unique[start : start + _CHUNK]]).to(device)
            if is_again:
                parts.append(checkpoint(self._applied, inputs, weights, use_reentrant=False, preserve_rng_state=False))
            else:
                parts.append(self._applied(inputs, weights))
        return torch.cat(parts)[torch.from_numpy(rows).to(device)]

    def _applied(self, inputs: Tensor, weights: Mapping[str, Tensor] | None) -> Tensor:
        vectors: Tensor
        if weights is None:
            vectors = self.blocks(inputs.float())
        else:
            vectors = functional_call(self.blocks, dict(weights), (inputs.float(),))
        return vectors
