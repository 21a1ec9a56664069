"""Memory that is free on a device, and what a piece of work takes: how many items to compute at once follows from both.

The sizes are estimated from the model's configuration, then measured on a small first batch; nothing is found out by
running out of memory.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
import torch

_CGROUP = Path("/sys/fs/cgroup")
_LIMITS = (
    ("memory.max", "memory.current", "memory.stat"),
    ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes", "memory/memory.stat"),
)
"""Files of a container's limit, of what it uses, and of what that consists of, in both versions of cgroups."""


def free_bytes(device: torch.device, share: float = 1.0) -> int:
    """Bytes that can be allocated on a device, those included that torch holds and does not use.

    A limit counts that was set with `torch.cuda.set_per_process_memory_fraction`, or for the container.

    Args:
        device: a GPU or the CPU.
        share: the part that is this process's own: of all memory of a GPU, of the free memory on a CPU.
    """
    if device.type != "cuda":
        return int(share * min(psutil.virtual_memory().available, _left_in_container()))
    free, total = torch.cuda.mem_get_info(device)
    allocated = torch.cuda.memory_allocated(device)
    limit = int(min(share, torch.cuda.get_per_process_memory_fraction(device)) * total)
    return max(0, min(free + torch.cuda.memory_reserved(device), limit) - allocated)


def _left_in_container(folder: Path = _CGROUP) -> int:
    """Bytes until the memory limit of the container; very many without a limit. Cached files can be dropped."""
    for names in _LIMITS:
        try:
            limit, used, parts = ((folder / name).read_text() for name in names)
            cached = dict(line.split() for line in parts.splitlines()).get("inactive_file", 0)
            return int(limit) - int(used) + int(cached)
        except (OSError, ValueError):  # no such file, or "max"
            continue
    return 2**63


@dataclass
class Peak:
    """What a block of code took."""

    num_bytes: int = 0
    """The most that was allocated at a time, beyond what was allocated before; 0 where that cannot be measured."""


@contextmanager
def peak_memory(device: torch.device) -> Iterator[Peak]:
    """Context manager: measures the memory of a GPU that the block takes at most."""
    peak = Peak()
    if device.type != "cuda":
        yield peak
        return
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    yield peak
    peak.num_bytes = max(0, torch.cuda.max_memory_allocated(device) - before)
