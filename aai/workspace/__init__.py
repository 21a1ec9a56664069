"""The workspace: one folder or bucket URL with tables, artifacts and shards.

<table>/recipe=<recipe>/*.parquet        rows, visible once the Delta log in <table>/_delta_log names their file
artifacts/<name>/<recipe>/v<version>/    an index, a mapper, an aligner: seen whole or not at all
shards/<table>/recipe=<recipe>/*.tar     pictures, visible once a row names their shard
"""

import os
from collections.abc import Mapping
from typing import Any

import pyarrow as pa

from aai.workspace.artifacts import ARTIFACTS, Artifact, list_artifacts
from aai.workspace.health import SHARDS, Health, health_of
from aai.workspace.schemas import RECIPE, SCHEMAS, SHARD, Schema
from aai.workspace.store import checked_name, checked_recipe, open_store
from aai.workspace.table import Table, subtract

__all__ = ["RECIPE", "SCHEMAS", "SHARD", "Artifact", "Health", "Schema", "Table", "Workspace", "subtract"]


class Workspace:
    """A folder or bucket URL; light enough to be sent to workers.

    `delta_options` go to Delta (as `AWS_ENDPOINT_URL`), `fs_options` to fsspec (as `endpoint_url`); both look into the
    environment for what is not given.

    Raises:
        BadConfig: no workspace can be there.
    """

    def __init__(
        self,
        uri: str | os.PathLike[str],
        delta_options: Mapping[str, str] | None = None,
        fs_options: Mapping[str, Any] | None = None,
    ) -> None:
        self.store = open_store(uri, delta_options, fs_options)

    def __repr__(self) -> str:
        return f"Workspace({self.uri!r})"

    @property
    def uri(self) -> str:
        """Where it is: an absolute path or a URL."""
        return self.store.root

    def table(self, name: str) -> Table:
        """A table by its name; keep the object while appending, as it remembers what is there.

        Raises:
            ValueError: no table has that name.
        """
        return Table(self.store, name)

    def pending(
        self, source: str, sink: str, upstream: str, recipe: str, retry_rejects: bool = False
    ) -> pa.ChunkedArray:
        """Ids with rows in the source, under the recipe `upstream`, that are still to be done under `recipe`.

        Raises:
            ValueError: the two tables are not about the same items.
            Transient: the store failed.
        """
        if SCHEMAS[source].id != SCHEMAS[sink].id:
            raise ValueError(f"{source} has {SCHEMAS[source].id}, {sink} has {SCHEMAS[sink].id}: use `undone`")
        return self.undone(self.table(source).ids(upstream), sink, recipe, retry_rejects)

    def undone(self, ids: pa.ChunkedArray, sink: str, recipe: str, retry_rejects: bool = False) -> pa.ChunkedArray:
        """Those of the ids that have no row in the sink under this recipe, nor, unless these are retried, a reject.

        Raises:
            Transient: the store failed.
        """
        done = [self.table(sink).ids(recipe)]
        if not retry_rejects:
            done.append(self.table("rejects").ids(recipe))
        return subtract(ids, *done)

    def artifact(self, name: str, recipe: str, version: int = 1) -> Artifact:
        """An artifact, whether it is there yet or not.

        Raises:
            ValueError: the name or recipe cannot be part of a path.
        """
        return Artifact(self.store, name, recipe, version)

    def artifacts(self) -> list[Artifact]:
        """All published artifacts, by name, recipe and version.

        Raises:
            Transient: the store failed.
        """
        return list_artifacts(self.store, self.store.files(ARTIFACTS))

    def shard_path(self, table: str, recipe: str, unique_name: str) -> str:
        """What a row holds to name a shard: its path in the workspace. Nobody may have used the name before.

        Shards are not in the table's folder, where Delta's vacuum would take them for garbage.

        Raises:
            ValueError: the table has no shards, or the name or recipe cannot be part of a path.
        """
        if table not in SCHEMAS or SHARD not in SCHEMAS[table].columns.names:
            raise ValueError(f"there are no shards of {table!r}")
        return f"{SHARDS}/{table}/{RECIPE}={checked_recipe(recipe)}/{checked_name(unique_name)}"

    def shard_uri(self, table: str, recipe: str, unique_name: str) -> str:
        """Where to write a shard: the full address of `shard_path`.

        Raises:
            ValueError: the table has no shards, or the name or recipe cannot be part of a path.
        """
        return self.store.uri(self.shard_path(table, recipe, unique_name))

    def health(self) -> Health:
        """What is wrong with it: orphans, missing shards, duplicates; changes nothing.

        Raises:
            Transient: the store failed.
        """
        return health_of(self.store)
