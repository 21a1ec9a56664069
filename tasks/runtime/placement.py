"""Where a stage runs: how many workers, and the GPUs and CPUs of each.

A stage that runs a model takes one GPU for each worker wherever there are GPUs, with its share of the node's CPUs as
threads for reading and decoding; other stages take one CPU for each worker. Options of `pool` and `pools` come first.
"""

import ctypes
import os
from collections.abc import Sequence
from dataclasses import dataclass

from aai.errors import BadConfig
from tasks.runtime.options import PoolOptions, SubmitOptions

_TOLERANCE = 1e-9  # of quotients: Ray counts in ten-thousandths


@dataclass(frozen=True)
class Node:
    """A machine of a cluster, or one that the cluster's autoscaler can start."""

    cpus: float
    gpus: float = 0

    def room(self, cpus: float, gpus: float) -> int:
        """How many workers it has room for."""
        by_cpus = self.cpus / cpus
        return int(min(by_cpus, self.gpus / gpus if gpus else by_cpus) + _TOLERANCE)


@dataclass(frozen=True)
class Placement:
    """The workers of a stage."""

    num_workers: int
    """At most; fewer where there are fewer slices."""
    cpus: float
    """CPUs of each worker."""
    gpus: float
    """GPUs of each worker."""
    num_nodes: int
    """Nodes with room for a worker."""

    @property
    def num_threads(self) -> int:
        """Threads of each worker."""
        return max(1, int(self.cpus))

    def __str__(self) -> str:
        each = _count(self.cpus, "CPU")
        if self.gpus:
            each = f"{_count(self.gpus, 'GPU')} and {each}"
        return f"up to {_count(self.num_workers, 'worker')} of {each} on {_count(self.num_nodes, 'node')}"


def place(options: PoolOptions, has_model: bool, nodes: Sequence[Node]) -> Placement:
    """The workers that a stage gets; one CPU of the cluster stays free unless it has only one.

    Raises:
        BadConfig: no node is large enough for one worker.
    """
    gpus = options.gpus_per_worker
    if gpus is None:
        gpus = 1.0 if has_model and any(node.gpus >= 1 for node in nodes) else 0.0
    cpus = options.cpus_per_worker or _share(nodes, gpus)
    room = [node.room(cpus, gpus) for node in nodes]
    if not any(room):
        raise _too_large(cpus, gpus, nodes)
    num = max(1, min(sum(room), int((sum(node.cpus for node in nodes) - 1) / cpus + _TOLERANCE)))
    if options.num_workers is not None:
        num = min(num, options.num_workers)
    return Placement(num, cpus, gpus, min(num, sum(map(bool, room))))


def nodes_to_come(options: SubmitOptions) -> list[Node]:
    """The nodes that an autoscaler can start, if the section `submit` says so."""
    named = options.model_fields_set & {"nodes", "cpus", "gpus"}
    return [Node(options.cpus, options.gpus)] * options.nodes if named else []


def this_machine() -> Node:
    """The CPUs of this machine, and the GPUs that this process may use; neither torch nor Ray is imported."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    num_gpus = _num_gpus()
    if visible is not None:
        num_gpus = min(num_gpus, len([name for name in visible.split(",") if name.strip() not in ("", "-1")]))
    return Node(os.cpu_count() or 1, num_gpus)


def _share(nodes: Sequence[Node], gpus: float) -> float:
    """CPUs for a worker: one, or with GPUs an equal share of the node, of which one CPU stays free."""
    shares = [(node.cpus - 1) / int(node.gpus / gpus) for node in nodes if gpus and node.cpus and node.gpus >= gpus]
    share = min(shares, default=1.0)
    if share >= 1:
        return float(int(share))
    return share or 1.0  # a node of one CPU gives it away


def _too_large(cpus: float, gpus: float, nodes: Sequence[Node]) -> BadConfig:
    """What no node has."""
    most_gpus = max((node.gpus for node in nodes), default=0)
    key, found = "pool.cpus_per_worker", "which no node has"
    if gpus > most_gpus:
        key, found = "pool.gpus_per_worker", f"and no node has more than {_count(most_gpus, 'GPU')}"
    return BadConfig(
        f"each worker asks for {_count(cpus, 'CPU')} and {_count(gpus, 'GPU')}, {found}: ask for less, or use a larger "
        "cluster; if its autoscaler starts nodes, set submit.nodes, submit.cpus and submit.gpus to what it can start",
        key=key,
    )


def _num_gpus() -> int:
    """NVIDIA GPUs of this machine, by the driver's library; 0 where there is none."""
    try:
        library = ctypes.CDLL("libnvidia-ml.so.1")
    except OSError:
        return 0
    num = ctypes.c_uint()
    is_known = library.nvmlInit_v2() == 0 and library.nvmlDeviceGetCount_v2(ctypes.byref(num)) == 0
    return num.value if is_known else 0


def _count(num: float, what: str) -> str:
    return f"{num:g} {what}" if num == 1 else f"{num:g} {what}s"
