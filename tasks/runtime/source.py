"""The rows of a stage: one query with join and anti-join over the tables upstream, streamed in file order."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa

from aai.errors import Unavailable
from aai.workspace import Query
from tasks.runtime.stage import Pending, Stage

if TYPE_CHECKING:
    from tasks.runtime.run import Run

_REJECTED = f"SELECT id FROM rejects WHERE part_of IS NULL AND error <> '{Unavailable.__name__}'"
"""Items whose files were not there for a moment are tried again."""

_BATCH_ROWS = 8_192
"""Rows in memory at a time: 25 MB of vectors of 768 dimensions."""


@dataclass(frozen=True)
class QuerySource:
    """The items of a stage's SQL."""

    run: "Run"
    stage: Stage
    extra: dict[str, pa.Table] = field(default_factory=dict)
    """Tables in memory that the SQL sees instead of stored ones of the same name."""
    counts_outdated: bool = False
    """Whether outdated items count as pending, before a run removes their rows."""

    def pending(self, retry_rejects: bool = False) -> Pending:
        """Count the items; rows are streamed once they are iterated over.

        Raises:
            Transient: the store failed.
        """
        with self._query() as query:
            [counts] = query.table(
                "SELECT count(*) AS total, count(*) FILTER (NOT is_done AND NOT is_rejected) AS pending, "
                f"count(*) FILTER (NOT is_done AND is_rejected) AS rejected FROM ({self._states})"
            ).to_pylist()
        total, num, rejected = counts["total"], counts["pending"], counts["rejected"]
        if retry_rejects:
            num, rejected = num + rejected, 0
        return Pending(total, num, rejected, self._rows(retry_rejects) if num else ())

    def _rows(self, retry_rejects: bool) -> Iterator[pa.Table]:
        if self.stage.extend is None:
            yield from self._streamed(retry_rejects)
            return
        with self._query() as query, tempfile.TemporaryDirectory(prefix="aai-rows-") as folder:
            yield from self.stage.extend(query, Path(folder), self._streamed(retry_rejects))

    def _streamed(self, retry_rejects: bool) -> Iterator[pa.Table]:
        with self._query() as query:
            excluded = "NOT is_done" if retry_rejects else "NOT is_done AND NOT is_rejected"
            query.keep("pending", f"SELECT id FROM ({self._states}) WHERE {excluded}")
            query.narrow("pending", self._key, self.stage.rows)
            sql = f"SELECT r.* FROM ({self.stage.rows}) r SEMI JOIN pending p ON r.{self._key} = p.id"
            yield from query.batches(sql, _BATCH_ROWS)

    @contextmanager
    def _query(self) -> Iterator[Query]:
        with self.run.query({"rejects": self.run.recipe(self.stage.table)}, self.extra) as query:
            if self._outdated:
                query.keep("outdated", f"SELECT DISTINCT id FROM ({self._outdated}) o(id)")
            yield query

    @property
    def _outdated(self) -> str:
        return self.stage.outdated_ids(self.run.config) if self.counts_outdated else ""

    @property
    def _states(self) -> str:
        """SQL for the ids of all items, whether each has a row, and whether it was rejected."""
        items = self.stage.items or self.stage.rows
        holds = f" AND {self._key} NOT IN (SELECT id FROM outdated)" if self._outdated else ""
        return (
            f"SELECT {self._key} AS id, {self._key} IN (SELECT {self._key} FROM {self.stage.table}){holds} AS is_done, "
            f"{self._key} IN ({_REJECTED}){holds} AS is_rejected FROM ({items})"
        )

    @property
    def _key(self) -> str:
        return self.run.workspace.schemas[self.stage.table].id
