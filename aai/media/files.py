"""Source files: files in folders, globs and buckets, and members of plain tars.

Nothing is extracted; a member is read from its byte range in the tar. Listing reads no contents, so a run that finds
nothing new is fast.
"""

import io
import json
import os
import tarfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import PurePosixPath
from stat import S_ISDIR, S_ISREG
from typing import Any

import fsspec
from fsspec.core import url_to_fs

from aai.errors import BadConfig, BadItem, Unavailable
from aai.identity import content_id
from aai.media.kinds import TAR_SUFFIX, TAR_SUFFIXES, count_kinds, is_ignored, left_aside, suffix_of
from aai.media.metadata import SIDECAR_SUFFIXES, Metadata, Sidecar, Sidecars, describe, parse_sidecar
from aai.store_errors import is_of_one_file, store_errors

_COMPRESSED = (b"\x1f\x8b", b"BZh", b"\xfd7zXZ", b"\x28\xb5\x2f\xfd")
"""Magic bytes of gzip, bzip2, xz and zstd."""

MAX_MEMBER_BYTES = 2**30
"""Larger members of a tar are rejected before they are read."""

_MAX_SIDECAR_BYTES = 2**20

_GONE = "the file is gone since it was listed: put it back, and the next run reads it"
_NO_FILE = "a pipe or device, which is never opened: store the sound or image as a file"
_FORBIDDEN = "this user may not read the file: change its permissions, then run with --set run.retry_rejects=true"
_CHANGED = "the file changed since it was ingested: run `aai build` again"

_GLOB = frozenset("*?[")


@dataclass(frozen=True)
class File:
    """A file as it was listed; it has not been opened."""

    uri: str
    num_bytes: int
    changed: str
    """Time of change or entity tag, as the store gives it."""

    fault: str | None = None
    """Why it cannot be opened, if the listing shows that already."""

    sidecars: tuple["File", ...] = ()
    """The files beside it that describe it; what the last says counts."""

    @property
    def file_id(self) -> str:
        """Digest of address, size and time of change: a changed or moved file has another one."""
        return content_id(json.dumps([self.uri, self.num_bytes, self.changed]).encode())

    @property
    def is_tar(self) -> bool:
        """Whether its members are the items."""
        return self.uri.lower().endswith(TAR_SUFFIXES)


@dataclass(frozen=True)
class Member:
    """A file in a tar, in the order of the tar."""

    name: str
    offset: int = 0
    num_bytes: int = 0
    metadata: Metadata = Metadata()
    sidecar_fault: str | None = None
    """Why one of its sidecars says nothing."""
    fault: str | None = None
    """Why it cannot be used, if its header shows that already."""


@dataclass(frozen=True)
class Found:
    """What some locations hold."""

    files: list[File]
    """Files of the wanted kinds, and tars, sorted by address, each once."""

    left_aside: list[str]
    """Addresses of all other files, except for sidecars."""


@dataclass(frozen=True)
class Contents:
    """What a tar holds."""

    members: list[Member]
    """Members of the wanted kinds, in the order of the tar."""

    left_aside: list[str]
    """Names of all other members, except for sidecars."""


def find_files(key: str, locations: Sequence[str], suffixes: frozenset[str]) -> Found:
    """The files at some locations.

    A location is a folder (searched recursively), a file, a glob or a URL of one. A location that exists is taken
    literally before it is read as a glob. A link to a file counts as the file; links to folders are not followed,
    because they may form a circle. Hidden files and folders, and those of the operating system, are ignored.

    Raises:
        BadConfig: a location holds nothing; `key` is that of the error.
        Transient: the store failed.
    """
    found: dict[str, File] = {}
    others: dict[str, File] = {}
    beside: dict[str, File] = {}
    for location in locations:
        listed, siblings = _list(key, location)
        files = [file for file in listed if suffix_of(file.uri) in suffixes or file.is_tar]
        others |= {file.uri: file for file in listed if not (suffix_of(file.uri) in suffixes or file.is_tar)}
        possible = (file for file in (*siblings, *listed) if file.fault != _NO_FILE)
        beside |= {file.uri: file for file in possible if suffix_of(file.uri) in SIDECAR_SUFFIXES}
        if not files:
            but = f", but {phrase}" if (phrase := left_aside(count_kinds(file.uri for file in listed))) else ""
            raise BadConfig(
                f"{_shown(location)} holds no file of a known kind{but}: name a folder, glob or tar that does", key=key
            )
        found |= {file.uri: file for file in files}
    sidecars = Sidecars(beside)
    files = [
        replace(found[uri], sidecars=tuple(beside[name] for name in names)) if names else found[uri]
        for uri in sorted(found)
        for names in [sidecars.names_of(uri) if not found[uri].is_tar else []]
    ]
    return Found(files, sorted(others.keys() - {sidecar.uri for file in files for sidecar in file.sidecars}))


