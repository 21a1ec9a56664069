"""A pretended GPU: tensors of the device `gpu` are computed on the CPU, and what CUDA refuses is refused.

PyTorch's device for others' backends gets one in Python. Operations between tensors of different devices, from CPU
generators for tensors of the GPU, and conversions to numpy fail as they do with CUDA. PyTorch starts its threads for
devices with the first gradient, so that a process has to call `use_gpu` before that.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map
from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

NAME = "gpu"
_CPU = torch.device("cpu")
_aten = torch.ops.aten

_ANY_DEVICES = {
    _aten._has_compatible_shallow_copy_type,
    _aten._local_scalar_dense,
    _aten._to_copy,
    _aten.copy_,
    _aten.index,
    _aten.index_put,
    _aten.index_put_,
    _aten.to,
    _aten._index_put_impl_,
    _aten._unsafe_index,
}
"""What CUDA computes although some tensors are on the CPU: copies, and indices, which it copies."""


@contextmanager
def use_gpu() -> Iterator[torch.device]:
    """Context manager: inside, the device exists; in other threads no tensors can be made on it."""
    device = _device()
    with _Gpu():
        yield device


@cache
def _device() -> torch.device:
    _setup_privateuseone_for_python_backend(NAME)
    torch.__future__.set_overwrite_module_params_on_conversion(True)  # the inner tensors change, too
    for name, kernel in _KERNELS.items():
        _LIBRARY.impl(name, kernel, "PrivateUse1")
    return torch.device(NAME, 0)


class _OnGpu(torch.Tensor):
    """A tensor that says it is on the GPU; `inner` has its numbers."""

    inner: torch.Tensor

    @staticmethod
    def __new__(cls, inner: torch.Tensor) -> "_OnGpu":
        with torch.inference_mode(False):  # PyTorch cannot make inference tensors views of those in Python
            own = torch.Tensor._make_wrapper_subclass(
                cls, inner.size(), inner.stride(), inner.storage_offset(), dtype=inner.dtype, device=_device()
            )
        own.inner = inner
        return own

    def __repr__(self) -> str:  # type: ignore[override]
        return f"{NAME}: {self.inner!r}"

    def tolist(self) -> Any:
        """Python's numbers; PyTorch has none for subclasses."""
        return self.inner.tolist()

    __torch_function__ = torch._C._disabled_torch_function_impl

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(func, args, kwargs or {})


class _Gpu(TorchDispatchMode):
    """Sends to the GPU what makes tensors there."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(func, args, kwargs or {})


def _run(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    leaves = tree_leaves((args, kwargs))
    tensors = [leaf for leaf in leaves if isinstance(leaf, torch.Tensor)]
    on_gpu = [tensor for tensor in tensors if isinstance(tensor, _OnGpu)]
    target = _target(func, args, leaves, bool(on_gpu))
    _check(func, tensors, bool(on_gpu), target, leaves)
    wrappers = {id(tensor.inner): tensor for tensor in on_gpu}
    result = func(*tree_map(_unwrapped, args), **tree_map(_unwrapped, kwargs))
    if target.type != NAME:
        return result
    return tree_map(lambda each: _wrapped(each, wrappers) if isinstance(each, torch.Tensor) else each, result)


def _target(func: Any, args: Any, leaves: list[Any], has_gpu: bool) -> torch.device:
    """The device of what an operation returns."""
    if func is _aten.to.other:
        return args[1].device
    return next((leaf for leaf in leaves if isinstance(leaf, torch.device)), _device() if has_gpu else _CPU)


def _is_gpu(device: Any) -> bool:
    return torch.device(device).type == NAME


def _unwrapped(leaf: Any) -> Any:
    if isinstance(leaf, _OnGpu):
        return leaf.inner
    return _CPU if isinstance(leaf, torch.device) and _is_gpu(leaf) else leaf


def _wrapped(result: torch.Tensor, wrappers: dict[int, _OnGpu]) -> _OnGpu:
    """The tensor that an operation returned; one that it changed in place is itself."""
    own = wrappers.get(id(result))
    return own if own is not None else _OnGpu(result)


def _check(func: Any, tensors: list[torch.Tensor], has_gpu: bool, target: torch.device, leaves: list[Any]) -> None:
    """Refuse what CUDA refuses.

    Raises:
        RuntimeError: an operation is on two devices.
    """
    for leaf in leaves:
        if isinstance(leaf, torch.Generator) and target.type == NAME:
            raise RuntimeError(f"{func}: expected a '{target}' generator but found '{leaf.device}'")
    if not has_gpu or func.overloadpacket in _ANY_DEVICES:
        return
    is_pointwise = torch.Tag.pointwise in func.tags
    for tensor in tensors:
        if not isinstance(tensor, _OnGpu) and not (is_pointwise and tensor.dim() == 0):
            raise RuntimeError(f"{func}: expected all tensors on one device, found {target} and {tensor.device}")


def _empty(
    size: Any, stride: Any, dtype: Any = None, layout: Any = None, device: Any = None, pin_memory: Any = None
) -> Any:
    return _OnGpu(torch.empty_strided(size, stride, dtype=dtype))


def _copied(self: _OnGpu, source: torch.Tensor, non_blocking: bool = False) -> _OnGpu:
    self.inner.copy_(_unwrapped(source))
    return self


_LIBRARY = torch.library.Library("aten", "IMPL")
_KERNELS = {"empty_strided": _empty, "copy_": _copied}
"""What PyTorch calls past all modes, for tensors of Python's numbers."""
