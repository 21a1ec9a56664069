"""Tables of pairs: the paths of a sound and an image per row, and the pair's label and caption."""

import os
from functools import lru_cache
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet

from aai.errors import BadConfig
from aai.format import without_secrets
from aai.media.metadata import metadata_from
from aai.media.tables import Header, plain_name, read_named

_KEY = "pairs.table"
_FILES, _TEXTS = ("audio", "image"), ("label", "caption")
USED = (*_FILES, *_TEXTS)


def read_table(path: str) -> pa.Table:
    """The pairs of a table in CSV, TSV, JSON lines or Parquet, null for empty cells.

    Columns: `audio` and `image`, absolute paths or URLs; `label` and `caption`, null where the file has no such column.

    Raises:
        BadConfig: there is no such file, or it lacks a column of paths.
    """
    return _read(path)[0]


def unused_columns(path: str) -> list[str]:
    """The columns of a table of pairs that a training does not use.

    Raises:
        BadConfig: as `read_table`.
    """
    return _read(path)[1]


@lru_cache(maxsize=4)
def _read(path: str) -> tuple[pa.Table, list[str]]:
    """The pairs, and the names of the other columns."""
    rows, has = _columns(path)
    folder = Path(path).parent
    columns = {name: [_whole(folder, row.get(name)) for row in rows] for name in _FILES}
    known = [metadata_from({name: row[name] for name in _TEXTS if name in row}) for row in rows]
    columns |= {name: [getattr(metadata, name) for metadata in known] for name in _TEXTS}
    pairs = pa.table(columns, schema=pa.schema([(name, pa.string()) for name in USED]))
    return pairs, [name for name in has if name not in USED]


def _columns(path: str) -> tuple[list[dict[str, Any]], list[str]]:
    """The columns that are used, a row at a time, and the names of all.

    Only they are read of Parquet, as the others may hold vectors, or the files themselves.
    """
    try:
        if path.lower().endswith((".parquet", ".pq")):
            own = pyarrow.parquet.read_schema(path).names
            has = _names_of(path, tuple(own))
            read = {column: name for column, name in zip(own, has, strict=True) if name in USED}
            found = pyarrow.parquet.read_table(path, columns=list(read))
            return found.rename_columns(read).to_pylist(), list(has)
        rows = [values for _, values in read_named(path, Header(_FILES, _names_of))]
    except (OSError, pa.ArrowInvalid) as error:
        reason = str(error).split("\n", 1)[0]
        raise BadConfig(
            f"it cannot be read ({reason}): name a table in CSV, TSV, JSON lines or Parquet", key=_KEY, uri=path
        ) from error
    except BadConfig as error:
        raise BadConfig(error.sentence, key=_KEY, uri=path) from error
    return rows, list(dict.fromkeys(name for row in rows for name in row))


def _names_of(path: str, header: tuple[str, ...]) -> tuple[str, ...]:
    """The names of the columns; those that a training reads in lower case.

    Raises:
        BadConfig: it lacks a column of paths, or has one that is read twice.
    """
    names = tuple(plain if (plain := plain_name(name)) in USED else name.strip() for name in header)
    if missing := [name for name in _FILES if name not in names]:
        raise BadConfig(f"it has no column {missing[0]} (it has {', '.join(names)}): rename one", key=_KEY, uri=path)
    if twice := [name for name in USED if names.count(name) > 1]:
        raise BadConfig(f"two columns are called {twice[0]}: rename one of them", key=_KEY, uri=path)
    return names


def folders_of(path: str) -> tuple[list[str], list[str]]:
    """The folders with the sounds and with the images of a table.

    Raises:
        BadConfig: the table cannot be used, or is empty.
    """
    rows = read_table(path)
    if not rows.num_rows:
        raise BadConfig("it has no rows: add pairs", key=_KEY, uri=path)
    return _folders(rows["audio"].to_pylist(), path, "audio"), _folders(rows["image"].to_pylist(), path, "image")


def _folders(uris: list[str | None], path: str, column: str) -> list[str]:
    """The folders of a column's files; those that do not exist are left out, and their rows have no pair.

    Raises:
        BadConfig: there are none.
    """
    named = sorted({uri.rpartition("/")[0] for uri in uris if uri})
    if not named:
        raise BadConfig("its rows name no pair of files: write paths into both columns", key=_KEY, uri=path)
    found = [folder for folder in named if "://" in folder or os.path.isdir(folder)]
    if not found:
        reason = f"of the files in its column {column} not even the folders exist, as {without_secrets(named[0])}"
        raise BadConfig(f"{reason}: correct the paths, which are relative to the table", key=_KEY, uri=path)
    return _outermost(found)


def _outermost(folders: list[str]) -> list[str]:
    """The folders that are in no other of them."""
    kept: list[str] = []
    for folder in folders:
        if not (kept and folder.startswith(f"{kept[-1]}/")):
            kept.append(folder)
    return kept


def _whole(folder: Path, value: object) -> str | None:
    text = "" if value is None else str(value).strip()  # as of `a.flac, a.jpg`
    if not text:
        return None
    return text if "://" in text else os.path.abspath(folder / text)
