"""Random access to rows by id: a sorted copy on local disk, memory-mapped.

It serves streams of rows that each name several other rows. A join would have to aggregate lists, which DuckDB cannot
spill to disk.
"""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from aai.store_errors import store_errors

_ID_BYTES = 16


class KeyedRows:
    """Rows sorted by a column of ids, which are digests of 32 hex digits."""

    def __init__(self, rows: pa.Table, key: str) -> None:
        self._rows, self._key = rows, key
        chunks = [_numbers(chunk) for chunk in rows[key].chunks]
        self._numbers = np.concatenate([np.empty(0, np.uint64), *chunks])

    @classmethod
    def on_disk(cls, batches: Iterable[pa.Table], schema: pa.Schema, key: str, path: Path) -> "KeyedRows":
        """Write a sorted stream to a file, and map it into memory.

        Raises:
            Transient: the disk is full.
        """
        with (
            store_errors("writing to the folder of temporary files"),
            pa.OSFile(str(path), "wb") as sink,
            pa.ipc.new_file(sink, schema) as writer,
        ):
            for batch in batches:
                writer.write_table(batch.select(schema.names).cast(schema))
        return cls(pa.ipc.open_file(pa.memory_map(str(path))).read_all(), key)

    def take(self, ids: pa.Array) -> pa.Table:
        """The rows with these ids, in the same order; nulls for an unknown id.

        Only 64 bits are compared: among a hundred million ids, two collide with a probability of 1 in 4,000. The bytes
        of a file are checked when it is opened.
        """
        numbers = _numbers(ids)
        if not len(self._numbers):
            return self._rows.schema.empty_table().take(pa.nulls(len(ids), pa.int64()))
        positions = np.minimum(np.searchsorted(self._numbers, numbers), len(self._numbers) - 1)
        is_known = self._numbers[positions] == numbers
        return self._rows.take(pc.if_else(pa.array(is_known), pa.array(positions), pa.scalar(None, pa.int64())))


def _numbers(ids: pa.Array) -> np.ndarray:
    """The first 8 bytes of each id, as numbers that sort like the ids."""
    raw = bytes.fromhex("".join(ids.to_pylist()))
    return np.frombuffer(raw, ">u8").reshape(-1, _ID_BYTES // 8)[:, 0].astype(np.uint64)
