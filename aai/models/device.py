"""Where models compute, and in which numbers."""

import torch


def best_device() -> torch.device:
    """The GPU that this process may use, or the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def dtype_on(device: torch.device, name: str) -> torch.dtype:
    """The numbers asked for on a GPU; float32 on a CPU, where half precision is slower and less exact."""
    kind = getattr(torch, name) if device.type == "cuda" else torch.float32
    assert isinstance(kind, torch.dtype), name
    return kind
