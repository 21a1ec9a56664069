"""Align: an audio embedding is brought into the image encoder's space.

The image space stays as it is, so an index of images built before remains valid; only audio moves.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from aai.pretrained import Network


class Projector(Network):
    """A small network from audio embeddings to unit vectors in the image space; a folder of safetensors on disk."""

    def __init__(self, audio_dim: int, image_dim: int, hidden_dim: int = 256) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(audio_dim, hidden_dim),
            nn.GELU(),
            nn.Linear(hidden_dim, hidden_dim),
            nn.GELU(),
            nn.Linear(hidden_dim, image_dim),
        )

    def forward(self, audio: Float[Tensor, "*clips audio_dim"]) -> Float[Tensor, "*clips image_dim"]:
        """Aligned vectors of length 1."""
        return F.normalize(self.layers(audio), dim=-1)


def contrast(logits: Float[Tensor, "left right"], pairs: Float[Tensor, "left right"]) -> Float[Tensor, ""]:
    """Symmetric InfoNCE over a batch, where `pairs` says how much a left and a right item belong together.

    With a diagonal `pairs` it is the contrastive loss of CLIP; a row without any pair does not count.

    Source: Radford et al. 2021, "Learning Transferable Visual Models From Natural Language Supervision", figure 3;
    several pairs in a row as in Khosla et al. 2020, "Supervised Contrastive Learning", eq. 2.
    """
    return (_contrast_rows(logits, pairs) + _contrast_rows(logits.T, pairs.T)) / 2


_LEAST_PAIR = 0.05


def _contrast_rows(logits: Tensor, pairs: Tensor) -> Tensor:
    total = pairs.sum(dim=1)
    wanted = pairs / total.clamp(min=_LEAST_PAIR)[:, None]
    losses = -(wanted * F.log_softmax(logits, dim=1)).sum(dim=1)
    paired = total >= _LEAST_PAIR
    return (losses * paired).sum() / paired.sum().clamp(min=1)


def temperature() -> nn.Parameter:
    """A learnable log of the factor on cosine similarities, 1/0.07 at first."""
    return nn.Parameter(torch.tensor(1 / 0.07).log())
