"""Adapt: an aligned audio vector becomes an AudioCue, rows in the text encoder's token-embedding space."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from aai.pretrained import Network


class CueMapper(Network):
    """The shared network from aligned audio vectors to cues; what it knows of all clips, before any is fitted.

    It starts at `start` for every clip (a mean of real words, say), because a cue that starts far from all words is
    lost: see D9. A folder of safetensors on disk.

    `unit` is what 1 in the last layer's output is in a cue: embeddings of text encoders differ in size by a factor of
    ten, and with a unit of a few times their root mean square (see `unit_for`) they are all learned at the same rate.
    """

    def __init__(
        self, image_dim: int, token_dim: int, num_rows: int = 2, hidden_dim: int = 256, unit: float = 1.0
    ) -> None:
        super().__init__()
        self.unit = unit
        self.num_rows, self.token_dim = num_rows, token_dim
        self.layers = nn.Sequential(
            nn.Linear(image_dim, hidden_dim),
            nn.GELU(),
            nn.Linear(hidden_dim, hidden_dim),
            nn.GELU(),
            nn.Linear(hidden_dim, num_rows * token_dim),
        )
        self.scale = image_dim**0.5

    @torch.no_grad()
    def start_at(self, rows: Float[Tensor, "rows dim"]) -> None:
        """Begin with the same cue for every clip, and a small share of what tells clips apart."""
        last = self.layers[-1]
        assert isinstance(last, nn.Linear)
        last.weight.mul_(0.3)
        last.bias.copy_(rows.flatten() / self.unit)

    def forward(self, aligned: Float[Tensor, "clips image_dim"]) -> Float[Tensor, "clips rows dim"]:
        """Cues for unit vectors."""
        return self.unit * self.layers(aligned * self.scale).view(-1, self.num_rows, self.token_dim)


def unit_for(rows: Float[Tensor, "rows dim"]) -> float:
    """The `unit` of a mapper that starts at some rows: 1 where these are as large as the tiny world's words."""
    return float(4 * rows.square().mean().sqrt())
