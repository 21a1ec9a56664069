"""Loading of frozen models from safetensors, shared by all adapters."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from safetensors import SafetensorError
from transformers.utils import logging as transformers_logging

from aai.errors import BadConfig


def load_frozen(
    kind: Any,
    name: str | Path,
    revision: str | None,
    dtype: torch.dtype,
    subfolder: str | None = None,
    allow_bin: bool = False,
) -> Any:
    """A model in evaluation mode, on the CPU, without gradients; all its parameters come from safetensors.

    `kind` is a model class of transformers or diffusers. Some published checkpoints have no safetensors: with
    `allow_bin`, `pytorch_model.bin` is the fallback, loaded with `weights_only`, which unpickles tensors alone (D13).

    Raises:
        BadConfig: there is no such model, it has no safetensors, or these lack parameters.
    """
    transformers_logging.disable_progress_bar()
    options = {"revision": revision, "dtype": dtype, "output_loading_info": True}
    if subfolder is not None:
        options["subfolder"] = subfolder
    with load_errors(kind, name):
        try:
            model, info = kind.from_pretrained(name, use_safetensors=True, **options)
        except OSError:
            if not allow_bin:
                raise
            model, info = kind.from_pretrained(name, use_safetensors=False, weights_only=True, **options)
    missing = {key for key, _ in model.named_parameters()} & set(info["missing_keys"])
    if missing:
        raise BadConfig(
            f"the {kind.__name__} lacks {len(missing)} parameters, {min(missing)} among them: its weights and "
            "config.json do not match: download it again",
            uri=str(name),
        )
    return model.requires_grad_(False).eval()


@contextmanager
def load_errors(kind: type, name: str | Path) -> Iterator[None]:
    """Context manager: translate loading errors of transformers and diffusers.

    Raises:
        BadConfig: a file is missing or damaged, files do not match, or the hub does not answer.
    """
    try:
        yield
    except (OSError, ValueError, SafetensorError, UnpicklingError) as error:
        raise BadConfig(f"no {kind.__name__}, with safetensors, can be loaded: {error}", uri=str(name)) from error
