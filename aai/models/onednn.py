"""What makes models quick on a processor, with the same numbers: memory that is kept, and products by oneDNN."""

import ctypes
from functools import cache

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD = -1, -2, -3
"""Names of glibc's malloc.h."""

_KEPT_BYTES, _AHEAD_BYTES = 2**30, 2**26
_OLD_LIMIT_BYTES = 2**25
"""The largest threshold that older versions of glibc take."""


@cache
def keep_memory() -> bool:
    """Have freed memory, up to a gibibyte, serve again instead of going back to the system; whether that was possible.

    Tensors of some megabytes are otherwise given back at once, and every page of the next one is cleared by the
    system: about a fifth of a small UNet's time. Only glibc has this setting.
    """
    change = getattr(ctypes.CDLL(None), "mallopt", None)
    if change is None:
        return False
    mapped = change(_MMAP_THRESHOLD, _KEPT_BYTES) or change(_MMAP_THRESHOLD, _OLD_LIMIT_BYTES)
    return bool(mapped and change(_TRIM_THRESHOLD, _KEPT_BYTES) and change(_TOP_PAD, _AHEAD_BYTES))


class OneDnnLinear(nn.Linear):
    """A linear layer that a processor computes with oneDNN, bias included, where no gradient is asked for.

    PyTorch calls another library, which knows some processors' instructions less well, and copies the bias first.
    """

    def forward(self, input: Float[Tensor, "*rows inputs"]) -> Float[Tensor, "*rows outputs"]:  # noqa: A002
        """As `nn.Linear`, up to rounding."""
        plain = input.device.type == "cpu" and input.dtype == torch.float32 and not torch.is_autocast_enabled("cpu")
        if torch.is_grad_enabled() or not plain:
            return F.linear(input, self.weight, self.bias)
        return torch.ops.mkldnn._linear_pointwise(input, self.weight, self.bias, "none", [], "")


def use_onednn(model: nn.Module) -> None:
    """Make a frozen model's linear layers such, where PyTorch was built with oneDNN; weights and their names stay."""
    if not (torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")):
        return
    for layer in model.modules():
        if type(layer) is nn.Linear:
            layer.__class__ = OneDnnLinear
