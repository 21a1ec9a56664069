"""Faster passes of the UNet: compiled blocks, channels-last convolutions, and the order of attention kernels.

Blocks are compiled one by one ("regional compilation"): blocks with weights of the same shapes share one graph, so it
takes less time than compiling the whole UNet. The batch size is symbolic in the graphs: a batch of another size does
not compile again; other picture sizes do.
"""

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from aai.errors import Transient

_BLOCKS = ("ResnetBlock2D", "Transformer2DModel")
"""Classes of diffusers that make up nearly all of a UNet's time."""

_MAX_GRAPHS = 64
"""Graphs per class of blocks. Stable Diffusion has 14 shapes of residual blocks, each with and without gradients; by
default torch gives up after 8."""

_ATTENTION = [
    SDPBackend.CUDNN_ATTENTION,
    SDPBackend.FLASH_ATTENTION,
    SDPBackend.EFFICIENT_ATTENTION,
    SDPBackend.MATH,
]

_OF_CUDNN = "cudnn_frontend"
"""In errors of cuDNN's attention, as "No execution plans support the graph"; PyTorch tries no other kernel then."""

_cudnn_faults: list[str] = []
"""What cuDNN's attention said when it failed in this process."""

_PAYS_AFTER_S = 120.0
"""`auto`: seconds of work before compiling. Nobody knows how much is left; as much again would make up for it."""

_NAME = "the text-to-image model"

Compile = Literal["auto"] | bool

_log = logging.getLogger(__name__)


class UnetSpeed:
    """Compiles a UNet when that pays. It belongs to the model, so its stages share the seconds and the graphs.

    Args:
        unet: the frozen model.
        device: where it is.
        compile: whether to compile it: at the first work, never, or (`auto`) on a GPU after two minutes of work.
        name: what messages call it.
    """

    def __init__(self, unet: nn.Module, device: torch.device, compile: Compile = False, name: str = _NAME) -> None:
        self.unet, self.device, self.compile, self.name = unet, device, compile, name
        self.worked_s = 0.0
        self.is_settled = False
        """Whether it was compiled, or that was tried."""

    @contextmanager
    def work(self, trial: Callable[[], object]) -> Iterator[None]:
        """Context manager around the work on a slice, which counts its seconds.

        Args:
            trial: as of `prepare_unet`.
        """
        with fastest_attention(self.device):  # compiling chooses kernels for good
            if self._is_due():
                self.is_settled = True
                self._prepare(trial)
            start_s = time.monotonic()
            try:
                yield
            finally:
                self.worked_s += time.monotonic() - start_s

    def _prepare(self, trial: Callable[[], object]) -> None:
        try:
            prepare_unet(self.unet, self.device, True, trial, self.name)
        except RuntimeError as error:
            self.is_settled = _OF_CUDNN not in str(error)  # once more without cuDNN's attention
            raise

    @contextmanager
    def eager(self) -> Iterator[None]:
        """Context manager: inside, the model runs as it is, for work that would compile again and again."""
        if not any("forward" in block.__dict__ for block in _blocks(self.unet)):
            yield  # importing torch's compiler takes seconds
            return
        with torch.compiler.set_stance("force_eager"):
            yield

    def _is_due(self) -> bool:
        if self.is_settled or self.compile is False:
            return False
        return self.compile is True or (self.device.type == "cuda" and self.worked_s >= _PAYS_AFTER_S)


def prepare_unet(
    unet: nn.Module,
    device: torch.device,
    compile: bool,
    trial: Callable[[], object] | None = None,
    name: str = _NAME,
) -> bool:
    """Compile the UNet's blocks, or undo that; true if they are compiled now.

    Channels-last goes with compiling: without it the many layout copies around it cost more than it gains.

    Args:
        unet: the frozen model; its weights stay the same.
        device: where it is.
        compile: whether to compile it.
        trial: runs a few passes as they will be, so that compiling happens now. If it fails, the blocks are as before.
        name: what messages call it.
    """
    for block in _blocks(unet):
        block.__dict__.pop("forward", None)  # an instance's attribute hides the method of its class
    layout = torch.channels_last if compile and device.type == "cuda" else torch.contiguous_format
    unet.to(memory_format=layout)  # type: ignore[call-overload]
    return compile and (_compile(unet, trial, name) or prepare_unet(unet, device, compile=False))


@contextmanager
def fastest_attention(device: torch.device) -> Iterator[None]:
    """Inside, cuDNN's attention comes first on GPUs of compute capability 9 (Hopper), where it is the fastest.

    Raises:
        Transient: cuDNN found no way to compute it; this process does without it from now on.
    """
    if _cudnn_faults or device.type != "cuda" or torch.cuda.get_device_capability(device)[0] != 9:
        yield
        return
    try:
        with sdpa_kernel(_ATTENTION, set_priority=True):
            yield
    except RuntimeError as error:
        if _OF_CUDNN not in str(error):
            raise
        _cudnn_faults.append(str(error).split("\n")[0])
        _log.warning("attention is computed without cuDNN from now on: %s", _cudnn_faults[0])
        raise Transient(f"cuDNN's attention failed ({_cudnn_faults[0]})") from error.with_traceback(None)


def _blocks(unet: nn.Module) -> list[nn.Module]:
    return [module for module in unet.modules() if type(module).__name__ in _BLOCKS]


def _compiled(forward: Callable[..., Any]) -> Callable[..., Any]:
    """A block's `forward`, compiled for any batch size of at least 2; torch would compile a single row once more."""
    torch._dynamo.config.recompile_limit = max(torch._dynamo.config.recompile_limit, _MAX_GRAPHS)
    compiled = torch.compile(forward)

    def run(hidden: Tensor, *args: Any, **kwargs: Any) -> Any:
        if len(hidden) == 1:
            return forward(hidden, *args, **kwargs)
        for tensor in (hidden, *args, *kwargs.values()):
            if isinstance(tensor, Tensor) and tensor.dim() > 1 and len(tensor) == len(hidden):
                torch._dynamo.mark_dynamic(tensor, 0)
                torch._dynamo.mark_static(tensor, list(range(1, tensor.dim())))
        return compiled(hidden, *args, **kwargs)

    return run


def _compile(unet: nn.Module, trial: Callable[[], object] | None, name: str) -> bool:
    """Compile the blocks and run the trial; false where that fails, which is logged."""
    start_s = time.monotonic()
    _log.info("compiling %s: it takes about a minute, once in a process", name)
    try:
        for block in _blocks(unet):
            block.forward = _compiled(block.forward)
        if trial:
            trial()
    except torch.OutOfMemoryError:
        raise
    except (RuntimeError, OSError, ImportError) as error:  # what torch's compilers raise derives from RuntimeError
        if _OF_CUDNN in str(error):
            raise
        reason = " ".join(str(error).split("\n")[:2])  # the first line names the compiler alone
        _log.warning("%s could not be compiled and runs as it is: %s", name, reason)
        return False
    _log.info("%s was compiled in %.0f s", name, time.monotonic() - start_s)
    return True