def read_sidecars(file: File) -> tuple[Metadata, str | None]:
    """What the sidecars of a file say of it, and why one of them says nothing.

    Raises:
        Transient: the store failed.
    """
    return describe(_read_sidecar(sidecar.uri, sidecar.uri, sidecar.num_bytes) for sidecar in file.sidecars)


def read_bytes(uri: str, offset: int | None = None, num_bytes: int | None = None) -> bytes:
    """A file's bytes, or a range of them.

    Raises:
        BadItem: the file is gone, or may not be read.
        Transient: the store failed.
    """
    end = None if offset is None or num_bytes is None else offset + num_bytes
    with _reading(uri):
        filesystem, path = _at(uri)
        data: bytes = filesystem.cat_file(path, start=offset, end=end)
    return data


def read_content(uri: str, offset: int | None, num_bytes: int | None, digest: str) -> bytes:
    """The bytes of an ingested file or tar member; every stage opens items through this.

    Raises:
        Unavailable: the file is gone, or its bytes are not those with this digest, as while a copy is in progress.
        Transient: the store failed.
    """
    data = read_bytes(uri, offset, num_bytes)
    if content_id(data) != digest:
        raise Unavailable(_CHANGED, uri=uri)
    return data


@contextmanager
def _reading(uri: str) -> Iterator[None]:
    """Translate errors of a file system.

    Raises:
        BadItem: the file is gone, or may not be read.
        Transient: the store failed.
        BadConfig: the store cannot be opened: its credentials, its name, or a missing package.
    """
    try:
        with store_errors(f"reading {_shown(uri)}", key=None), _denied_as_bad_item(uri):
            yield
    except FileNotFoundError as error:
        raise Unavailable(_GONE, uri=uri) from error


@contextmanager
def _denied_as_bad_item(uri: str) -> Iterator[None]:
    try:
        yield
    except PermissionError as error:
        if not is_of_one_file(error):
            raise
        raise BadItem(_FORBIDDEN, uri=uri) from error


def read_members(uri: str, suffixes: frozenset[str]) -> Contents:
    """The members of a tar, with the metadata of their sidecars, in one pass over the headers.

    A last member with a fault stands for the end of a tar that is cut short.

    Raises:
        BadItem: the file is not a tar, empty, or gone.
        Transient: the store failed.
    """
    all_entries, is_cut = _entries(uri)
    entries = [entry for entry in all_entries if not is_ignored(entry.name)]
    beside = {entry.name: entry for entry in entries if suffix_of(entry.name) in SIDECAR_SUFFIXES and entry.isreg()}
    sidecars = Sidecars(beside, [entry.name for entry in entries if suffix_of(entry.name) in suffixes])
    read = {name: _read_sidecar(uri, entry.name, entry.size, entry.offset_data) for name, entry in beside.items()}
    members: list[Member] = []
    names: set[str] = set()
    others: set[str] = set()
    used: set[str] = set()
    for entry in entries:
        if entry.isdir():
            continue
        if suffix_of(entry.name) not in suffixes | {TAR_SUFFIX}:
            others.add(entry.name)
            continue
        own = sidecars.names_of(entry.name)
        shown, described = _in_one_line(entry.name), describe(read[name] for name in own)
        members.append(Member(shown, entry.offset_data, entry.size, *described, _fault(entry, names)))
        names.add(entry.name)
        used.update(own)
    if is_cut:
        fault = f"the tar is cut short or damaged after {len(all_entries)} members: copy it again"
        members.append(Member("the end", fault=fault))
    return Contents(members, [_in_one_line(name) for name in sorted(others - used)])


