"""Numbers that are not finite are never committed: their items become rejects."""

import pyarrow as pa
import pyarrow.compute as pc

_OF_ALL = ", as of all {} items of its slice: a model is damaged, or overflows in its type: look at `models`"
_OF_SOME = ": look at its file, and at models.dtype"


def not_finite(rows: pa.Table, id_column: str) -> dict[str, str]:
    """By item, a sentence on a number in its rows that is not finite; nulls are none."""
    found: dict[str, str] = {}
    ids = rows[id_column]
    for name in rows.column_names:
        wrong = _is_wrong(rows[name].combine_chunks())
        if wrong is not None and pc.any(wrong).as_py():
            found |= dict.fromkeys(ids.filter(wrong).to_pylist(), name)
    of_all = len(found) > 1 and len(found) == pc.count_distinct(ids).as_py()
    why = _OF_ALL.format(len(found)) if of_all else _OF_SOME
    return {item: f"its {name} is not finite{why}" for item, name in found.items()}


def _is_wrong(column: pa.Array) -> pa.BooleanArray | None:
    """For each row, whether it holds a number that is not finite; none for a column of other things."""
    if pa.types.is_floating(column.type):
        return pc.fill_null(pc.invert(pc.is_finite(column)), False)
    if not (_is_list(column.type) and pa.types.is_floating(column.type.value_type)):
        return None
    wrong = pc.invert(pc.is_finite(pc.list_flatten(column)))
    rows = pc.unique(pc.list_parent_indices(column).filter(pc.fill_null(wrong, False)))
    return pc.is_in(pa.array(range(len(column)), rows.type), value_set=rows)


def _is_list(kind: pa.DataType) -> bool:
    return pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
