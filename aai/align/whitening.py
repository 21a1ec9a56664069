"""Whitening of audio vectors during the training; afterwards it is part of the projector's first layer."""

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from aai.align.projector import Projector

_MAX_ROWS = 100_000
"""Vectors that mean and covariance are measured on."""

_MIN_VARIANCE = 0.05
"""Directions with less of the mean variance are not scaled up further: they are noise."""


class Whitening(nn.Module):
    """Subtracts a mean, and applies a linear map."""

    mean: Tensor
    matrix: Tensor

    def __init__(self, mean: Float[Tensor, " dim"], matrix: Float[Tensor, "dim dim"]) -> None:
        super().__init__()
        self.register_buffer("mean", mean)
        self.register_buffer("matrix", matrix)

    def forward(self, vectors: Float[Tensor, "vectors dim"]) -> Float[Tensor, "vectors dim"]:
        """Whitened vectors."""
        return (vectors - self.mean) @ self.matrix.T


def whitening_of(
    vectors: Float[np.ndarray, "vectors dim"], members: Int64[np.ndarray, " some"], full: bool
) -> Whitening:
    """The whitening (ZCA) of some of the vectors; without `full` they stay as they are."""
    dim = vectors.shape[1]
    if not full:
        return Whitening(torch.zeros(dim), torch.eye(dim))
    chosen = members[:: max(1, len(members) // _MAX_ROWS)]
    sample = np.asarray(vectors[chosen], np.float32)
    mean = sample.mean(axis=0)
    values, axes = np.linalg.eigh(np.cov(sample - mean, rowvar=False, dtype=np.float64))
    average = max(float(values.mean()), float(np.finfo(np.float32).tiny))
    shrinkage = dim / (dim + len(sample))  # few vectors do not show the variance of all directions
    values = (1 - shrinkage) * values + shrinkage * average
    scales = 1 / np.sqrt(np.maximum(values, _MIN_VARIANCE * average))
    matrix = (axes * scales) @ axes.T
    return Whitening(torch.from_numpy(mean), torch.from_numpy(matrix.astype(np.float32)))


@torch.no_grad()
def fold(projector: Projector, whitening: Whitening) -> Projector:
    """A projector of raw vectors that equals the projector of whitened ones."""
    first = projector.first
    weight = first.weight @ whitening.matrix
    first.bias.sub_(weight @ whitening.mean)
    first.weight.copy_(weight)
    return projector
