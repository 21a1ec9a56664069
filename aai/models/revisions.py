"""The identity of a model in a recipe, found without loading it: this module imports neither torch nor transformers."""

import hashlib
import re
from functools import lru_cache
from pathlib import Path

from aai.errors import BadConfig
from aai.models.remembered import remembered

_COMMIT = re.compile(r"[0-9a-f]{40}")
_READ_SUFFIXES = (".bin", ".json", ".safetensors", ".txt")
_DIGEST_BYTES = 16


def resolve_revision(name: str | Path, revision: str | None) -> tuple[str, str]:
    """A model's name and revision; the revision of a folder or a checkpoint is a digest of its files.

    Raises:
        BadConfig: a model on the hub has no full commit as its revision, or a folder or file has a revision.
    """
    path = Path(name)
    if path.is_dir() or path.is_file():
        if revision is not None:
            raise BadConfig(f"a folder has no revision: remove {revision}", uri=str(name))
        return path.resolve().name, _digest(path) if path.is_dir() else _digest_of_checkpoint(path)
    if revision is None or not _COMMIT.fullmatch(revision):
        raise BadConfig(
            "there is no such folder or file, and a model on the hub needs its revision: give a commit of 40 hex "
            "digits",
            uri=str(name),
        )
    return str(name), revision


def _digest(folder: Path) -> str:
    """A digest of all files below a folder that `from_pretrained` may read, by relative path and content."""
    files = [path for path in sorted(folder.rglob("*")) if path.suffix in _READ_SUFFIXES and path.is_file()]
    whole = hashlib.blake2b(digest_size=_DIGEST_BYTES)
    for path in files:
        state = path.stat()
        content = _digest_of_file(path, state.st_ino, state.st_size, state.st_mtime_ns, state.st_ctime_ns)
        whole.update(path.relative_to(folder).as_posix().encode() + content)
    return whole.hexdigest()


def _digest_of_checkpoint(path: Path) -> str:
    state = path.stat()
    content = _digest_of_file(path, state.st_ino, state.st_size, state.st_mtime_ns, state.st_ctime_ns)
    return content.hex()[: 2 * _DIGEST_BYTES]


@lru_cache(maxsize=4096)
def _digest_of_file(path: Path, *state: int) -> bytes:
    """A file's digest, read again only once its state has changed: gigabytes of weights are in many recipes."""
    return bytes.fromhex(remembered("blake2b", path, _read_digest))


def _read_digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "blake2b").hexdigest()
