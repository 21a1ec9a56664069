"""Batches of arrays that differ in shape: nothing is padded, so a result does not depend on the others of its batch."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from jaxtyping import Float32
from torch import Tensor


def by_shape(arrays: Sequence[np.ndarray]) -> list[list[int]]:
    """The indices of arrays of one shape together, in the order in which the shapes come first."""
    groups: dict[tuple[int, ...], list[int]] = {}
    for index, array in enumerate(arrays):
        groups.setdefault(array.shape, []).append(index)
    return list(groups.values())


def embed_all(
    arrays: Sequence[np.ndarray], embed: Callable[[Tensor], Tensor], dim: int, batch_size: int
) -> Float32[Tensor, "arrays dim"]:
    """Vectors of arrays of any shapes, on the CPU, in their order; those of one shape share batches."""
    vectors = torch.empty(len(arrays), dim)
    for group in by_shape(arrays):
        for start in range(0, len(group), batch_size):
            some = group[start : start + batch_size]
            vectors[some] = embed(torch.from_numpy(np.stack([arrays[index] for index in some]))).float().cpu()
    return vectors
