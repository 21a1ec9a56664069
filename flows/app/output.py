"""Files that commands write: checked before the work, written whole, and never over what is not ours."""

import os
from collections.abc import Callable
from pathlib import Path

from aai.errors import BadConfig
from aai.workspace.store import write_whole

_REMEDY = "name another file"


def check_output(path: Path, key: str, is_ours: Callable[[bytes], bool]) -> None:
    """Check that a file can be written; nothing is written yet.

    Args:
        path: the file. Folders that do not exist are made later.
        key: the argument that names it, for errors.
        is_ours: whether a file with some contents was written by the same command, and may be replaced.

    Raises:
        BadConfig: it cannot be written, or there is another file.
    """
    try:
        if "\0" in str(path):
            raise ValueError("a path has no NUL")
        if path.is_dir() or not path.name:
            raise BadConfig(f"it is a folder: {_REMEDY}, in it or elsewhere", key=key, uri=str(path))
        if path.exists() and not (path.is_file() and is_ours(path.read_bytes())):
            raise BadConfig(
                f"it exists, and this command did not write it: {_REMEDY}, or move it", key=key, uri=str(path)
            )
        folder = next(parent for parent in path.absolute().parents if parent.exists())
    except (OSError, ValueError) as error:
        raise _unwritable(path, key, error) from error
    if not (folder.is_dir() and os.access(folder, os.W_OK | os.X_OK)):
        raise BadConfig(f"nothing can be written to {folder}: {_REMEDY}", key=key, uri=str(path))


def write_output(path: Path, data: bytes, key: str) -> None:
    """Write a file atomically, and its folder if necessary.

    Raises:
        BadConfig: it cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, data)
    except OSError as error:
        raise _unwritable(path, key, error) from error


def _unwritable(path: Path, key: str, error: Exception) -> BadConfig:
    reason = getattr(error, "strerror", None) or error
    return BadConfig(f"it cannot be written ({reason}): {_REMEDY}", key=key, uri=str(path))
