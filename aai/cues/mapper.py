"""The mapper: an aligned audio vector becomes an AudioCue, token vectors in the text encoder's embedding space."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from aai.pretrained import PretrainedModule


class CueMapper(PretrainedModule):
    """The network, shared by all clips, from aligned audio vectors to cues.

    Before training every clip's cue is near `start_at` (the mean of some words, say): optimisation from a point far
    from all words does not find a usable cue (D9).

    `unit` scales the last layer's output. Token embeddings of different text encoders differ in size by a factor of
    ten; with the unit of `unit_for` one learning rate suits all of them.
    """

    def __init__(
        self, image_dim: int, token_dim: int, num_tokens: int = 2, hidden_dim: int = 256, unit: float = 1.0
    ) -> None:
        super().__init__()
        self.unit = unit
        self.num_tokens, self.token_dim = num_tokens, token_dim
        self.layers = nn.Sequential(
            nn.Linear(image_dim, hidden_dim),
            nn.GELU(),
            nn.Linear(hidden_dim, hidden_dim),
            nn.GELU(),
            nn.Linear(hidden_dim, num_tokens * token_dim),
        )
        self.scale = image_dim**0.5

    @torch.no_grad()
    def start_at(self, vectors: Float[Tensor, "tokens dim"]) -> None:
        """Initialise the last layer so that all cues are near `vectors`, with small differences between clips."""
        last = self.layers[-1]
        assert isinstance(last, nn.Linear)
        last.weight.mul_(0.3)
        last.bias.copy_(vectors.flatten() / self.unit)

    def forward(self, aligned: Float[Tensor, "clips image_dim"]) -> Float[Tensor, "clips tokens dim"]:
        """The cues of aligned vectors of length 1."""
        return self.unit * self.layers(aligned * self.scale).view(-1, self.num_tokens, self.token_dim)


def unit_for(vectors: Float[Tensor, "tokens dim"]) -> float:
    """The `unit` of a mapper that starts at these vectors: four times their root mean square.

    It is 1 for vectors as large as the word embeddings of the tiny text encoder.
    """
    return float(4 * vectors.square().mean().sqrt())