def _list(key: str, location: str) -> tuple[list[File], list[File]]:
    """The files at a location, and where it is a glob or a file, the sidecars in their folders."""
    shown = _shown(location)
    try:
        with store_errors(f"listing {shown}", key):
            filesystem, path = _at(location)
            filesystem.invalidate_cache()  # other programs put files into the bucket
            found = _find(filesystem, path)
            if found is None:
                raise BadConfig(f"{shown} does not exist: name a folder, file, glob or URL that does", key=key)
            siblings = {} if filesystem.isdir(path) else _siblings(filesystem, found)
    except (ImportError, ValueError, FileNotFoundError) as error:
        raise BadConfig(f"{shown} cannot be opened: {error}", key=key) from error
    root = path.rpartition("/")[0] if path in found else path
    return _files(filesystem, found, root), _files(filesystem, siblings, root)


def _find(filesystem: fsspec.AbstractFileSystem, path: str) -> dict[str, dict[str, Any]] | None:
    """What is at a path, by path; None if nothing is there."""
    if filesystem.isdir(path):
        return filesystem.find(path, detail=True)
    if filesystem.exists(path):
        return {path: filesystem.info(path)}
    return filesystem.glob(path, detail=True) if _GLOB & set(path) else None


def _files(filesystem: fsspec.AbstractFileSystem, infos: dict[str, Any], root: str) -> list[File]:
    files = {name: info for name, info in infos.items() if info["type"] != "directory" or info.get("islink")}
    return [_file(filesystem, info) for name, info in files.items() if not is_ignored(_below(name, root))]


def _at(location: str) -> tuple[fsspec.AbstractFileSystem, str]:
    """The file system and the path of a location; a local path is taken as it is, also with `::` in it."""
    if "://" in location:
        return url_to_fs(location)
    return fsspec.filesystem("file"), os.path.abspath(location)


def _below(name: str, root: str) -> str:
    """The path of a file below a folder; of a file elsewhere, which a glob found, its last part."""
    root = root.rstrip("/") + "/"
    return name.removeprefix(root) if name.startswith(root) else name.rpartition("/")[2]


def _siblings(filesystem: fsspec.AbstractFileSystem, found: dict[str, Any]) -> dict[str, Any]:
    """The sidecars in the folders of some files."""
    if "http" in filesystem.protocol:  # cannot list
        return {}
    folders = sorted({path.rpartition("/")[0] for path in found})
    infos = [info for folder in folders for info in filesystem.ls(folder, detail=True)]
    return {info["name"]: info for info in infos if suffix_of(info["name"]) in SIDECAR_SUFFIXES}


def _read_sidecar(uri: str, name: str, num_bytes: int, offset: int | None = None) -> Sidecar:
    """A sidecar, which is a file or a member of a tar."""
    if num_bytes > _MAX_SIDECAR_BYTES:
        return Sidecar({}, f"{_printable(name)} has {num_bytes:,} bytes, more than {_MAX_SIDECAR_BYTES:,}")
    try:
        return parse_sidecar(_printable(name), read_bytes(uri, offset, None if offset is None else num_bytes))
    except BadItem as error:
        return Sidecar({}, f"{_printable(name)}: {error.sentence}")


def _file(filesystem: fsspec.AbstractFileSystem, info: dict[str, Any]) -> File:
    """A file, or a link to a folder, whose address ends with /."""
    uri, changed = filesystem.unstrip_protocol(info["name"]).removeprefix("file://"), _changed(info)
    shown = _printable(uri)
    fault = None if shown == uri else "the file's name is not UTF-8: rename it"
    if info.get("islink"):
        try:
            there = os.stat(info["name"])
        except OSError:  # nothing there, or a circle of links
            fault = fault or "a broken link: put the file there, or delete the link"
        else:
            if S_ISDIR(there.st_mode):
                return File(f"{shown}/", 0, changed)
            fault = fault or (None if S_ISREG(there.st_mode) else _NO_FILE)
            changed = str(there.st_mtime)
    elif info["type"] != "file":
        fault = fault or _NO_FILE
    return File(shown, info["size"] or 0, changed, fault)


