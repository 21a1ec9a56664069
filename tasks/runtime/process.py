"""The process of a worker: its threads, its GPUs, and what it says when a model does not fit into them."""

import os
import sys

from aai.errors import AaiError, BadConfig, Transient

_GIB = 2**30
_MAX_TAKEN = 0.1
"""Share of a GPU's memory that others may hold before they count as the cause of a shortage."""


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


def no_room_for_model() -> AaiError:
    """The error of a model that does not fit into memory: others' fault, which may pass, or the configuration's."""
    free, total, own = _gpu_memory()
    taken = total - free - own
    if not total:
        sentence = "the model does not fit into memory: use a larger machine, or fewer workers (pool.num_workers)"
        return BadConfig(sentence, key="models")
    if taken > _MAX_TAKEN * total:
        return Transient(
            f"{taken / _GIB:.1f} of {total / _GIB:.1f} GiB of GPU memory are taken by other processes, and the model "
            "does not fit into the rest: end them, or set pool.gpus_per_worker to 1 where workers share a GPU"
        )
    return BadConfig(
        f"the model does not fit into the {total / _GIB:.1f} GiB of GPU memory: use a larger GPU, or set models.dtype "
        "to bfloat16",
        key="models",
    )


def _gpu_memory() -> tuple[int, int, int]:
    """Free memory of the GPU, all of it, and what this process holds, in bytes; zeros without a GPU."""
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_initialized():
        return 0, 0, 0
    free, total = torch.cuda.mem_get_info()
    return free, total, torch.cuda.memory_reserved()
