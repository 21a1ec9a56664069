"""The device that models run on, and their floating-point type."""

from typing import TypeVar

import torch
from torch import nn

from aai.models.onednn import keep_memory, use_onednn

Model = TypeVar("Model", bound=nn.Module)


def best_device() -> torch.device:
    """The first GPU that this process may use, else the CPU. On Ray that is the one its worker was given."""
    return torch.device("cuda:0" if torch.cuda.is_available() else "cpu")


def dtype_named(name: str) -> torch.dtype:
    """A dtype by its name; models compute in it on every device, because it is part of their recipes."""
    dtype = getattr(torch, name)
    assert isinstance(dtype, torch.dtype), name
    return dtype


def to_device(model: Model, device: str | torch.device) -> Model:
    """Move a frozen model; on a CPU its linear layers use oneDNN.

    Freed memory is kept, on a GPU too, for the threads that decode what the model takes.
    """
    keep_memory()
    if torch.device(device).type == "cpu":
        use_onednn(model)
    return model.to(device)
