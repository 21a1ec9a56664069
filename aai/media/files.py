"""Where recordings and pictures are: files in folders, behind globs and in buckets, and members of plain tars.

Nothing is extracted: a member is read from its place in the tar. Listing reads no contents, so that a run that finds
nothing new is fast.
"""

import csv
import io
import json
import os
import tarfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import PurePosixPath
from stat import S_ISREG
from typing import IO, Any

import fsspec
from fsspec.core import url_to_fs

from aai.errors import BadConfig, BadItem, Transient
from aai.identity import content_id

AUDIO_SUFFIXES = frozenset(
    ".wav .flac .ogg .oga .opus .mp3 .aif .aiff .aifc .au .caf .w64 .rf64 .m4a .mp4 .aac .wma .webm".split()
)
IMAGE_SUFFIXES = frozenset(".jpg .jpeg .png .webp .gif .bmp .tif .tiff".split())
TAR_SUFFIX = ".tar"
_TAR_SUFFIXES = (TAR_SUFFIX, ".tgz", ".tbz2", ".txz", ".tar.gz", ".tar.bz2", ".tar.xz", ".tar.zst")
"""Compressed tars are found, too, so that it is said of each that it cannot be used."""

_COMPRESSED = (b"\x1f\x8b", b"BZh", b"\xfd7zXZ", b"\x28\xb5\x2f\xfd")
"""How files begin that gzip, bzip2, xz or zstd have made."""

MAX_MEMBER_BYTES = 2**30
"""A larger member of a tar is rejected before it is read."""

_GONE = "the file is gone since it was found: put it back, or leave it out"
_FORBIDDEN = "the file may not be read by this user: change its rights, or leave it out"

_DESCRIBING = (".json", ".cls", ".txt")
_COLUMNS = ("label", "caption", "licence")
_GLOB = frozenset("*?[")


@dataclass(frozen=True)
class File:
    """A file as it was found: not yet opened."""

    uri: str
    num_bytes: int
    changed: str
    """When it was changed, or its entity tag: as the store says it."""

    fault: str | None = None
    """Why it cannot be opened, if that is known already."""

    @property
    def file_id(self) -> str:
        """Another one once the file is changed or moved."""
        return content_id(json.dumps([self.uri, self.num_bytes, self.changed]).encode())

    @property
    def is_tar(self) -> bool:
        """Whether it holds members."""
        return self.uri.lower().endswith(_TAR_SUFFIXES)


@dataclass(frozen=True)
class Described:
    """What is said of a recording or picture."""

    label: str | None = None
    caption: str | None = None
    licence: str | None = None
    attributes: str | None = None
    """All else, as a JSON object."""


@dataclass(frozen=True)
class Member:
    """A file in a tar."""

    name: str
    offset: int
    num_bytes: int
    described: Described


def find_files(key: str, places: Sequence[str], suffixes: frozenset[str]) -> list[File]:
    """All files of some kinds, and all tars, in folders and below, behind globs, or named; in order, each once.

    A link to a file counts as the file; links to folders are not followed, as they may lead round in a circle.

    Raises:
        BadConfig: at a place there is nothing; the message begins with `key`.
        Transient: the store failed.
    """
    found: dict[str, File] = {}
    for place in places:
        here = [file for file in _list(key, place) if _suffix(file.uri) in suffixes or file.is_tar]
        if not here:
            raise BadConfig(
                f"{key}: {_shown(place)} holds no file of a known kind: name a folder, glob or tar that does"
            )
        found |= {file.uri: file for file in here}
    return [found[uri] for uri in sorted(found)]


def read_bytes(uri: str, offset: int | None = None, num_bytes: int | None = None) -> bytes:
    """A file's bytes, or some of them.

    Raises:
        BadItem: the file is gone, or may not be read.
        Transient: the store failed.
    """
    filesystem, path = url_to_fs(uri)
    end = None if offset is None or num_bytes is None else offset + num_bytes
    with _reading(uri):
        data: bytes = filesystem.cat_file(path, offset, end)
    return data


@contextmanager
def _reading(uri: str) -> Iterator[None]:
    """Say what is wrong with a file that cannot be read.

    Raises:
        BadItem: the file is gone, or may not be read.
        Transient: the store failed.
    """
    try:
        yield
    except FileNotFoundError as error:
        raise BadItem(f"{uri}: {_GONE}") from error
    except PermissionError as error:
        raise BadItem(f"{uri}: {_FORBIDDEN}") from error
    except OSError as error:
        raise Transient(f"reading {uri} failed ({type(error).__name__}): look at access and network") from error


