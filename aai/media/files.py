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
from dataclasses import dataclass
from functools import partial
from pathlib import PurePosixPath
from stat import S_ISREG
from typing import IO, Any

import fsspec
from fsspec.core import url_to_fs

from aai.errors import BadConfig, BadItem, Transient, Unavailable
from aai.identity import content_id
from aai.media.metadata import SIDECAR_SUFFIXES, Metadata, Sidecars

AUDIO_SUFFIXES = frozenset(
    ".wav .flac .ogg .oga .opus .mp3 .aif .aiff .aifc .au .caf .w64 .rf64 .m4a .mp4 .aac .wma .webm".split()
)
IMAGE_SUFFIXES = frozenset(".jpg .jpeg .png .webp .gif .bmp .tif .tiff".split())
TAR_SUFFIX = ".tar"
_TAR_SUFFIXES = (TAR_SUFFIX, ".tgz", ".tbz2", ".txz", ".tar.gz", ".tar.bz2", ".tar.xz", ".tar.zst")
"""Compressed tars are listed, too, so that each becomes a reject with its reason."""

_COMPRESSED = (b"\x1f\x8b", b"BZh", b"\xfd7zXZ", b"\x28\xb5\x2f\xfd")
"""Magic bytes of gzip, bzip2, xz and zstd."""

MAX_MEMBER_BYTES = 2**30
"""Larger members of a tar are rejected before they are read."""

_MAX_SIDECAR_BYTES = 2**20

_GONE = "the file is gone since it was listed: put it back, and the next run reads it"
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

    @property
    def file_id(self) -> str:
        """Digest of address, size and time of change: a changed or moved file has another one."""
        return content_id(json.dumps([self.uri, self.num_bytes, self.changed]).encode())

    @property
    def is_tar(self) -> bool:
        """Whether its members are the items."""
        return self.uri.lower().endswith(_TAR_SUFFIXES)


@dataclass(frozen=True)
class Member:
    """A file in a tar, in the order of the tar."""

    name: str
    offset: int = 0
    num_bytes: int = 0
    metadata: Metadata = Metadata()
    fault: str | None = None
    """Why it cannot be used, if its header shows that already."""


def find_files(key: str, locations: Sequence[str], suffixes: frozenset[str]) -> list[File]:
    """All files of some kinds, and all tars, at some locations, sorted by address, each once.

    A location is a folder (searched recursively), a file, a glob or a URL of one. A location that exists is taken
    literally before it is read as a glob. A link to a file counts as the file; links to folders are not followed,
    because they may form a circle.

    Raises:
        BadConfig: a location holds nothing; `key` is that of the error.
        Transient: the store failed.
    """
    found: dict[str, File] = {}
    for location in locations:
        files = [file for file in _list(key, location) if _suffix(file.uri) in suffixes or file.is_tar]
        if not files:
            raise BadConfig(
                f"{_shown(location)} holds no file of a known kind: name a folder, glob or tar that does", key=key
            )
        found |= {file.uri: file for file in files}
    return [found[uri] for uri in sorted(found)]


def read_bytes(uri: str, offset: int | None = None, num_bytes: int | None = None) -> bytes:
    """A file's bytes, or a range of them.

    Raises:
        BadItem: the file is gone, or may not be read.
        Transient: the store failed.
    """
    filesystem, path = url_to_fs(uri)
    end = None if offset is None or num_bytes is None else offset + num_bytes
    with _reading(uri):
        data: bytes = filesystem.cat_file(path, start=offset, end=end)
    return data


def read_content(uri: str, offset: int | None, num_bytes: int | None, digest: str) -> bytes:
    """The bytes of an ingested file or tar member; every stage opens items through this.

    Raises:
        BadItem: the file is gone, or its bytes are no longer those with this digest.
        Transient: the store failed.
    """
    data = read_bytes(uri, offset, num_bytes)
    if content_id(data) != digest:
        raise BadItem(_CHANGED, uri=uri)
    return data


@contextmanager
def _reading(uri: str) -> Iterator[None]:
    """Translate errors of a file system.

    Raises:
        BadItem: the file is gone, or may not be read.
        Transient: the store failed.
    """
    try:
        yield
    except FileNotFoundError as error:
        raise Unavailable(_GONE, uri=uri) from error
    except PermissionError as error:
        raise BadItem(_FORBIDDEN, uri=uri) from error
    except OSError as error:
        raise Transient(f"reading failed ({type(error).__name__}): look at access and network", uri=uri) from error


