"""Projection of audio embeddings into the image embedding space.

The image encoder is frozen, so an existing image index stays valid.
"""

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from aai.pretrained import PretrainedModule


class Projector(PretrainedModule):
    """MLP from audio embeddings to unit vectors in the image embedding space; a linear map if `hidden_dim` is 0."""

    def __init__(self, audio_dim: int, image_dim: int, hidden_dim: int = 256) -> None:
        super().__init__()
        if not hidden_dim:
            self.layers = nn.Sequential(nn.Linear(audio_dim, image_dim))
            return
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

    @property
    def first(self) -> nn.Linear:
        """The layer that the audio embeddings enter."""
        layer = self.layers[0]
        assert isinstance(layer, nn.Linear)
        return layer