def members(uri: str, suffixes: frozenset[str]) -> Iterator[Member | tuple[str, BadItem]]:
    """The members of a tar that are of some kinds; for each that cannot be used, its name and why.

    Members with the same name up to the ending belong together, as webdataset has it: `.json` says `label`, `caption`
    and `licence`, `.cls` the label, `.txt` the caption.

    Raises:
        BadItem: the file is no tar at all, empty, or gone.
        Transient: the store failed.
    """
    entries, cut = _entries(uri)
    said: dict[str, dict[str, Any]] = {}
    for entry in entries:
        stem, suffix = _stem(entry.name), _suffix(entry.name)
        if suffix in _DESCRIBING and entry.isreg() and entry.size < 2**20:
            data = read_bytes(uri, entry.offset_data, entry.size)
            said.setdefault(stem, {}).update(_said_by(suffix, data))
    seen: set[str] = set()
    for entry in entries:
        if entry.isdir() or _suffix(entry.name) not in suffixes | {TAR_SUFFIX}:
            continue
        name, fault = _spelt(entry.name), _fault(entry, seen)
        seen.add(entry.name)
        if fault:
            yield name, BadItem(f"{uri}#{name}: {fault}")
        else:
            yield Member(name, entry.offset_data, entry.size, describe(said.get(_stem(entry.name), {})))
    if cut:
        yield "the end", BadItem(f"{uri}: the tar is cut short or damaged after {len(entries)} members: copy it again")


def load_descriptions(paths: Iterable[str]) -> dict[str, Described]:
    """What CSV or Parquet files say of files, by path relative to the table's folder, or as it is given.

    Raises:
        BadConfig: a table cannot be read or has no column `file`.
    """
    found: dict[str, Described] = {}
    for path in paths:
        folder = path.rsplit("/", 1)[0] if "/" in path else "."
        for row in _table_rows(path):
            name = str(row.pop("file"))
            described = describe(row)
            found[name] = described
            found[f"{folder}/{name}"] = described
            found[os.path.abspath(f"{folder}/{name}")] = described
    return found


def described_by(found: dict[str, Described], uri: str) -> Described:
    """What the tables say of a file: by its whole address, else by its bare name."""
    return found.get(uri) or found.get(uri.rsplit("/", 1)[-1]) or Described()


def describe(said: dict[str, Any]) -> Described:
    """Known columns, and the others as attributes; `license` is read as `licence`."""
    rest = {str(name): value for name, value in said.items() if value not in (None, "")}
    if "license" in rest:
        rest.setdefault("licence", rest.pop("license"))
    known = {name: str(rest.pop(name)) for name in _COLUMNS if name in rest}
    attributes = json.dumps(rest, sort_keys=True, default=str) if rest else None
    return Described(**known, attributes=attributes)


def _list(key: str, place: str) -> list[File]:
    try:
        filesystem, path = url_to_fs(place)
        if _GLOB & set(path):
            found = filesystem.glob(path, detail=True)
        elif filesystem.isdir(path):
            found = filesystem.find(path, detail=True)
        elif filesystem.exists(path):
            found = {path: filesystem.info(path)}
        else:
            raise BadConfig(f"{key}: {_shown(place)} does not exist: name a folder, file, glob or URL that does")
    except (ImportError, ValueError) as error:
        raise BadConfig(f"{key}: {_shown(place)} cannot be opened: {error}") from error
    except OSError as error:
        raise Transient(f"listing {_shown(place)} failed ({type(error).__name__}): look at access") from error
    files = [_file(filesystem, info) for info in found.values() if not _is_hidden(info["name"])]
    return [file for file in files if file]


