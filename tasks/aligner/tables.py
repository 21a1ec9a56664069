"""Tables of pairs: the paths of a sound and an image per row."""

import os
from functools import lru_cache
from pathlib import Path

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from aai.errors import BadConfig

_KEY = "pairs.table"


@lru_cache(maxsize=4)
def read_table(path: str) -> pa.Table:
    """The pairs of a CSV or Parquet file: columns `audio` and `image` of absolute paths or URLs, null for empty cells.

    Raises:
        BadConfig: there is no such file, or it has other columns.
    """
    try:
        if path.lower().endswith((".parquet", ".pq")):
            rows = pyarrow.parquet.read_table(path)
        else:
            rows = pyarrow.csv.read_csv(path)
    except (OSError, pa.ArrowInvalid) as error:
        reason = str(error).split("\n", 1)[0]
        raise BadConfig(f"it cannot be read ({reason}): name a CSV or Parquet file", key=_KEY, uri=path) from error
    missing = [name for name in ("audio", "image") if name not in rows.column_names]
    if missing:
        has = ", ".join(rows.column_names)
        raise BadConfig(f"it has no column {missing[0]} (it has {has}): rename one", key=_KEY, uri=path)
    folder = Path(path).parent
    columns = {name: [_whole(folder, value) for value in rows[name].to_pylist()] for name in ("audio", "image")}
    return pa.table(columns, schema=pa.schema([(name, pa.string()) for name in columns]))


def folders_of(path: str) -> tuple[list[str], list[str]]:
    """The folders with the sounds and with the images of a table.

    Raises:
        BadConfig: the table cannot be used, or is empty.
    """
    rows = read_table(path)
    if not rows.num_rows:
        raise BadConfig("it has no rows: add pairs", key=_KEY, uri=path)
    audio, image = (
        sorted({uri.rpartition("/")[0] for uri in rows[name].to_pylist() if uri}) for name in ("audio", "image")
    )
    if not (audio and image):
        raise BadConfig("its rows name no pair of files: write paths into both columns", key=_KEY, uri=path)
    return _outermost(audio), _outermost(image)


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
