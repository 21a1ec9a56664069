"""Checks of a workspace: orphans, missing shards, duplicate keys."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import pyarrow as pa

from aai.workspace.artifacts import ARTIFACTS, leftovers
from aai.workspace.schemas import SHARD
from aai.workspace.store import Store
from aai.workspace.table import Table

SHARDS = "shards"
_UNFINISHED = re.compile(r"#\d+$")


@dataclass(frozen=True)
class Health:
    """Findings, as paths relative to the workspace. Files that a run is writing now count as orphans, too."""

    orphan_files: list[str]
    """Data files that no version of their table names: from commits that were killed or rejected; whole or in part."""

    orphan_shards: list[str]
    """Shards that no row names."""

    missing_shards: list[str]
    """Shards that rows name and that do not exist."""

    leftovers: list[str]
    """Files of unpublished artifacts."""

    duplicates: dict[str, pa.Table]
    """By table: the keys with several rows under one recipe. Tables without any are left out."""


def health_of(store: Store, tables: Sequence[Table]) -> Health:
    """Check all tables, shards and artifacts. It reads keys and lists files.

    Raises:
        Transient: the store failed.
    """
    stored = set(store.files(SHARDS))
    named = shards_named_by(tables)
    duplicates = {table.name: table.duplicates() for table in tables}
    return Health(
        orphan_files=[f"{table.name}/{path}" for table in tables for path in table.orphans()]
        + unfinished(store, tables),
        orphan_shards=sorted(stored - named),
        missing_shards=sorted(named - stored),
        leftovers=leftovers(store, store.files(ARTIFACTS)),
        duplicates={name: keys for name, keys in duplicates.items() if keys.num_rows},
    )


def unfinished(store: Store, tables: Iterable[Table]) -> list[str]:
    """Files in the folders of tables that a killed process had not written to their end, and that Delta does not list.

    On a local disk the `object_store` crate writes `<name>#<number>` and renames it.
    """
    return [path for table in tables for path in store.files(table.name) if _UNFINISHED.search(path)]


def shards_named_by(tables: Iterable[Table]) -> set[str]:
    """The shards that rows name, as paths relative to the workspace."""
    with_shards = [table for table in tables if SHARD in table.schema.columns.names]
    return {shard for table in with_shards for shard in table.read([SHARD])[SHARD].unique().to_pylist()}
