"""Shards: plain tars of pictures and their recipes, as webdataset and Hugging Face `datasets` read them.

A picture is two members of one name, `<key>.png` (or `.jpg`, `.webp`) and `<key>.json`. A shard is written once, under
a name that nobody used before, and is there whole or not at all.
"""

import io
import os
import shutil
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass
from tempfile import TemporaryFile
from types import TracebackType
from typing import IO, Any
from uuid import uuid4

from aai.errors import BadItem
from aai.identity import content_id
from aai.workspace import Workspace
from aai.workspace.store import Store, store_errors

_SUFFIX = ".tar"


@dataclass(frozen=True)
class Placed:
    """Where a member is, in the words of the table's columns."""

    shard: str
    key: str
    offset: int
    num_bytes: int
    checksum: str


class ShardWriter:
    """A shard of a table in the making: left without an error it is there, otherwise nothing is.

    It grows in a file without a name, so that a killed worker leaves nothing behind, and is then put in its place.
    """

    def __init__(self, workspace: Workspace, table: str, recipe: str) -> None:
        self._store = workspace.store
        self.path = workspace.shard_path(table, recipe, f"{uuid4().hex}{_SUFFIX}")
        self._file: IO[bytes] = TemporaryFile()  # noqa: SIM115 - closed on leaving
        self._tar = tarfile.open(fileobj=self._file, mode="w", format=tarfile.USTAR_FORMAT)
        self._num_members = 0

    def __enter__(self) -> "ShardWriter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._file:
            self._tar.close()
            if kind is None and self._num_members:
                _put(self._store, self.path, self._file)

    def add(self, key: str, suffix: str, data: bytes) -> Placed:
        """Add a member; those of one key come one after the other.

        Raises:
            Transient: the disk is full.
        """
        header = tarfile.TarInfo(f"{key}.{suffix}")
        header.size, header.mode = len(data), 0o644
        with store_errors("writing to the folder of temporary files"):
            self._tar.addfile(header, io.BytesIO(data))
        self._num_members += 1
        padded = -(-len(data) // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE
        return Placed(self.path, key, self._tar.offset - padded, len(data), content_id(data))


def read_member(workspace: Workspace, shard: str, key: str, suffix: str) -> bytes:
    """The bytes of one member of a shard, by its key and ending; `read_picture` is faster where there is a row.

    Raises:
        BadItem: the shard or the member is not there, or the shard is damaged.
        Transient: the store failed.
    """
    store, name = workspace.store, f"{key}.{suffix}"
    try:
        with store_errors(f"reading {store.uri(shard)}"), store.filesystem.open(store.path(shard), "rb") as stream:
            with tarfile.open(fileobj=stream, mode="r:") as archive:
                found = archive.extractfile(name)
                assert found is not None, "shards hold nothing but files"
                return found.read()
    except FileNotFoundError as error:
        raise _gone(store, shard) from error
    except KeyError as error:
        raise BadItem(f"{store.uri(shard)}: it has no member {name}: render it again") from error
    except tarfile.TarError as error:
        raise BadItem(f"{store.uri(shard)}: it is damaged or cut short: copy it again") from error


def read_picture(workspace: Workspace, row: Mapping[str, Any]) -> bytes:
    """The file of the picture that a row of `renders` is about.

    Raises:
        BadItem: its shard is not there, or holds other bytes than were written.
        Transient: the store failed.
    """
    store, first = workspace.store, row["offset"]
    try:
        with store_errors(f"reading {store.uri(row['shard'])}"):
            data: bytes = store.filesystem.cat_file(store.path(row["shard"]), first, first + row["num_bytes"])
    except FileNotFoundError as error:
        raise _gone(store, row["shard"]) from error
    if content_id(data) != row["checksum"]:
        raise BadItem(f"{store.uri(row['shard'])}: {row['key']} is damaged: copy the shard again, or render anew")
    return data


def _gone(store: Store, shard: str) -> BadItem:
    return BadItem(f"{store.uri(shard)}: the shard is not there: `aai doctor` says which are missing")


def _put(store: Store, path: str, file: IO[bytes]) -> None:
    """A file in its place: renamed into it on disk; on a bucket an upload is seen once it is whole."""
    file.seek(0)
    final = store.path(path)
    part = f"{final}.part" if store.is_local else final
    with store_errors(f"writing {store.uri(path)}"):
        store.filesystem.makedirs(final.rsplit("/", 1)[0], exist_ok=True)
        with store.filesystem.open(part, "wb") as target:
            shutil.copyfileobj(file, target)
        if store.is_local:
            os.replace(part, final)