def _file(filesystem: fsspec.AbstractFileSystem, info: dict[str, Any]) -> File | None:
    """A file, or none where a pipe, a device or a folder is, or a link to one."""
    uri, changed = filesystem.unstrip_protocol(info["name"]).removeprefix("file://"), _changed(info)
    shown = _printable(uri)
    fault = None if shown == uri else "the file's name is no UTF-8: rename it"
    if info.get("islink"):
        try:
            there = os.stat(info["name"])
        except OSError:  # there is nothing, or links lead round in a circle
            fault = fault or "a link that leads to no file: put the file there, or delete the link"
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
    """The headers in a tar, and whether it ends before its end."""
    entries: list[tarfile.TarInfo] = []
    filesystem, path = url_to_fs(uri)
    try:
        with _reading(uri), filesystem.open(path, "rb") as stream:
            size = stream.seek(0, io.SEEK_END)
            stream.seek(0)
            with tarfile.open(fileobj=stream, mode="r:", errors="surrogateescape") as archive:
                for entry in archive:
                    if entry.offset_data + entry.size > size:
                        return entries, True
                    entries.append(entry)
                stream.seek(archive.offset)
                whole = size % tarfile.BLOCKSIZE == 0 and _is_end(stream)
                if whole and not entries:
                    raise BadItem(f"{uri}: nothing is in it: copy it again, or delete it")
                return entries, not whole
    except tarfile.TarError as error:
        if entries:
            return entries, True
        raise BadItem(f"{uri}: {_no_tar(read_bytes(uri, 0, tarfile.BLOCKSIZE))}") from error


def _is_end(stream: IO[bytes]) -> bool:
    """Whether only zeros follow, as at the end of a tar; after a damaged header there are more members."""
    first = stream.read(tarfile.BLOCKSIZE)
    return len(first) == tarfile.BLOCKSIZE and not any(map(any, (first, *iter(partial(stream.read, 2**20), b""))))


def _no_tar(start: bytes) -> str:
    """Why a file is no tar."""
    if not start:
        return "the file is empty (0 bytes): copy it again, or delete it"
    if start.startswith(_COMPRESSED):
        return "a compressed tar, whose members cannot be read from their places: decompress it (gunzip, unxz, unzstd)"
    return "no tar, or cut short in its first member: copy it again, or delete it"


def _fault(entry: tarfile.TarInfo, seen: set[str]) -> str | None:
    """Why a member cannot be used, if so."""
    if _suffix(entry.name) == TAR_SUFFIX:
        return "a tar within a tar, which is not opened: put it beside this one"
    if not entry.isreg():
        return "a link or device, which is never followed: store the file itself"
    parts = PurePosixPath(entry.name).parts
    if entry.name.startswith("/") or ".." in parts:
        return "its name leads out of the tar: rename it"
    if entry.name in seen:
        return "a second member of this name: rename it"
    if _printable(entry.name) != entry.name:
        return "its name is no UTF-8: rename it"
    if not entry.name.isprintable():
        return "its name has a line break or another character that cannot be printed: rename it"
    if entry.size > MAX_MEMBER_BYTES:
        return f"it has {entry.size:,} bytes, more than {MAX_MEMBER_BYTES:,}: store it as a file of its own"
    return None


def _said_by(suffix: str, data: bytes) -> dict[str, Any]:
    text = data.decode("utf-8", errors="replace").strip()
    if suffix != ".json":
        return {"label" if suffix == ".cls" else "caption": text}
    try:
        said = json.loads(text)
    except json.JSONDecodeError:
        return {}
    return said if isinstance(said, dict) else {}


def _table_rows(path: str) -> list[dict[str, Any]]:
    try:
        with fsspec.open(path, "rb") as stream:
            data = stream.read()
        if path.lower().endswith(".parquet"):
            import pyarrow.parquet as pq

            rows: list[dict[str, Any]] = pq.read_table(io.BytesIO(data)).to_pylist()
        else:
            rows = list(csv.DictReader(io.StringIO(data.decode("utf-8-sig"))))
    except (OSError, ValueError, csv.Error) as error:  # pyarrow's errors and UnicodeDecodeError are ValueErrors
        raise BadConfig(f"metadata: {_shown(path)} cannot be read as CSV or Parquet: {error}") from error
    if rows and "file" not in rows[0]:
        raise BadConfig(f"metadata: {_shown(path)} has no column `file`: add one with the names of the files")
    return rows


def _stem(name: str) -> str:
    """A member's name up to the first dot of its last part, as webdataset has it."""
    folder, _, last = name.rpartition("/")
    return f"{folder}/{last.split('.', 1)[0]}"


def _suffix(name: str) -> str:
    return os.path.splitext(name)[1].lower()


def _printable(name: str) -> str:
    """A name in UTF-8: other bytes are written as a backslash, an x and two digits."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def _spelt(name: str) -> str:
    """A member's name in UTF-8 and on one line."""
    return "".join(each if each.isprintable() else repr(each)[1:-1] for each in _printable(name))


def _shown(place: str) -> str:
    """A place without what may be secret in its URL."""
    return _printable(place.split("?", 1)[0])
