"""The pictures, sources, masks and sounds that the table of a comparison names."""

import os
from collections.abc import Iterable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from tasks.evaluate.folder import is_id_name

COLUMNS = ("image", "source", "mask", "sound")
"""Columns of the table with paths relative to its folder."""


def names_in(cells: pa.Table) -> set[str]:
    """All paths that a table names."""
    columns = [cells[name] for name in COLUMNS if name in cells.column_names]
    return {path for column in columns for path in column.to_pylist() if path}


def names_of(path: Path) -> set[str] | None:
    """All paths that a table in a file names; None if there is none, or it cannot be read whole."""
    try:
        return names_in(pq.read_table(path))
    except (OSError, pa.ArrowException):
        return None


def are_there(folder: Path, names: Iterable[str]) -> bool:
    """Whether all of these files have something in them."""
    wanted = set(names)
    folders = {Path(name).parts[0] for name in wanted}
    return wanted <= {f"{inner}/{name}" for inner in folders for name in files_in(folder / inner)}


def files_in(folder: Path) -> set[str]:
    """Names of the files in a folder that have something in them."""
    try:
        with os.scandir(folder) as entries:
            return {entry.name for entry in entries if entry.is_file() and entry.stat().st_size}
    except FileNotFoundError:
        return set()


def remove(folder: Path, names: Iterable[str]) -> None:
    """Remove files that an earlier table named, unless their names are not such as a comparison gives.

    Raises:
        OSError: one cannot be removed.
    """
    for name in names:
        parts = Path(name).parts
        if len(parts) == 2 and is_id_name(parts[1]):
            (folder / name).unlink(missing_ok=True)
