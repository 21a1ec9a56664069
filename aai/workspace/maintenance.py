"""Garbage collection of a workspace: files that nothing refers to."""

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from aai.store_errors import store_errors
from aai.workspace import Workspace
from aai.workspace.artifacts import ARTIFACTS, Artifact, leftovers
from aai.workspace.drivers import DRIVERS
from aai.workspace.health import SHARDS, shards_named_by, unfinished
from aai.workspace.store import Store, changed_s

_DRIVER_H = 1  # a driver at work renews its file every 10 s
_S_PER_H = 3600


@dataclass(frozen=True)
class Garbage:
    """Files that no table version, row or published artifact refers to, as paths relative to the workspace."""

    data_files: list[str]
    """Data files of tables: from killed commits, or replaced by compaction or removal of rows."""
    shards: list[str]
    """Shards and unfinished shards from killed runs."""
    artifact_files: list[str]
    """Files of unpublished artifacts."""
    driver_files: list[str]
    """Files of drivers that were killed."""

    def __len__(self) -> int:
        return len(self.data_files) + len(self.shards) + len(self.artifact_files) + len(self.driver_files)


def find_garbage(workspace: Workspace, older_than_h: float) -> Garbage:
    """Find garbage of a minimum age. Newer files may belong to a run in progress.

    Raises:
        Transient: the store failed.
    """
    store = workspace.store
    tables = [workspace.table(name) for name in workspace.schemas]
    written = set(store.files(SHARDS))  # before the rows, so that a shard whose rows are committed in between is named
    named = shards_named_by(tables)
    unused = [f"{table.name}/{path}" for table in tables for path in table.vacuum(older_than_h, dry_run=True)]
    return Garbage(
        unused + list(_old(store, unfinished(store, tables), older_than_h)),
        list(_old(store, written - named, older_than_h)),
        list(_old(store, leftovers(store, store.files(ARTIFACTS)), older_than_h)),
        list(_old(store, store.files(DRIVERS), max(older_than_h, _DRIVER_H))),  # younger ones may be at work
    )


def remove_garbage(workspace: Workspace, older_than_h: float) -> Garbage:
    """Remove garbage of a minimum age, and return it.

    Raises:
        Transient: the store failed.
    """
    garbage = find_garbage(workspace, older_than_h)
    for name in workspace.schemas:
        workspace.table(name).vacuum(older_than_h, dry_run=False)
    half = _old(workspace.store, unfinished(workspace.store, map(workspace.table, workspace.schemas)), older_than_h)
    for path in (*half, *garbage.shards, *garbage.artifact_files, *garbage.driver_files):
        _remove(workspace.store, path)
    return garbage


def remove_artifact(artifact: Artifact) -> None:
    """Remove a version of an artifact; after a kill it is there whole, or its files are garbage.

    Raises:
        Transient: the store failed.
    """
    store = artifact.store
    with store_errors(f"removing {store.uri(artifact.slot)}"):
        store.filesystem.rm(artifact.unpublish(), recursive=True)


def _old(store: Store, paths: Iterable[str], older_than_h: float) -> Iterator[str]:
    limit_s = time.time() - older_than_h * _S_PER_H
    for path in sorted(paths):
        with store_errors(f"looking at {store.uri(path)}"):
            try:
                info = store.filesystem.info(store.path(path))
            except FileNotFoundError:  # its run has just renamed or removed it
                continue
        if changed_s(info) <= limit_s:
            yield path


def _remove(store: Store, path: str) -> None:
    with store_errors(f"removing {store.uri(path)}"):
        store.filesystem.rm_file(store.path(path))