def _changed(info: dict[str, Any]) -> str:
    known = (info[name] for name in ("ETag", "etag", "md5Hash", "mtime", "LastModified", "updated") if name in info)
    return str(next(known, ""))


def _entries(uri: str) -> tuple[list[tarfile.TarInfo], bool]:
    """The headers of a tar, and whether it is cut short."""
    entries: list[tarfile.TarInfo] = []
    filesystem, path = _at(uri)
    try:
        with _reading(uri), filesystem.open(path, "rb") as stream:
            size = stream.seek(0, io.SEEK_END)
            stream.seek(0)
            with tarfile.open(fileobj=stream, mode="r:", errors="surrogateescape") as archive:
                for entry in archive:
                    is_beyond = entry.offset_data + entry.size > size and not entry.issparse()
                    if entry.size < 0 or is_beyond:
                        return entries, True  # a negative size would lead back, and round and round
                    entries.append(entry)
                stream.seek(archive.offset)
                whole = size % tarfile.BLOCKSIZE == 0 and _is_end(stream)
                if whole and not entries:
                    raise BadItem("the tar has no members: copy it again, or delete it", uri=uri)
                return entries, not whole
    except (tarfile.TarError, ValueError, OverflowError) as error:  # ValueError: a broken sparse or size field
        if entries:
            return entries, True
        raise BadItem(_why_not_a_tar(read_bytes(uri, 0, tarfile.BLOCKSIZE)), uri=uri) from error


def _is_end(stream: Any) -> bool:
    """Whether only zeros follow, as at the end of a tar."""
    first = stream.read(tarfile.BLOCKSIZE)
    return len(first) == tarfile.BLOCKSIZE and not any(map(any, (first, *iter(partial(stream.read, 2**20), b""))))


def _why_not_a_tar(start: bytes) -> str:
    """Why a file with these first bytes cannot be read as a tar."""
    if not start:
        return "the file is empty (0 bytes): copy it again, or delete it"
    if start.startswith(_COMPRESSED):
        return "a compressed tar, which has no random access: decompress it (gunzip, unxz, unzstd)"
    return "not a tar, or cut short in its first member: copy it again, or delete it"


def _fault(entry: tarfile.TarInfo, names: set[str]) -> str | None:
    """Why a member cannot be used, if so."""
    if suffix_of(entry.name) == TAR_SUFFIX:
        return "a tar within a tar, which is not opened: put it beside this one"
    if not entry.isreg():
        return "a link or device, which is never followed: store the file itself"
    if entry.issparse():
        return "a sparse member, of which the tar leaves out the zeros: store it whole (without `tar --sparse`)"
    parts = PurePosixPath(entry.name).parts
    if entry.name.startswith("/") or ".." in parts:
        return "its name leads out of the tar: rename it"
    if entry.name in names:
        return "a second member of this name: rename it"
    if _printable(entry.name) != entry.name:
        return "its name is not UTF-8: rename it"
    if not entry.name.isprintable():
        return "its name has a line break or another character that cannot be printed: rename it"
    if entry.size > MAX_MEMBER_BYTES:
        return f"it has {entry.size:,} bytes, more than {MAX_MEMBER_BYTES:,}: store it as a file of its own"
    return None


def _printable(name: str) -> str:
    """A name in UTF-8; other bytes are escaped as a backslash, an x and two digits."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def _in_one_line(name: str) -> str:
    """A member's name in UTF-8 and on one line."""
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in _printable(name))


def _shown(location: str) -> str:
    """A location in full, in UTF-8."""
    return _printable(location if "://" in location else os.path.abspath(location))
