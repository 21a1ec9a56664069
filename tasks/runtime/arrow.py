"""Conversion between Arrow columns and NumPy arrays."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from jaxtyping import Float32

Vectors = Float32[np.ndarray, "items dim"]


def to_lists(vectors: Vectors) -> pa.ListArray:
    """An array as a column of lists, without a Python object per number."""
    num, dim = vectors.shape
    offsets = pa.array(np.arange(num + 1, dtype=np.int32) * np.int32(dim))
    return pa.ListArray.from_arrays(offsets, pa.array(np.ascontiguousarray(vectors, np.float32).ravel()))


def to_array(column: pa.ChunkedArray | pa.Array) -> Vectors:
    """A column of lists of equal length as an array.

    Raises:
        ValueError: the lists have different lengths.
    """
    if not len(column):
        return np.empty((0, 0), np.float32)
    flat = np.concatenate([part.flatten().to_numpy() for part in _chunks(column)])
    if len(flat) % len(column):
        raise ValueError(f"{len(flat)} numbers cannot be {len(column)} lists of equal length")
    return flat.reshape(len(column), -1)


def constants(num: int, **values: object) -> dict[str, list[object]]:
    """Columns with one value in all rows."""
    return {name: [value] * num for name, value in values.items()}


def _chunks(column: pa.ChunkedArray | pa.Array) -> Sequence[pa.Array]:
    return column.chunks if isinstance(column, pa.ChunkedArray) else [column]
