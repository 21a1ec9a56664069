"""Metadata of files: label, caption, licence and attributes, from tables and from sidecars."""

import json
import os
import posixpath
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import astuple, dataclass
from itertools import islice
from typing import Any

import pyarrow as pa

from aai.media.tables import FILE, read_rows

SIDECAR_SUFFIXES = (".txt", ".cls", ".json")
"""What the later kinds say counts."""

KNOWN_COLUMNS = ("label", "caption", "licence")
COLUMNS = (*KNOWN_COLUMNS, "attributes")

ROWS = pa.schema(
    [("number", pa.int64()), ("source", pa.int64()), ("line", pa.int64())]
    + [(name, pa.string()) for name in ("name", "uri", *COLUMNS)]
)
"""A row of a metadata table: its place among all rows, the number of the table, the line, the name of the file as it
stands there, the file's address, and what the row says of it."""

_BATCH_ROWS = 50_000
_MAX_CHARS = 10_000


@dataclass(frozen=True)
class Metadata:
    """Metadata of a file."""

    label: str | None = None
    """Class name."""
    caption: str | None = None
    licence: str | None = None
    attributes: str | None = None
    """Everything else, as a JSON object."""


class Sidecars:
    """Which sidecars describe which file.

    `a.json`, `a.info.json` and `a.jpg.json` describe `a.jpg`: the name is the same up to the last extension, or whole.
    In a tar, sidecars of no such member belong to all members whose names up to the first dot are the same, as
    webdataset has it.

    Args:
        sidecars: the names of all sidecars.
        members: in a tar, the names of all members that may have sidecars.
    """

    def __init__(self, sidecars: Iterable[str], members: Iterable[str] = ()) -> None:
        self._by_stem: dict[str, list[str]] = {}
        self._by_group: dict[str, list[str]] = {}
        members = list(members)
        stems = {stem for name in members for stem in _stems_of(name)}
        for name in sorted(sidecars, key=_weight):
            stem, group = _stem(name), _group(name)
            self._by_stem.setdefault(stem, []).append(name)
            if members and (stem not in stems or stem == group):
                self._by_group.setdefault(group, []).append(name)

    def names_of(self, name: str) -> list[str]:
        """The sidecars of a file; what a later one says counts."""
        own = [found for stem in _stems_of(name) for found in self._by_stem.get(stem, ())]
        group = self._by_group.get(_group(name), ()) if self._by_group else ()
        return [found for found in group if found not in own] + own


@dataclass(frozen=True)
class Sidecar:
    """What a sidecar says: `.json` gives all columns, `.cls` the label, `.txt` the caption."""

    values: Mapping[str, Any]
    fault: str | None = None
    """Why it says nothing."""


def parse_sidecar(name: str, data: bytes) -> Sidecar:
    """Read a sidecar; values of more than 10,000 characters, which downloaders write, are left out."""
    suffix = os.path.splitext(name)[1].lower()
    try:
        text = data.decode("utf-8-sig").strip()
        if suffix != ".json":
            return Sidecar({"label" if suffix == ".cls" else "caption": text})
        values = json.loads(text, parse_constant=lambda constant: None)
    except UnicodeDecodeError:
        return Sidecar({}, f"{name} is not UTF-8")
    except (ValueError, RecursionError):  # ValueError: not JSON, or an integer of thousands of digits
        return Sidecar({}, f"{name} is not JSON")
    if not isinstance(values, dict):
        return Sidecar({}, f"{name} is not a JSON object")
    if "license" in values:
        values.setdefault("licence", values.pop("license"))
    return Sidecar({key: value for key, value in values.items() if not _is_missing(value) and _is_short(value)})


def describe(sidecars: Iterable[Sidecar]) -> tuple[Metadata, str | None]:
    """What the sidecars of a file say, in each column the last; and why the first that says nothing does not."""
    values: dict[str, Any] = {}
    fault = None
    for sidecar in sidecars:
        values |= sidecar.values
        fault = fault or sidecar.fault
    return metadata_from(values), fault


def load_metadata(tables: Sequence[str]) -> Iterator[pa.Table]:
    """The rows of metadata tables with the address of the file that each names, as a stream of tables.

    A name is relative to the table's folder, or an absolute path or URL; backslashes count as slashes.

    Raises:
        BadConfig: a table cannot be read, or a line is malformed.
    """
    rows = (
        (table, line, name, address_in(folder_of(path), name), *astuple(metadata_from(values)))
        for table, path in enumerate(tables)
        for line, values in read_rows(path)
        for name in [_slashed(values.pop(FILE))]
    )
    num = 0
    while batch := list(islice(rows, _BATCH_ROWS)):
        columns = [range(num, num + len(batch)), *zip(*batch, strict=True)]
        num += len(batch)
        yield pa.table([pa.array(column, kind) for column, kind in zip(columns, ROWS.types, strict=True)], schema=ROWS)