def read_members(uri: str, suffixes: frozenset[str]) -> list[Member]:
    """The members of a tar that are of some kinds, with the metadata of their sidecars, in one pass over the headers.

    A last member with a fault stands for the end of a tar that is cut short.

    Raises:
        BadItem: the file is not a tar, empty, or gone.
        Transient: the store failed.
    """
    entries, is_cut = _entries(uri)
    sidecars = Sidecars(entry.name for entry in entries if _suffix(entry.name) in suffixes)
    for entry in entries:
        if _suffix(entry.name) in SIDECAR_SUFFIXES and entry.isreg() and entry.size < _MAX_SIDECAR_BYTES:
            sidecars.add(entry.name, read_bytes(uri, entry.offset_data, entry.size))
    members: list[Member] = []
    names: set[str] = set()
    for entry in entries:
        if entry.isdir() or _suffix(entry.name) not in suffixes | {TAR_SUFFIX}:
            continue
        name, metadata = _in_one_line(entry.name), sidecars.metadata_of(entry.name)
        members.append(Member(name, entry.offset_data, entry.size, metadata, _fault(entry, names)))
        names.add(entry.name)
    if is_cut:
        fault = f"the tar is cut short or damaged after {len(entries)} members: copy it again"
        members.append(Member("the end", fault=fault))
    return members


def _list(key: str, location: str) -> list[File]:
    try:
        filesystem, path = url_to_fs(location if "://" in location else os.path.abspath(location))
        if filesystem.isdir(path):
            found = filesystem.find(path, detail=True)
        elif filesystem.exists(path):
            found = {path: filesystem.info(path)}
        elif _GLOB & set(path):
            found = filesystem.glob(path, detail=True)
        else:
            raise BadConfig(f"{_shown(location)} does not exist: name a folder, file, glob or URL that does", key=key)
    except (ImportError, ValueError) as error:
        raise BadConfig(f"{_shown(location)} cannot be opened: {error}", key=key) from error
    except OSError as error:
        raise Transient(f"listing {_shown(location)} failed ({type(error).__name__}): look at access") from error
    files = [_file(filesystem, info) for info in found.values() if not _is_hidden(info["name"])]
    return [file for file in files if file]


def _file(filesystem: fsspec.AbstractFileSystem, info: dict[str, Any]) -> File | None:
    """A file; none for a pipe, a device or a folder, or a link to one."""
    uri, changed = filesystem.unstrip_protocol(info["name"]).removeprefix("file://"), _changed(info)
    shown = _printable(uri)
    fault = None if shown == uri else "the file's name is not UTF-8: rename it"
    if info.get("islink"):
        try:
            there = os.stat(info["name"])
        except OSError:  # nothing there, or a circle of links
            fault = fault or "a broken link: put the file there, or delete the link"
        else:
            if not S_ISREG(there.st_mode):
                return None
            changed = str(there.st_mtime)
    elif info["type"] != "file":
        return None
    return File(shown, info["size"] or 0, changed, fault)


def _changed(info: dict[str, Any]) -> str:
    known = (info[name] for name in ("ETag", "etag", "md5Hash", "mtime", "LastModified", "updated") if name in info)
    return str(next(known, ""))


def _is_hidden(path: str) -> bool:
    return path.rsplit("/", 1)[-1].startswith(".")


def _entries(uri: str) -> tuple[list[tarfile.TarInfo], bool]:
    """The headers of a tar, and whether it is cut short."""
    entries: list[tarfile.TarInfo] = []
    filesystem, path = url_to_fs(uri)
    try:
        with _reading(uri), filesystem.open(path, "rb") as stream:
            size = stream.seek(0, io.SEEK_END)
            stream.seek(0)
            with tarfile.open(fileobj=stream, mode="r:", errors="surrogateescape") as archive:
                for entry in archive:
                    if entry.size < 0 or entry.offset_data + entry.size > size:
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


def _is_end(stream: IO[bytes]) -> bool:
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
    if _suffix(entry.name) == TAR_SUFFIX:
        return "a tar within a tar, which is not opened: put it beside this one"
    if not entry.isreg():
        return "a link or device, which is never followed: store the file itself"
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


def _suffix(name: str) -> str:
    return os.path.splitext(name)[1].lower()


def _printable(name: str) -> str:
    """A name in UTF-8; other bytes are escaped as a backslash, an x and two digits."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def _in_one_line(name: str) -> str:
    """A member's name in UTF-8 and on one line."""
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in _printable(name))


def _shown(location: str) -> str:
    """A location without the query of its URL, which may hold secrets."""
    return _printable(location.split("?", 1)[0])
