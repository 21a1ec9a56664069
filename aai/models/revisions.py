"""What names a model in a recipe: known without loading it, so this needs neither torch nor transformers."""

import hashlib
import re
from pathlib import Path

from aai.errors import BadConfig

_COMMIT = re.compile(r"[0-9a-f]{40}")
_READ_SUFFIXES = (".json", ".safetensors", ".txt")
_DIGEST_BYTES = 16


def pin(name: str | Path, revision: str | None) -> tuple[str, str]:
    """What names a model in a recipe: its name and its revision, for a folder a digest of its files.

    Raises:
        BadConfig: the name is no folder and the revision no full commit, or a folder is given a revision.
    """
    folder = Path(name)
    if folder.is_dir():
        if revision is not None:
            raise BadConfig(f"{name}: a folder has no revision: leave {revision} out")
        return folder.resolve().name, _digest(folder)
    if revision is None or not _COMMIT.fullmatch(revision):
        raise BadConfig(f"{name}: no folder; of a model on the hub give the revision as a commit of 40 hex digits")
    return str(name), revision


def _digest(folder: Path) -> str:
    """A digest of the files in a folder, and in those below it, that `from_pretrained` may read."""
    whole = hashlib.blake2b(digest_size=_DIGEST_BYTES)
    for path in sorted(folder.rglob("*")):
        if path.suffix in _READ_SUFFIXES and path.is_file():
            with path.open("rb") as file:
                contents = hashlib.file_digest(file, "blake2b").digest()
            whole.update(path.relative_to(folder).as_posix().encode() + contents)
    return whole.hexdigest()