def folder_of(table: str) -> str:
    """The folder of a table, as an absolute path or a URL."""
    return table.rpartition("/")[0] if "://" in table else os.path.dirname(os.path.abspath(table))


def address_in(folder: str, name: str) -> str:
    """The address of a file that is named relative to a folder; an absolute path or URL stays what it is."""
    protocol, mark, path = name.removeprefix("file://").rpartition("://")
    if mark:
        return name
    if not path.startswith("/"):
        protocol, mark, base = folder.rpartition("://")
        path = f"{base}/{path}"
    is_plain = "/." not in path and "//" not in path
    return f"{protocol}{mark}{path if is_plain else posixpath.normpath(path)}"


def merge(statements: Sequence[Metadata]) -> tuple[Metadata, list[str]]:
    """What several sources say of one file: in each column the last value counts; and the columns that they dispute."""
    values: dict[str, list[str]] = {
        name: [value for statement in statements if (value := getattr(statement, name))] for name in KNOWN_COLUMNS
    }
    texts = dict.fromkeys(statement.attributes for statement in statements if statement.attributes)
    attributes: dict[str, list[Any]] = {}
    for text in texts:
        for name, value in json.loads(text).items():
            attributes.setdefault(name, []).append(value)
    disputed = [name for name, found in [*values.items(), *attributes.items()] if any(one != found[0] for one in found)]
    known = {name: found[-1] for name, found in values.items() if found}
    last = {name: found[-1] for name, found in attributes.items()}
    return Metadata(**known, attributes=_as_json(last) if last else None), disputed


def metadata_from(values: Mapping[str, Any]) -> Metadata:
    """Known columns, and the others as attributes; `license` is read as `licence`, and empty or `nan` as nothing.

    What is nested too deep to be written as text counts as nothing.
    """
    rest = {str(name): value for name, value in values.items() if name and not _is_missing(value)}
    if "license" in rest:
        rest.setdefault("licence", rest.pop("license"))
    try:
        known = {name: _text(rest.pop(name)) for name in KNOWN_COLUMNS if name in rest}
        return Metadata(**known, attributes=_as_json(rest) if rest else None)
    except RecursionError:
        return Metadata()


def _is_missing(value: Any) -> bool:
    """Whether a value is none: null, an empty text, or a NaN, which pandas also writes as text."""
    if isinstance(value, str):
        return value in ("", "nan", "NaN") or not value.strip()
    return value is None or value != value


def _as_json(values: dict[str, Any]) -> str:
    """Values as JSON that all readers take: NaN and infinity become null, a lone surrogate is replaced."""
    if not all(isinstance(value, str) for value in values.values()):
        values = json.loads(json.dumps(values, default=_plain), parse_constant=lambda constant: None)
    return _encodable(json.dumps(values, sort_keys=True, ensure_ascii=False))


def _plain(value: Any) -> str | None:
    """What JSON has no form for, as text; bytes such as an embedded picture are left out."""
    return None if isinstance(value, bytes) else str(value)


def _text(value: Any) -> str:
    """A label, caption or licence as text, a truth value as in JSON; 3.0, which pandas makes of 3, is 3."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, dict | list | bool):
        return _as_json_value(value)
    if isinstance(value, bytes):
        value = value.decode("utf-8", "replace")
    return _encodable(str(value).strip())


def _as_json_value(value: Any) -> str:
    return _encodable(json.dumps(value, default=_plain, ensure_ascii=False))


def _encodable(text: str) -> str:
    """A text that Arrow can store: a lone surrogate is replaced."""
    return text.encode("utf-8", "replace").decode()


def _slashed(name: str) -> str:
    return name.strip().replace("\\", "/")


def _is_short(value: Any) -> bool:
    if isinstance(value, str):
        return len(value) <= _MAX_CHARS
    try:
        return not isinstance(value, dict | list) or len(json.dumps(value)) <= _MAX_CHARS
    except RecursionError:
        return False


def _weight(name: str) -> tuple[int, str]:
    """The order of the sidecars with one stem."""
    return SIDECAR_SUFFIXES.index(os.path.splitext(name)[1].lower()), name


def _stems_of(name: str) -> tuple[str, ...]:
    """The names without extension that sidecars of a file may have."""
    stem = _stem(name)
    return stem, f"{stem}.info", name


def _stem(name: str) -> str:
    """A member's name without its last extension."""
    return os.path.splitext(name)[0]


def _group(name: str) -> str:
    """A member's name up to the first dot of its last part, which is webdataset's key."""
    folder, slash, last = name.rpartition("/")
    return f"{folder}{slash}{last.split('.', 1)[0]}"
