"""The process of a worker: its threads, its GPUs, and what it says when a model does not fit into them."""

import os
import sys

from aai.errors import AaiError, BadConfig, Transient

_GIB = 2**30
_MAX_TAKEN = 0.1
"""Share of a GPU's memory that others may hold before they count as the cause of a shortage."""
_OTHERS_REMEDY = "end them, or set pool.gpus_per_worker to 1 where workers share a GPU"

OUT_OF_MEMORY = "OutOfMemoryError"
_NO_MEMORY_OF = frozenset([OUT_OF_MEMORY, "MemoryError"])
_CUDA_FAILED = "AcceleratorError"
_NO_MEMORY_OF_CPU = "DefaultCPUAllocator"
"""What torch's error, a `RuntimeError`, names when the memory of the machine is short."""
_SHORTAGES = (_NO_MEMORY_OF_CPU, "out of memory", "_ALLOC_FAILED")
"""What the messages of errors say: the last is of cuBLAS, cuFFT and cuDNN."""


class GpuFailed(Transient):
    """A process that can no longer use its GPU; another one may."""


def take_share(num_threads: int, has_gpu: bool) -> None:
    """Limit this process to its share; called before it imports torch, which reads these variables.

    Ray leaves all GPUs visible to an actor that was given none.
    """
    os.environ["OMP_NUM_THREADS"] = str(num_threads)
    if not has_gpu:
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
    torch = sys.modules.get("torch")
    if torch is not None:
        torch.set_num_threads(num_threads)


def num_threads() -> int:
    """Threads for reading, decoding and encoding in this process: its share of the CPUs, or all of them."""
    share = os.environ.get("OMP_NUM_THREADS", "")
    return int(share) if share.isdigit() and int(share) else os.cpu_count() or 1


def is_out_of_memory(error: BaseException | None) -> bool:
    """Whether memory was short, of a GPU or of the machine. Torch's error is recognised by name: it may not be here.

    Only PyTorch's own allocator raises that; CUDA, its libraries, Triton and FAISS raise errors that say it.
    """
    is_named = any(kind.__name__ in _NO_MEMORY_OF for kind in type(error).__mro__)
    return is_named or (isinstance(error, RuntimeError) and any(phrase in str(error) for phrase in _SHORTAGES))


def is_gpu_failure(error: BaseException | None) -> bool:
    """Whether CUDA failed, which it goes on to do in this process: a fault of the GPU, or a wrong access of memory."""
    return any(kind.__name__ == _CUDA_FAILED for kind in type(error).__mro__) and not is_out_of_memory(error)


def gpu_failed(error: BaseException) -> GpuFailed:
    """The error of a GPU that failed."""
    said = str(error).strip().split("\n", 1)[0]  # advice for developers follows
    return GpuFailed(f"the GPU of a worker failed ({said}): look at what `nvidia-smi` and the machine's log say of it")


def no_room_for_model(error: BaseException) -> AaiError:
    """The error of a model that does not fit into memory: others' fault, which may pass, or the configuration's."""
    torch = sys.modules.get("torch")
    is_of_machine = isinstance(error, MemoryError) or _NO_MEMORY_OF_CPU in str(error)
    if is_of_machine or torch is None or not torch.cuda.is_available():
        sentence = "the model does not fit into memory: use a larger machine, or fewer workers (pool.num_workers)"
        return BadConfig(sentence, key="models")
    try:
        free, total = torch.cuda.mem_get_info()
    except RuntimeError:  # there is no room for the process itself
        return Transient(f"the memory of the GPU is taken by other processes: {_OTHERS_REMEDY}")
    taken = total - free - torch.cuda.memory_reserved()
    if taken > _MAX_TAKEN * total:
        return Transient(
            f"{taken / _GIB:.1f} of {total / _GIB:.1f} GiB of GPU memory are taken by other processes, and the model "
            f"does not fit into the rest: {_OTHERS_REMEDY}"
        )
    return BadConfig(
        f"the model does not fit into the {total / _GIB:.1f} GiB of GPU memory: use a larger GPU, or set models.dtype "
        "to bfloat16",
        key="models",
    )
