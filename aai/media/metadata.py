"""Metadata of files: label, caption, licence and attributes, from tables and from sidecars in tars."""

import csv
import io
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import fsspec
import pyarrow as pa

from aai.errors import BadConfig

SIDECAR_SUFFIXES = (".json", ".cls", ".txt")
_COLUMNS = ("label", "caption", "licence")
_FILE = "file"
_SCHEMA = pa.schema(
    [(name, pa.string()) for name in ("uri", "label", "caption", "licence", "attributes", "metadata_table")]
)


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
    """The sidecars of a tar: `.json` gives label, caption and licence, `.cls` the label, `.txt` the caption.

    A sidecar belongs to the member whose whole name up to the last extension is the same. Other sidecars belong to all
    members whose names up to the first dot are the same, as webdataset has it.

    Args:
        members: the names of all members that may have sidecars.
    """

    def __init__(self, members: Iterable[str]) -> None:
        self._stems = {_stem(name) for name in members}
        self._by_stem: dict[str, dict[str, Any]] = {}
        self._by_group: dict[str, dict[str, Any]] = {}

    def add(self, name: str, data: bytes) -> None:
        """Take in a sidecar; one that is not valid JSON counts as empty."""
        values, stem, group = _sidecar_values(name, data), _stem(name), _group(name)
        if stem in self._stems:
            self._by_stem.setdefault(stem, {}).update(values)
        if stem not in self._stems or stem == group:
            self._by_group.setdefault(group, {}).update(values)

    def metadata_of(self, name: str) -> Metadata:
        """The metadata of a member; what its own sidecars say comes first."""
        return metadata_from(self._by_group.get(_group(name), {}) | self._by_stem.get(_stem(name), {}))


def load_metadata(paths: Iterable[str]) -> pa.Table:
    """The rows of CSV or Parquet tables with the address of the file that each names; the last row of a file counts.

    The column `file` is relative to the table's folder, or an absolute path or URL.

    Raises:
        BadConfig: a table cannot be read, has no column `file`, or a line has too many or too few fields.
    """
    found: dict[str, tuple[str | None, ...]] = {}
    for path in paths:
        for row in _table_rows(path):
            uri = _address(path, str(row.pop(_FILE)))
            metadata = metadata_from(row)
            found[uri] = (metadata.label, metadata.caption, metadata.licence, metadata.attributes, path)
    columns = [list(found), *map(list, zip(*found.values(), strict=True))] if found else [[]] * len(_SCHEMA)
    return pa.table(columns, schema=_SCHEMA)


def metadata_from(values: Mapping[str, Any]) -> Metadata:
    """Known columns, and the others as attributes; `license` is read as `licence`.

    What is nested too deep to be written as text counts as nothing.
    """
    rest = {str(name): value for name, value in values.items() if name and value not in (None, "") and value == value}
    if "license" in rest:
        rest.setdefault("licence", rest.pop("license"))
    try:
        known = {name: _text(rest.pop(name)) for name in _COLUMNS if name in rest}
        return Metadata(**known, attributes=_as_json(rest) if rest else None)
    except RecursionError:
        return Metadata()


def _as_json(values: dict[str, Any]) -> str:
    """Values as JSON that all readers take: NaN and infinity become null, a lone surrogate is replaced."""
    finite = json.loads(json.dumps(values, default=str), parse_constant=lambda constant: None)
    return _text(json.dumps(finite, sort_keys=True, ensure_ascii=False))


def _text(value: Any) -> str:
    """A value as text that Arrow can store: a lone surrogate is replaced."""
    return str(value).encode("utf-8", "replace").decode()


def _sidecar_values(name: str, data: bytes) -> dict[str, Any]:
    text = data.decode("utf-8", errors="replace").strip()
    suffix = os.path.splitext(name)[1].lower()
    if suffix != ".json":
        return {"label" if suffix == ".cls" else "caption": text}
    try:
        values = json.loads(text, parse_constant=lambda constant: None)
    except (ValueError, RecursionError):  # ValueError: not JSON, or an integer of thousands of digits
        return {}
    return values if isinstance(values, dict) else {}


def _address(table: str, name: str) -> str:
    """The address of a file that a table names."""
    if "://" in name or os.path.isabs(name):
        return name
    folder = table.rpartition("/")[0] or "."
    return f"{folder}/{name}" if "://" in table else os.path.normpath(os.path.join(os.path.abspath(folder), name))


def _table_rows(path: str) -> Iterator[dict[str, Any]]:
    try:
        with fsspec.open(path, "rb") as stream:
            data = stream.read()
        if path.lower().endswith(".parquet"):
            import pyarrow.parquet as pq

            rows = pq.read_table(io.BytesIO(data)).to_pylist()
        else:
            rows = list(_csv_rows(path, data.decode("utf-8-sig")))
    except FileNotFoundError as error:
        raise BadConfig("there is no such file: name one that exists", key="metadata", uri=_shown(path)) from error
    except (OSError, ValueError, ImportError, csv.Error) as error:  # ValueError: of pyarrow, or not UTF-8
        raise BadConfig(f"cannot be read as CSV or Parquet: {error}", key="metadata", uri=_shown(path)) from error
    if rows and _FILE not in rows[0]:
        raise BadConfig(
            "there is no column `file`: add one with the names of the files", key="metadata", uri=_shown(path)
        )
    return iter(rows)


def _csv_rows(path: str, text: str) -> Iterator[dict[str, Any]]:
    reader = csv.DictReader(io.StringIO(text))  # surplus fields stand under the key None, missing ones are None
    for row in reader:
        if None in row or None in row.values():
            raise BadConfig(
                f"line {reader.line_num} has {'more' if None in row else 'fewer'} fields than the header: "
                "quote texts that hold commas",
                key="metadata",
                uri=_shown(path),
            )
        yield dict(row)


def _stem(name: str) -> str:
    """A member's name without its last extension."""
    return os.path.splitext(name)[0]


def _group(name: str) -> str:
    """A member's name up to the first dot of its last part, which is webdataset's key."""
    folder, slash, last = name.rpartition("/")
    return f"{folder}{slash}{last.split('.', 1)[0]}"


def _shown(location: str) -> str:
    """A location without the query of its URL, which may hold secrets."""
    return location.split("?", 1)[0]
