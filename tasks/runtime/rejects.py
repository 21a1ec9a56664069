"""Rejects as rows: an item that is rejected again for the same reason has no second row."""

import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from aai.errors import Unavailable
from aai.workspace import Table
from tasks.runtime.work import Reject

_STATE = ("id", "part_of", "uri", "error", "sentence")


class RejectLog:
    """The rejects of a stage under one recipe.

    Rejects are committed before the rows of their slice. A run that was killed in between leaves rejects of parts whose
    items are still pending; files that were unavailable are tried in each run.
    """

    def __init__(self, table: Table, stage: str, recipe: str, retry_rejects: bool) -> None:
        self._table, self._stage, self._recipe, self._retry_rejects = table, stage, recipe, retry_rejects
        self._latest: dict[tuple[str, str | None], tuple[Any, ...]] | None = None

    def append(self, rejects: Sequence[Reject]) -> None:
        """Commit rejects, but for those that say what the latest reject of the same item says.

        Raises:
            Transient: the store failed.
        """
        if not rejects:
            return
        if self._latest is None:
            self._latest = self._stored()
        new = [reject for reject in rejects if self._latest.get((reject.id, reject.part_of)) != _state(asdict(reject))]
        self._table.append(self._recipe, self._rows(new))

    def _stored(self) -> dict[tuple[str, str | None], tuple[Any, ...]]:
        """What the latest rejects say of the items that can be pending again."""
        is_pending = pc.field("part_of").is_valid() | (pc.field("error") == Unavailable.__name__)
        filter = None if self._retry_rejects else is_pending
        rows = self._table.read([*_STATE, "rejected_at"], self._recipe, filter).sort_by("rejected_at").to_pylist()
        return {(row["id"], row["part_of"]): _state(row) for row in rows}

    def _rows(self, rejects: Iterable[Reject]) -> pa.Table:
        """Rows with a time of their own each, because an image may be rejected as a part of several clips at once."""
        now = time.time_ns() // 1000
        rows = [
            asdict(reject) | {"stage": self._stage, "rejected_at": now + number}
            for number, reject in enumerate(rejects)
        ]
        return pa.Table.from_pylist(rows, schema=self._table.schema.columns)


def _state(row: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(row[name] for name in _STATE)
