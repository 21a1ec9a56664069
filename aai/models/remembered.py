"""What was found out about large files, remembered between commands: gigabytes of weights are read once.

Each fact is a small file in the user's cache folder, with the state of the file that it is about: its size, times and
inode. It is written under another name and renamed, so that commands may write the same fact at the same time; one that
cannot be read, or is of another state, is found out again.
"""

import json
import os
from collections.abc import Callable
from contextlib import suppress
from hashlib import blake2b
from pathlib import Path
from uuid import uuid4

_MIN_BYTES = 2**20
"""Smaller files are read again, which takes no longer than looking it up."""
_FOLDER = "AAI_CACHE"
"""The variable that names another cache folder."""


def remembered(kind: str, path: Path, find_out: Callable[[Path], str]) -> str:
    """A fact about a file: as it was found out before, if the file has not changed since.

    Args:
        kind: the name of the fact; another one once `find_out` changes.
        path: the file.
        find_out: reads the file.
    """
    path = path.resolve()
    state = _state(path)
    if state[0] < _MIN_BYTES:
        return find_out(path)
    note = _folder() / f"{blake2b(json.dumps([kind, str(path)]).encode(), digest_size=16).hexdigest()}.json"
    known = _read(note, state)
    if known is None:
        known = find_out(path)
        if _state(path) == state:
            _write(
                note, {"kind": kind, "path": str(path), "state": state, "fact": known, "check": _check(state, known)}
            )
    return known


def _state(path: Path) -> list[int]:
    state = path.stat()
    return [state.st_size, state.st_mtime_ns, state.st_ctime_ns, state.st_ino]


def _check(state: list[int], fact: str) -> str:
    return blake2b(json.dumps([state, fact]).encode(), digest_size=16).hexdigest()


def _folder() -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return Path(os.environ.get(_FOLDER) or os.path.join(base, "aai"), "files")


def _read(note: Path, state: list[int]) -> str | None:
    try:
        found = json.loads(note.read_bytes())
        fact = found["fact"]
        return fact if found["state"] == state and found["check"] == _check(state, fact) else None
    except (OSError, ValueError, KeyError, TypeError, RecursionError):  # not there, or damaged
        return None


def _write(note: Path, values: dict[str, object]) -> None:
    unfinished = note.with_suffix(f".{uuid4().hex}")
    try:
        note.parent.mkdir(parents=True, exist_ok=True)
        unfinished.write_text(json.dumps(values))
        unfinished.replace(note)
    except OSError:  # no home, or no room: found out again by the next command
        with suppress(OSError):
            unfinished.unlink(missing_ok=True)
