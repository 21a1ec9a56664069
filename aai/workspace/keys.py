"""Keys of rows: which rows are stored already."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from aai.workspace.schemas import Schema

_SEPARATOR = "\x1f"


@dataclass(frozen=True)
class StoredKeys:
    """The keys of a recipe's rows in a version of the table, and the data files that hold them."""

    version: int
    transaction: int
    """The transaction number of the recipe in that version."""
    files: frozenset[str]
    keys: pa.ChunkedArray


NO_KEYS = StoredKeys(-1, 0, frozenset(), pa.chunked_array([], pa.string()))


def keys_of(schema: Schema, rows: pa.Table) -> pa.ChunkedArray:
    """The key of each row as one string, which begins with the item's id."""
    columns = [rows[name].cast(pa.string()) for name in schema.key]
    return columns[0] if len(columns) == 1 else pc.binary_join_element_wise(*columns, _SEPARATOR)


def ids_of(keys: Iterable[pa.ChunkedArray]) -> Iterator[str]:
    """The items' ids in some keys."""
    for chunk in (chunk for array in keys for chunk in array.chunks):
        for key in chunk.to_pylist():
            yield key.partition(_SEPARATOR)[0]


def new_rows(rows: pa.Table, keys: pa.ChunkedArray, stored: pa.ChunkedArray) -> tuple[pa.Table, pa.ChunkedArray]:
    """The first row of each key that is not stored yet, and these keys."""
    duplicates = stored.filter(pc.is_in(stored, value_set=keys))  # hashes the few new keys, not the many stored
    numbered = pa.table({"key": keys, "row": pa.arange(0, len(keys))})
    firsts = numbered.group_by("key", use_threads=False).aggregate([("row", "min")])
    firsts = firsts.filter(pc.invert(pc.is_in(firsts["key"], value_set=duplicates)))
    if firsts.num_rows < rows.num_rows:
        rows = rows.take(firsts["row_min"])
    return rows, firsts["key"]


def concatenated(*arrays: pa.ChunkedArray) -> pa.ChunkedArray:
    """Arrays of keys one after the other."""
    return pa.chunked_array([chunk for array in arrays for chunk in array.chunks], type=pa.string())
