"""Between the columns of tables and arrays."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from jaxtyping import Float32

Vectors = Float32[np.ndarray, "items dim"]


def to_lists(vectors: Vectors) -> pa.ListArray:
    """Rows as a column of lists, without a Python object per number."""
    num, dim = vectors.shape
    offsets = pa.array(np.arange(0, num * dim + 1, dim or 1, dtype=np.int32)[: num + 1])
    return pa.ListArray.from_arrays(offsets, pa.array(np.ascontiguousarray(vectors, np.float32).ravel()))


def to_array(column: pa.ChunkedArray | pa.Array) -> Vectors:
    """A column of lists of equal length as rows.

    Raises:
        ValueError: the lists have different lengths.
    """
    if not len(column):
        return np.empty((0, 0), np.float32)
    flat = np.concatenate([part.flatten().to_numpy() for part in _chunks(column)])
    if len(flat) % len(column):
        raise ValueError(f"{len(flat)} numbers are not {len(column)} lists of one length")
    return flat.reshape(len(column), -1)


def constants(num: int, **values: object) -> dict[str, list[object]]:
    """Columns that hold one value throughout."""
    return {name: [value] * num for name, value in values.items()}


def _chunks(column: pa.ChunkedArray | pa.Array) -> Sequence[pa.Array]:
    return column.chunks if isinstance(column, pa.ChunkedArray) else [column]
