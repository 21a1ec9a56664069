"""Rows of any table, for tests of the workspace."""

import pyarrow as pa

from aai.workspace import SCHEMAS, Health

OLD, NEW = "ab12", "cd34"
SLICE_ROWS = 5
HEALTHY = Health(orphan_files=[], orphan_shards=[], missing_shards=[], leftovers=[], duplicates={})


def value_of(kind: pa.DataType, row: int):
    if pa.types.is_list(kind):
        return [value_of(kind.value_type, row), value_of(kind.value_type, row + 1)]
    if pa.types.is_boolean(kind):
        return bool(row % 2)
    return f"text {row}" if pa.types.is_string(kind) else row


def rows_of(name: str, ids, **changes) -> pa.Table:
    schema = SCHEMAS[name]
    rows = [{c.name: value_of(c.type, row) for c in schema.columns} | {schema.id: id} for row, id in enumerate(ids)]
    return pa.Table.from_pylist([row | changes for row in rows], schema=schema.columns)


def slice_ids(first: int, last: int) -> list[list[str]]:
    return [[f"{number}-{row}" for row in range(SLICE_ROWS)] for number in range(first, last)]
