"""The folder that a comparison or a sweep writes: looked at before the work, and nothing of others' is written over."""

import fcntl
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from aai.errors import BadConfig

_URL = re.compile(r"[A-Za-z][\w+.-]+:/")
_ID = re.compile(r"\.?[0-9a-f]{32}\.\w+(\.part)?")
_SUFFIXES = (".html", ".json", ".md", ".parquet", ".yaml", ".yml")
_REMEDY = "name another folder"


def check_folder(
    output: str,
    ours: Mapping[str, bytes],
    folders: Iterable[str] = (),
    sources: Sequence[str] = (),
    workspace: str = "",
) -> None:
    """Check that results can be written; nothing is written yet.

    Args:
        output: the folder. Those that do not exist are made later.
        ours: what files have in them that this command wrote, and may replace, by name.
        folders: folders in it whose files have ids as names.
        sources: locations of recordings and images, to which results would be added as further ones.
        workspace: the bank's, whose folder is its own.

    Raises:
        BadConfig: it is no folder, cannot be written to, has other files, or is part of a source or of the workspace.
    """
    if not output.strip() or _URL.match(output):
        raise BadConfig("results are written to a folder of this machine: name one", key="output", uri=output)
    if Path(output).suffix.lower() in _SUFFIXES and not Path(output).is_dir():
        raise BadConfig("results are written to a folder, and this is a file's name", key="output", uri=output)
    folder, inner = Path(output), [Path(output) / name for name in folders]
    try:
        others = [folder / name for name, mark in ours.items() if not _is_ours(folder / name, mark)]
        is_known = any((folder / name).exists() for name in ours)
        others += [path for own in inner for path in _strangers(own, is_known)]
        above = next(path for path in (folder, *folder.absolute().parents) if path.exists())
        holding = next((location for location in sources if any(_is_in(own, location) for own in inner)), None)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise BadConfig(f"it cannot be written to ({reason}): {_REMEDY}", key="output", uri=output) from error
    if not (above.is_dir() and os.access(above, os.W_OK | os.X_OK)):
        raise BadConfig(f"nothing can be written to {above}: {_REMEDY}", key="output", uri=output)
    if others:
        sentence = f"{others[0]} is there, and this command did not write it: {_REMEDY}, or move it"
        raise BadConfig(sentence, key="output", uri=output)
    if workspace and not _URL.match(workspace) and folder.resolve().is_relative_to(Path(workspace).resolve()):
        raise BadConfig(
            f"it is in the bank's workspace, {workspace}: name a folder elsewhere", key="output", uri=output
        )
    if holding:
        sentence = f"results in it would be further recordings or images of the bank, which reads {holding}"
        raise BadConfig(f"{sentence}: name a folder elsewhere", key="output", uri=output)


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Wait until no other process writes the folder, so that its files are of one comparison."""
    place = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):  # not all network file systems can
            fcntl.flock(place, fcntl.LOCK_EX)
        yield
    finally:
        os.close(place)


def _is_ours(path: Path, mark: bytes) -> bool:
    return not path.exists() or mark in path.read_bytes()


def is_id_name(name: str) -> bool:
    """Whether a file of results, or one that is being written, can have this name: an id and an extension."""
    return _ID.fullmatch(name) is not None


def _strangers(folder: Path, is_known: bool) -> list[Path]:
    """What is not ours of a folder for files with ids as names: all, unless this command has written beside it."""
    if not folder.is_dir():
        return [folder] if folder.exists() else []
    return [path for path in folder.iterdir() if not (is_known and is_id_name(path.name) and path.is_file())]


def _is_in(folder: Path, location: str) -> bool:
    """Whether a location of sources reads the files of a folder."""
    own, source = folder.resolve(), Path(location)
    if source.is_dir():
        return own.is_relative_to(source.resolve())
    if "**" in location:  # everything below what stands before
        above = Path(location.split("**", maxsplit=1)[0]).absolute()
        return any(each.match(str(above)) for each in (own, *own.parents))
    return own.match(str(source.absolute().parent))
