"""The workspace: one folder or bucket URL with tables, artifacts and shards.

<table>/recipe=<recipe>/*.parquet        rows, visible once the Delta log in <table>/_delta_log names their file
artifacts/<name>/<recipe>/v<version>/    an index or a mapper, published atomically
shards/<table>/recipe=<recipe>/*.tar     pictures, visible once a row names their shard
drivers/*.json                           who is at work; files that are left behind have no meaning
"""

import os
from collections.abc import Mapping
from typing import Any

import pyarrow as pa

from aai.workspace.artifacts import ARTIFACTS, Artifact, list_artifacts
from aai.workspace.health import SHARDS, Health, health_of
from aai.workspace.query import VIEWS, Query
from aai.workspace.schemas import RECIPE, SCHEMAS, SHARD, Schema
from aai.workspace.store import checked_name, checked_recipe, open_store
from aai.workspace.table import Table

__all__ = ["RECIPE", "SCHEMAS", "SHARD", "Artifact", "Health", "Query", "Schema", "Table", "VIEWS", "Workspace"]


class Workspace:
    """A workspace at a path or URL; small enough to be pickled and sent to workers.

    `delta_options` are for Delta (such as `AWS_ENDPOINT_URL`), `fs_options` for fsspec (such as `endpoint_url`). Both
    libraries read further settings from the environment.

    Raises:
        BadConfig: the path or URL cannot be used.
    """

    def __init__(
        self,
        uri: str | os.PathLike[str],
        delta_options: Mapping[str, str] | None = None,
        fs_options: Mapping[str, Any] | None = None,
        schemas: Mapping[str, Schema] = SCHEMAS,
    ) -> None:
        self.store = open_store(uri, delta_options, fs_options)
        self.schemas = schemas
        self._read: dict[str, Table] = {}

    def __getstate__(self) -> dict[str, Any]:
        return vars(self) | {"_read": {}}

    def __repr__(self) -> str:
        return f"Workspace({self.uri!r})"

    @property
    def uri(self) -> str:
        """Absolute path or URL of the workspace."""
        return self.store.root

    def table(self, name: str) -> Table:
        """A table by its name. Reuse the object for several appends: it caches the keys of the stored rows.

        Raises:
            ValueError: there is no such table.
        """
        if name not in self.schemas:
            raise ValueError(f"there is no table {name!r}: choose one of {', '.join(self.schemas)}")
        return Table(self.store, name, self.schemas[name])

    def query(self, recipes: Mapping[str, str], extra: Mapping[str, pa.Table] | None = None) -> Query:
        """A connection for SQL over the tables, each read under one recipe; use it as a context manager.

        Raises:
            Transient: the store failed.
        """
        for name in recipes:
            known = self._read.get(name)  # reused, because opening a table reads its whole log
            if name in self.schemas and (known is None or known.schema is not self.schemas[name]):
                self._read[name] = self.table(name)
        return Query(self.store, self._read, recipes, extra)

    def artifact(self, name: str, recipe: str, version: int = 1) -> Artifact:
        """An artifact, published or not.

        Raises:
            ValueError: the name or recipe cannot be part of a path.
        """
        return Artifact(self.store, name, recipe, version)

    def newest_artifact(self, name: str, recipe: str) -> Artifact | None:
        """The newest version of an artifact, if there is one.

        Raises:
            Transient: the store failed.
        """
        found = list_artifacts(self.store, self.store.files(ARTIFACTS, name, checked_recipe(recipe)))
        return found[-1] if found else None

    def artifacts(self) -> list[Artifact]:
        """All published artifacts, by name, recipe and version.

        Raises:
            Transient: the store failed.
        """
        return list_artifacts(self.store, self.store.files(ARTIFACTS))

    def shard_path(self, table: str, recipe: str, unique_name: str) -> str:
        """The path of a shard relative to the workspace, as rows hold it. The name must be new.

        Shards are outside the table's folder, because Delta's vacuum would remove them there.

        Raises:
            ValueError: the table has no shards, or the name or recipe cannot be part of a path.
        """
        if table not in self.schemas or SHARD not in self.schemas[table].columns.names:
            raise ValueError(f"there are no shards of {table!r}")
        return f"{SHARDS}/{table}/{RECIPE}={checked_recipe(recipe)}/{checked_name(unique_name)}"

    def shard_uri(self, table: str, recipe: str, unique_name: str) -> str:
        """The absolute path or URL of a shard.

        Raises:
            ValueError: the table has no shards, or the name or recipe cannot be part of a path.
        """
        return self.store.uri(self.shard_path(table, recipe, unique_name))

    def health(self) -> Health:
        """Find orphans, missing shards and duplicate keys; nothing is changed.

        Raises:
            Transient: the store failed.
        """
        return health_of(self.store, [self.table(name) for name in self.schemas])
