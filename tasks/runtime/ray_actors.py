"""Actors on Ray: processes in which the workers of one stage after the other run, and those that wait for the next."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from tasks.runtime.loaded import LoadedModels
from tasks.runtime.process import take_share
from tasks.runtime.ray_cluster import connect  # noqa: F401 - sets what Ray reads from the environment
from tasks.runtime.work import Done, Worker, WorkerRunner, WorkItem

# isort: split

import ray
from ray import ObjectRef

_MAX_IDLE_S = 60.0
"""How long an actor waits for a next stage while others use the cluster."""


@dataclass(frozen=True)
class Size:
    """What an actor reserves."""

    cpus: float
    gpus: float


class _RayWorkerRunner:
    """Runs workers in the process of an actor, within its share of the node."""

    def __init__(self, num_threads: int, has_gpu: bool) -> None:
        take_share(num_threads, has_gpu)
        self._models = LoadedModels()
        self._runner: WorkerRunner | None = None

    def load(self, make_worker: Callable[[], Worker], id_column: str, num_halvings: int) -> str:
        """Make a worker in place of the last one, and return the id of the node."""
        self._runner = None  # its memory first
        runner = WorkerRunner(id_column, num_halvings, self._models)
        runner.load(make_worker)
        self._runner = runner
        return str(ray.get_runtime_context().get_node_id())

    def run(self, rows: pa.Table) -> Done:
        """Map a slice."""
        assert self._runner is not None, "load comes before run"
        return self._runner.run(rows)


@dataclass(eq=False)
class Actor:
    """The pool's record of an actor."""

    handle: Any
    loading: ObjectRef | None
    is_reused: bool = False
    """Whether it has served an earlier stage, and so may have died since."""
    node_id: str = ""
    slices: dict[ObjectRef, WorkItem] = field(default_factory=dict)
    """In flight, in the order in which the actor processes them."""
    since_s: float = 0
    """When the first of them began, by the monotonic clock."""

    @property
    def next_result(self) -> ObjectRef | None:
        """What it finishes next."""
        return self.loading if self.loading is not None else next(iter(self.slices), None)

    @property
    def is_idle(self) -> bool:
        """Whether it has loaded and has nothing to do."""
        return self.loading is None and not self.slices


class IdleActors:
    """Actors that have finished a stage, and keep their models until the next stage takes them."""

    def __init__(self) -> None:
        self._idle: list[tuple[Size, Any, float]] = []

    def __len__(self) -> int:
        return len(self._idle)

    def put(self, size: Size, handle: Any) -> None:
        """Keep an actor."""
        self._idle.append((size, handle, time.monotonic()))

    def take(self, size: Size) -> Any | None:
        """An actor of a size, if there is one."""
        for index, (own, handle, _) in enumerate(self._idle):
            if own == size:
                del self._idle[index]
                return handle
        return None

    def release(self, size: Size | None = None) -> None:
        """End the actors of other sizes, and those that have waited for long; without a size all."""
        earliest_s = time.monotonic() - _MAX_IDLE_S
        kept = [one for one in self._idle if one[0] == size and one[2] >= earliest_s]
        ended = [one for one in self._idle if one not in kept]
        self._idle = kept
        for _, handle, _ in ended:
            ray.kill(handle)

    def release_gpus(self) -> None:
        """End the actors that hold GPUs."""
        ended = [handle for size, handle, _ in self._idle if size.gpus]
        self._idle = [one for one in self._idle if not one[0].gpus]
        for handle in ended:
            ray.kill(handle)


def start_actor(size: Size, num_threads: int) -> Any:
    """A new actor; it starts once the cluster has room for it."""
    runner_class = ray.remote(num_cpus=size.cpus, num_gpus=size.gpus, max_restarts=0, max_task_retries=0)(
        _RayWorkerRunner
    )
    return runner_class.remote(num_threads, size.gpus > 0)
