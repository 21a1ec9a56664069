"""What the adapters have in common: loading a model frozen and whole."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from safetensors import SafetensorError
from transformers.utils import logging as transformers_logging

from aai.errors import BadConfig
from aai.models.onednn import keep_memory, use_onednn


def load_frozen(  # noqa: PLR0913
    kind: Any,
    name: str | Path,
    revision: str | None,
    dtype: torch.dtype,
    folder: str | None = None,
    or_tensors_in_bin: bool = False,
) -> Any:
    """A model for evaluation, on the CPU, all of whose parameters came from its safetensors.

    `kind` is a model class of transformers or diffusers, `folder` the place of the model within a pipeline. Where a
    model of renown has no safetensors, `or_tensors_in_bin` takes `pytorch_model.bin` as well, read with `weights_only`:
    tensors alone, no other pickled object (D13).

    Raises:
        BadConfig: there is no such model, it has no safetensors, or these lack parameters.
    """
    transformers_logging.disable_progress_bar()
    inside = {} if folder is None else {"subfolder": folder}
    asked = {"revision": revision, "dtype": dtype, "output_loading_info": True, **inside}
    with loading(kind, name):
        try:
            model, info = kind.from_pretrained(name, use_safetensors=True, **asked)
        except OSError:
            if not or_tensors_in_bin:
                raise
            model, info = kind.from_pretrained(name, use_safetensors=False, weights_only=True, **asked)
    lacking = {key for key, _ in model.named_parameters()} & set(info["missing_keys"])
    if lacking:
        raise BadConfig(f"{name}: no whole {kind.__name__}: {len(lacking)} parameters are missing: {min(lacking)} ...")
    keep_memory()
    use_onednn(model)
    return model.requires_grad_(False).eval()


@contextmanager
def loading(kind: type, name: str | Path) -> Iterator[None]:
    """Say what could not be loaded, and from where.

    Raises:
        BadConfig: a file is missing or damaged, files do not fit each other, or the hub does not answer.
    """
    try:
        yield
    except (OSError, ValueError, SafetensorError, UnpicklingError) as error:
        raise BadConfig(f"{name}: no {kind.__name__}, with safetensors, can be loaded from there: {error}") from error
