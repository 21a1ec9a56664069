"""What the adapters have in common: naming a model for a recipe, and loading it frozen and whole."""

import hashlib
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors import SafetensorError
from transformers import PreTrainedModel
from transformers.utils import logging as transformers_logging

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


def load_frozen(
    kind: type[PreTrainedModel], name: str | Path, revision: str | None, dtype: torch.dtype
) -> PreTrainedModel:
    """A model for evaluation, on the CPU, all of whose parameters came from its safetensors.

    Raises:
        BadConfig: there is no such model, it has no safetensors, or these lack parameters.
    """
    transformers_logging.disable_progress_bar()
    with loading(kind, name):
        model, info = kind.from_pretrained(
            name, revision=revision, dtype=dtype, use_safetensors=True, output_loading_info=True
        )
    lacking = {key for key, _ in model.named_parameters()} & set(info["missing_keys"])
    if lacking:
        raise BadConfig(f"{name}: no whole {kind.__name__}: {len(lacking)} parameters are missing: {min(lacking)} ...")
    return model.requires_grad_(False).eval()


@contextmanager
def loading(kind: type, name: str | Path) -> Iterator[None]:
    """Say what could not be loaded, and from where.

    Raises:
        BadConfig: a file is missing or damaged, or the hub does not answer.
    """
    try:
        yield
    except (OSError, SafetensorError) as error:
        raise BadConfig(f"{name}: no {kind.__name__}, with safetensors, can be loaded from there: {error}") from error


def _digest(folder: Path) -> str:
    """A digest of the files of a folder that `from_pretrained` may read."""
    whole = hashlib.blake2b(digest_size=_DIGEST_BYTES)
    for path in sorted(folder.iterdir()):
        if path.suffix in _READ_SUFFIXES:
            with path.open("rb") as file:
                whole.update(path.name.encode() + hashlib.file_digest(file, "blake2b").digest())
    return whole.hexdigest()
