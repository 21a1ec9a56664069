"""Tables of pairs: the paths of a sound and an image per row, and the pair's label and caption."""

import os
from functools import lru_cache
from pathlib import Path

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from aai.errors import BadConfig
from aai.format import without_secrets
from aai.media.metadata import Metadata, metadata_from

_KEY = "pairs.table"
_FILES, _TEXTS = ("audio", "image"), ("label", "caption")
USED = (*_FILES, *_TEXTS)
_AS_TEXT = pyarrow.csv.ConvertOptions(column_types=dict.fromkeys(USED, pa.string()))
"""Without it a column of labels such as `1` or `no` would be one of numbers or truth values."""


def read_table(path: str) -> pa.Table:
    """The pairs of a CSV or Parquet file, null for empty cells.

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
    columns = {name: [_whole(folder, value) for value in rows[name].to_pylist()] for name in _FILES}
    texts = rows.select([name for name in _TEXTS if name in has])
    known = [metadata_from(row) for row in texts.to_pylist()] if texts.num_columns else [Metadata()] * len(rows)
    columns |= {name: [getattr(metadata, name) for metadata in known] for name in _TEXTS}
    pairs = pa.table(columns, schema=pa.schema([(name, pa.string()) for name in USED]))
    return pairs, [name for name in has if name not in USED]


def _columns(path: str) -> tuple[pa.Table, list[str]]:
    """The columns that are used, as they are in the file, and the names of all."""
    try:
        if path.lower().endswith((".parquet", ".pq")):
            has = pyarrow.parquet.read_schema(path).names
            rows = pyarrow.parquet.read_table(path, columns=[name for name in USED if name in has])
        else:
            rows = pyarrow.csv.read_csv(path, convert_options=_AS_TEXT)
            has = rows.column_names
    except (OSError, pa.ArrowInvalid) as error:
        reason = str(error).split("\n", 1)[0]
        raise BadConfig(f"it cannot be read ({reason}): name a CSV or Parquet file", key=_KEY, uri=path) from error
    if missing := [name for name in _FILES if name not in has]:
        raise BadConfig(f"it has no column {missing[0]} (it has {', '.join(has)}): rename one", key=_KEY, uri=path)
    return rows, has


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
    text = "" if value is None else str(value)
    if not text.strip():
        return None
    return text if "://" in text else os.path.abspath(folder / text)
