"""Rows by id, for views that show a few items of many."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pyarrow as pa

from tasks.runtime.run import Run


def look_up(
    run: Run,
    table: str,
    ids: Iterable[str],
    columns: Sequence[str],
    recipes: Mapping[str, str] | None = None,
    key: str | None = None,
) -> list[dict[str, Any]]:
    """The rows of a table or view with some ids: the key column and `columns`. `key` is by default the item's id.

    Raises:
        Transient: the store failed.
    """
    key = key or run.workspace.schemas[table].id
    selected = pa.table({"id": pa.array(sorted(set(ids)), pa.string())})
    names = ", ".join(f't."{name}"' for name in dict.fromkeys([key, *columns]))
    with run.query(recipes, {"selected": selected}) as query:
        rows = query.table(f"SELECT {names} FROM {table} t SEMI JOIN selected s ON t.{key} = s.id")
    found: list[dict[str, Any]] = rows.to_pylist()
    return found
