"""Shards: plain tars of pictures with their metadata, which webdataset and Hugging Face `datasets` read.

A picture is two members with one key, `<key>.png` (or `.jpg`, `.webp`) and `<key>.json`. All pictures of a shard have
one format, with which its name begins: `datasets` takes the columns of a data set from its first pictures. A shard is
written once, under a unique name, and appears atomically.
"""

import io
import os
import shutil
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile
from types import TracebackType
from typing import IO, Any
from uuid import uuid4

import pyarrow as pa
import pyarrow.compute as pc

from aai.errors import BadItem
from aai.identity import content_id
from aai.store_errors import store_errors
from aai.workspace import SHARD, Workspace
from aai.workspace.store import Store

_SUFFIX = ".tar"
_BUFFERING = "writing to the folder of temporary files"


@dataclass(frozen=True)
class MemberLocation:
    """Location of a member; the fields are columns of `renders`."""

    shard: str
    key: str
    offset: int
    num_bytes: int
    checksum: str


class ShardWriter:
    """Writes one shard of a table; it is published when the block ends without an error, unless it is empty.

    Members are buffered in an anonymous temporary file, so that a killed worker leaves nothing behind.
    """

    def __init__(self, workspace: Workspace, table: str, recipe: str, picture_format: str) -> None:
        self._store = workspace.store
        self.path = workspace.shard_path(table, recipe, f"{picture_format}-{uuid4().hex}{_SUFFIX}")
        with store_errors(_BUFFERING):
            self._file: IO[bytes] = TemporaryFile()  # noqa: SIM115 - closed by __exit__
        self._tar = tarfile.open(fileobj=self._file, mode="w", format=tarfile.USTAR_FORMAT)
        self._num_members = 0

    def __enter__(self) -> "ShardWriter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._file:
            with store_errors(_BUFFERING):
                self._tar.close()
            if kind is None and self._num_members:
                _put(self._store, self.path, self._file)

    def add(self, key: str, suffix: str, data: bytes) -> MemberLocation:
        """Add a member. Add the members of one key one after the other, as webdataset requires.

        Raises:
            Transient: the disk is full.
        """
        header = tarfile.TarInfo(f"{key}.{suffix}")
        header.size, header.mode = len(data), 0o644
        with store_errors(_BUFFERING):
            self._tar.addfile(header, io.BytesIO(data))
        self._num_members += 1
        padded = -(-len(data) // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE
        return MemberLocation(self.path, key, self._tar.offset - padded, len(data), content_id(data))


def read_picture(workspace: Workspace, row: Mapping[str, Any]) -> bytes:
    """The image file of a row of `renders`, checked against the row's checksum.

    Raises:
        BadItem: the shard does not exist, or its bytes have changed.
        Transient: the store failed.
    """
    store, first = workspace.store, row["offset"]
    try:
        with store_errors(f"reading {store.uri(row['shard'])}"):
            path = store.path(row["shard"])
            data: bytes = store.filesystem.cat_file(path, start=first, end=first + row["num_bytes"])
    except FileNotFoundError as error:
        raise _missing(store, row["shard"]) from error
    if content_id(data) != row["checksum"]:
        raise BadItem(
            f"{row['key']} is damaged: copy the shard again, or render into a new workspace",
            uri=store.uri(row["shard"]),
        )
    return data


def read_next(workspace: Workspace, row: Mapping[str, Any], suffix: str) -> bytes | None:
    """The member that follows the image file of a row of `renders`, such as its mask; none if it has another suffix.

    Raises:
        BadItem: the shard does not exist.
        Transient: the store failed.
    """
    store, end = workspace.store, row["offset"] + row["num_bytes"]
    start = end + -end % tarfile.BLOCKSIZE
    try:
        with store_errors(f"reading {store.uri(row['shard'])}"):
            path, first = store.path(row["shard"]), start + tarfile.BLOCKSIZE
            block = store.filesystem.cat_file(path, start=start, end=first)
            header = tarfile.TarInfo.frombuf(block, tarfile.ENCODING, "strict")
            if header.name != f"{row['key']}.{suffix}":
                return None
            data: bytes = store.filesystem.cat_file(path, start=first, end=first + header.size)
    except FileNotFoundError as error:
        raise _missing(store, row["shard"]) from error
    except tarfile.HeaderError as error:
        raise BadItem("the shard is damaged: copy it again", uri=store.uri(row["shard"])) from error
    return data


def remove_unnamed(workspace: Workspace, table: str, recipe: str, rows: Sequence[pa.Table]) -> None:
    """Remove those shards of some rows that no committed row names: another run has committed the same items first.

    Raises:
        Transient: the store failed.
    """
    if SHARD not in workspace.schemas[table].columns.names:
        return
    shards = {shard for part in rows for shard in part[SHARD].unique().to_pylist()}
    named = workspace.table(table).read([SHARD], recipe, pc.field(SHARD).isin(list(shards)))[SHARD].unique()
    store = workspace.store
    for shard in shards - set(named.to_pylist()):
        with store_errors(f"removing {store.uri(shard)}"):
            store.filesystem.rm_file(store.path(shard))


def _missing(store: Store, shard: str) -> BadItem:
    return BadItem("the shard is not there: `aai doctor` lists missing shards", uri=store.uri(shard))


def _put(store: Store, path: str, file: IO[bytes]) -> None:
    """Store a file atomically: by a rename on disk; in a bucket an upload appears when it is complete."""
    file.seek(0)
    final = store.path(path)
    part = f"{final}.part" if store.is_local else final
    with store_errors(f"writing {store.uri(path)}"):
        store.filesystem.makedirs(final.rsplit("/", 1)[0], exist_ok=True)
        try:
            with store.filesystem.open(part, "wb") as target:
                shutil.copyfileobj(file, target)
            if store.is_local:
                os.replace(part, final)
        finally:
            if store.is_local:
                Path(part).unlink(missing_ok=True)  # of a full disk
