"""What the adapters have in common: loading a model frozen and whole."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors import SafetensorError
from transformers import PreTrainedModel
from transformers.utils import logging as transformers_logging

from aai.errors import BadConfig


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
