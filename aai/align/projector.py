"""Projection of audio embeddings into the image embedding space, and the contrastive loss to train it.

The image encoder is frozen, so an existing image index stays valid.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from aai.pretrained import PretrainedModule


class Projector(PretrainedModule):
    """MLP from audio embeddings to unit vectors in the image embedding space."""

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
        """Aligned embeddings, L2-normalised."""
        return F.normalize(self.layers(audio), dim=-1)


_MIN_TOTAL_WEIGHT = 0.05  # an item with less has no positive


def info_nce(logits: Float[Tensor, "left right"], weights: Float[Tensor, "left right"]) -> Float[Tensor, ""]:
    """Symmetric InfoNCE with soft positives: `weights`, in [0, 1], is how much a left and a right item match.

    The identity matrix gives CLIP's contrastive loss; items without a positive are left out of the mean.

    Source: Radford et al. 2021, "Learning Transferable Visual Models From Natural Language Supervision", figure 3;
    multiple positives as in Khosla et al. 2020, "Supervised Contrastive Learning", eq. 2.
    """
    return (_info_nce_of_rows(logits, weights) + _info_nce_of_rows(logits.T, weights.T)) / 2


def _info_nce_of_rows(logits: Tensor, weights: Tensor) -> Tensor:
    total = weights.sum(dim=1)
    targets = weights / total.clamp(min=_MIN_TOTAL_WEIGHT)[:, None]
    losses = -(targets * F.log_softmax(logits, dim=1)).sum(dim=1)
    has_positive = total >= _MIN_TOTAL_WEIGHT
    return (losses * has_positive).sum() / has_positive.sum().clamp(min=1)


def logit_scale() -> nn.Parameter:
    """CLIP's learnable log of the inverse softmax temperature, initially log(1/0.07)."""
    return nn.Parameter(torch.tensor(1 / 0.07).log())
