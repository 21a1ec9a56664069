"""Loading of frozen models from safetensors, shared by all adapters."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from transformers.utils import logging as transformers_logging

from aai.errors import AaiError, BadConfig
from aai.models.folders import BOUNDS
from aai.models.hub import use_hub
from aai.pretrained import check_finite

_MAX_SAID = 300


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
        BadConfig: there is no such model, it has no safetensors, these lack weights or have more layers than the
            configuration says, or a weight is not finite in this type.
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
    _check_complete(model, info, str(name))
    remedy = "download the model again" if dtype == torch.float32 else "set models.dtype to float32, or download again"
    check_finite(model, str(name), f"as {str(dtype).removeprefix('torch.')}: {remedy}", BOUNDS)
    return model.requires_grad_(False).eval()


def _check_complete(model: torch.nn.Module, info: dict[str, Any], uri: str) -> None:
    """Check that weights and configuration match; from_pretrained makes weights up that are missing.

    Raises:
        BadConfig: weights are missing, or there are more layers of some kind than the configuration says.
    """
    own = {name for name, weight in model.state_dict().items() if weight.is_floating_point()}
    again = "its weights and config.json do not match: download it again"
    kind = type(model).__name__
    if missing := own & set(info["missing_keys"]):
        raise BadConfig(f"the {kind} lacks {len(missing)} parameters, {min(missing)} among them: {again}", uri=uri)
    kinds = {_without_numbers(name) for name in own}
    if further := [name for name in info["unexpected_keys"] if _without_numbers(name) in kinds]:
        raise BadConfig(f"the {kind} has {len(further)} further weights, as {min(further)}: {again}", uri=uri)


def _without_numbers(name: str) -> str:
    """The name of a weight in any layer: some published files hold weights that no version of the model has."""
    return re.sub(r"\d+", "", name)


@contextmanager
def load_errors(kind: type, name: str | Path) -> Iterator[None]:
    """Context manager: translate loading errors of transformers and diffusers.

    Raises:
        BadConfig: a file is missing or damaged, files do not match, or the hub does not answer.
    """
    use_hub(name)
    try:
        yield
    except (AaiError, MemoryError):
        raise
    except Exception as error:  # of any class: these libraries check little of what is in the files
        said = " ".join(str(error).split())[:_MAX_SAID]
        raise BadConfig(
            f"no {kind.__name__}, with safetensors, can be loaded ({type(error).__name__}: {said})", uri=str(name)
        ) from error
