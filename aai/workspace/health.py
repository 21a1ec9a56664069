"""What is wrong with a workspace: what nobody names, what is named and missing, what is there twice."""

from collections.abc import Iterable
from dataclasses import dataclass

import pyarrow as pa

from aai.workspace.artifacts import ARTIFACTS, leftovers
from aai.workspace.schemas import SCHEMAS, SHARD
from aai.workspace.store import Store
from aai.workspace.table import Table

SHARDS = "shards"


@dataclass(frozen=True)
class Health:
    """Findings as paths relative to the workspace; while a run is at work, what it writes just now is among them."""

    orphan_files: list[str]
    """Data files that no version of their table names: from commits that were killed or refused."""

    orphan_shards: list[str]
    """Shards that no row names."""

    missing_shards: list[str]
    """Shards that rows name and that are not there."""

    leftovers: list[str]
    """Files of artifacts that were not published."""

    duplicates: dict[str, pa.Table]
    """Per table that has any: the keys with several rows under one recipe."""

    @property
    def is_good(self) -> bool:
        """Whether nothing was found."""
        return not (self.orphan_files or self.orphan_shards or self.missing_shards or self.leftovers or self.duplicates)


def health_of(store: Store) -> Health:
    """Look through all tables, shards and artifacts; reads ids and lists files, changes nothing.

    Raises:
        Transient: the store failed.
    """
    tables = [Table(store, name) for name in SCHEMAS]
    written = set(store.files(SHARDS))
    named = _shards_named_by(tables)
    twice = {table.name: table.duplicates() for table in tables}
    return Health(
        orphan_files=[f"{table.name}/{path}" for table in tables for path in table.orphans()],
        orphan_shards=sorted(written - named),
        missing_shards=sorted(named - written),
        leftovers=leftovers(store, store.files(ARTIFACTS)),
        duplicates={name: rows for name, rows in twice.items() if rows.num_rows},
    )


def _shards_named_by(tables: Iterable[Table]) -> set[str]:
    with_shards = [table for table in tables if SHARD in table.schema.columns.names]
    return {shard for table in with_shards for shard in table.read([SHARD])[SHARD].unique().to_pylist()}
