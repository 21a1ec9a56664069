"""A bounded pool of Ray actors that survives crashed actors and lost nodes.

Ray's own retries are off, because they would run a slice that crashes its actor again and again. The pool replaces dead
actors, and the `Queue` decides what happens to their slices. An actor has one slice in work and the next one queued. It
returns rows and never commits, because an actor on a node that was given up may still be computing.
"""

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from threading import Event
from typing import Any, NoReturn

import pyarrow as pa

from aai.errors import AaiError, BadConfig, Transient
from tasks.runtime.options import PoolOptions
from tasks.runtime.ray_cluster import connect  # sets what Ray reads from the environment when it is imported
from tasks.runtime.work import (
    NO_MEMORY,
    OUT_OF_MEMORY,
    TICK_S,
    Done,
    Queue,
    Worker,
    WorkerRunner,
    WorkItem,
    is_out_of_memory,
)

# isort: split

import ray
from ray import ObjectRef
from ray.exceptions import (
    ActorUnavailableError,
    NodeDiedError,
    ObjectLostError,
    OutOfMemoryError,
    RayActorError,
    RayTaskError,
    WorkerCrashedError,
)

_LOST = (ActorUnavailableError, NodeDiedError, WorkerCrashedError, ObjectLostError)
_DIED = (RayActorError, OutOfMemoryError)

_SLICES_PER_ACTOR = 2  # one in work, one queued
_CENSUS_S = 5.0  # how often nodes are counted


class _RayWorkerRunner(WorkerRunner):
    """A runner that reports its node."""

    def load_here(self, make_worker: Callable[[], Worker]) -> str:
        """Make the worker and return the id of the node."""
        self.load(make_worker)
        return str(ray.get_runtime_context().get_node_id())


@dataclass(eq=False)
class _Actor:
    """The pool's record of an actor."""

    handle: Any
    loading: ObjectRef | None
    node_id: str = ""
    slices: dict[ObjectRef, WorkItem] = field(default_factory=dict)
    """In flight, in the order in which the actor processes them."""
    since_s: float = 0
    """When the first of them began, by the monotonic clock."""


class RayPool:
    """Workers on a cluster: as many as fit, and no more than there are slices.

    With `gpu`, a worker takes a whole GPU by default if the cluster has any.
    """

    def __init__(
        self, make_worker: Callable[[], Worker], id_column: str, options: PoolOptions, gpu: bool = False
    ) -> None:
        connect(options.address)
        options = _with_gpus(options, gpu)
        self._make_worker = make_worker
        self._id_column = id_column
        self._options = options
        self._actors: list[_Actor] = []
        self._num_halvings = 0
        self._num_failed_loads = 0
        self._room = 0
        self._counted_s = 0.0
        self._loading_since_s = time.monotonic()
        self._runner_class = ray.remote(
            num_cpus=options.cpus_per_worker, num_gpus=options.gpus_per_worker or 0, max_restarts=0, max_task_retries=0
        )(_RayWorkerRunner)

    @property
    def num_workers(self) -> int:
        """How many workers the cluster has room for now."""
        return _room(self._options)

    def map(self, slices: Iterable[pa.Table | None], stop: Event) -> Iterator[list[Done]]:
        """Yield what finished since the last time, possibly nothing; ends early, after `grace_s`, once `stop` is set.

        Finished slices stay with their actors until they are collected, so at most two per actor are in memory.

        Raises:
            Transient: a slice failed too often, or no worker came up.
            BadConfig: workers need resources that no node has, or die while they load.
            RayTaskError: the worker has a bug; it holds the traceback.
        """
        queue = Queue(slices, self._id_column, self._options)
        try:
            while not stop.is_set() and (self._is_busy() or queue.waiting(1)):
                self._grow(queue)
                self._feed(queue)
                yield self._collect(queue)
            end_s = time.monotonic() + self._options.grace_s
            while self._is_busy() and time.monotonic() < end_s:
                yield self._collect(queue)
        finally:
            self._close()

    def _is_busy(self) -> bool:
        return any(actor.slices for actor in self._actors)

    def _close(self) -> None:
        for actor in self._actors:
            ray.kill(actor.handle)
        self._actors.clear()

    def _grow(self, queue: Queue) -> None:
        """Start actors where there is room, up to the number of slices."""
        if time.monotonic() - self._counted_s > _CENSUS_S or not self._counted_s:
            self._room = _room(self._options)
            self._counted_s = time.monotonic()
        in_flight = sum(len(actor.slices) for actor in self._actors)
        wanted = min(self._room, in_flight + queue.waiting(self._room))
        if not self._actors:
            self._loading_since_s = time.monotonic()
        while len(self._actors) < wanted:
            handle: Any = self._runner_class.remote(self._id_column, self._num_halvings)
            self._actors.append(_Actor(handle, handle.load_here.remote(self._make_worker)))

    def _feed(self, queue: Queue) -> None:
        """Give each actor that has loaded one slice, then each a second."""
        for depth in range(_SLICES_PER_ACTOR):
            for actor in self._actors:
                if actor.loading is None and len(actor.slices) == depth:
                    item = queue.pop()
                    if item is None:
                        return
                    if not actor.slices:
                        actor.since_s = time.monotonic()
                    actor.slices[actor.handle.run.remote(item.rows)] = item

    def _collect(self, queue: Queue) -> list[Done]:
        refs = [ref for actor in self._actors for ref in (actor.loading, *actor.slices) if ref is not None]
        if not self._is_busy() and queue.due_in_s() and not any(actor.loading for actor in self._actors):
            time.sleep(min(TICK_S, queue.due_in_s()))
        if not refs:
            return []
        ray.wait(refs, timeout=self._patience_s(queue))
        ready, _ = ray.wait(refs, num_returns=len(refs), timeout=0)
        finished: list[Done] = []
        for actor in list(self._actors):
            finished += self._collect_from(actor, set(ready), queue)
        self._check_start()
        return finished

    def _patience_s(self, queue: Queue) -> float:
        """How long to wait for a result before something else is due."""
        times = [TICK_S]
        if self._options.deadline_s:
            ends = [actor.since_s + self._options.deadline_s for actor in self._actors if actor.slices]
            times += [end_s - time.monotonic() for end_s in ends]
        if due_s := queue.due_in_s():
            times.append(due_s)
        return max(0, min(times))

    def _collect_from(self, actor: _Actor, ready: set[ObjectRef], queue: Queue) -> list[Done]:
        if actor.loading in ready:
            self._finish_loading(actor)
        finished: list[Done] = []
        for ref, item in list(actor.slices.items()):
            if ref not in ready or actor not in self._actors:
                break
            finished += self._finish(actor, ref, item, queue)
        if actor in self._actors and self._is_overdue(actor):
            sentence = f"it kept a worker busy for more than {self._options.deadline_s:g} s (deadline_s), twice"
            finished += self._on_crash(actor, queue, "DeadlineExceeded", sentence)
        return finished

    def _finish_loading(self, actor: _Actor) -> None:
        assert actor.loading is not None, "only a loading actor finishes loading"
        try:
            actor.node_id = ray.get(actor.loading)
        except RayTaskError as error:
            if is_out_of_memory(error.cause):
                raise BadConfig(
                    "the model does not fit into memory: use a larger GPU or machine, or set models.dtype to bfloat16",
                    key="models",
                ) from error
            if not isinstance(error, Transient):
                _raise_ours(error)
            self._drop_unloaded(actor, error)
        except (*_LOST, *_DIED) as error:
            self._drop_unloaded(actor, error)
        else:
            actor.loading = None
            self._num_failed_loads = 0

    def _drop_unloaded(self, actor: _Actor, error: Exception) -> None:
        self._actors.remove(actor)
        ray.kill(actor.handle)
        self._num_failed_loads += 1
        if self._num_failed_loads < self._options.max_attempts:
            return
        if isinstance(error, Transient):
            raise Transient(
                f"workers failed to load {self._num_failed_loads} times in a row: {error.sentence}"
            ) from error
        raise BadConfig(
            f"workers died while they loaded, {self._num_failed_loads} times in a row: look at memory, and try fewer",
            key="pool.num_workers",
        ) from error

    def _finish(self, actor: _Actor, ref: ObjectRef, item: WorkItem, queue: Queue) -> list[Done]:
        """Collect a slice from an actor: its result, or the handling of its failure."""
        try:
            done: Done = ray.get(ref)
        except RayTaskError as error:
            self._next(actor, ref)
            return _after_error(item, error, queue)
        except _LOST as error:
            return self._on_node_loss(actor, queue, error)
        except _DIED as error:
            if actor.node_id not in {node["NodeID"] for node in _nodes()}:
                return self._on_node_loss(actor, queue, error)
            return self._on_crash(
                actor, queue, "WorkerDied", "it crashed its worker twice: look at the item and memory"
            )
        self._next(actor, ref)
        self._num_halvings = max(self._num_halvings, done.num_halvings)
        return [done]

    def _next(self, actor: _Actor, ref: ObjectRef) -> None:
        del actor.slices[ref]
        actor.since_s = time.monotonic()

    def _is_overdue(self, actor: _Actor) -> bool:
        limit_s = self._options.deadline_s
        return limit_s is not None and bool(actor.slices) and time.monotonic() - actor.since_s > limit_s

    def _on_crash(self, actor: _Actor, queue: Queue, error: str, sentence: str) -> list[Done]:
        """Drop an actor that crashed on a slice, and bisect that slice."""
        first, *others = self._remove(actor)
        for item in others:
            queue.requeue(item)
        return queue.bisect(first, error, sentence)

    def _on_node_loss(self, actor: _Actor, queue: Queue, error: Exception) -> list[Done]:
        """Drop an actor that was lost with its node, and retry its slice."""
        self._counted_s = 0
        first, *others = self._remove(actor)
        for item in others:
            queue.requeue(item)
        queue.retry_later(first, error)
        return []

    def _remove(self, actor: _Actor) -> list[WorkItem]:
        self._actors.remove(actor)
        ray.kill(actor.handle)
        return list(actor.slices.values())

    def _check_start(self) -> None:
        if any(actor.loading is None for actor in self._actors):
            self._loading_since_s = time.monotonic()
        elif self._actors and time.monotonic() - self._loading_since_s > self._options.start_s:
            raise Transient(
                f"no worker was ready within {self._options.start_s:g} s (start_s): is the cluster busy with others?"
            )


def _after_error(item: WorkItem, error: RayTaskError, queue: Queue) -> list[Done]:
    """Handle an error that a living worker raised on a slice."""
    if isinstance(error, Transient):
        queue.retry_later(item, error)
        return []
    if is_out_of_memory(error.cause):
        return queue.bisect(item, OUT_OF_MEMORY, NO_MEMORY)
    _raise_ours(error)


def _raise_ours(error: RayTaskError) -> NoReturn:
    """Raise our own errors as the worker did; others as Ray's error with the worker's traceback."""
    if isinstance(error.cause, AaiError):
        raise error.cause from error
    raise error


def _nodes() -> list[dict[str, Any]]:
    return [node for node in ray.nodes() if node["Alive"]]


def _room(options: PoolOptions) -> int:
    """How many workers fit; one CPU of the cluster stays free unless it has only one.

    Raises:
        BadConfig: no node is large enough for one.
    """
    resources = [node["Resources"] for node in _nodes()]
    num_fitting = 0
    for node in resources:
        by_cpus = node.get("CPU", 0) // options.cpus_per_worker
        by_gpus = node.get("GPU", 0) // options.gpus_per_worker if options.gpus_per_worker else by_cpus
        num_fitting += int(min(by_cpus, by_gpus))
    if not num_fitting:
        raise BadConfig(
            f"no node has {options.cpus_per_worker:g} CPUs and {options.gpus_per_worker or 0:g} GPUs: "
            "ask for less, or use a larger cluster",
            key="pool.cpus_per_worker, pool.gpus_per_worker",
        )
    num_cpus = sum(node.get("CPU", 0) for node in resources)
    num_fitting = max(1, min(num_fitting, int((num_cpus - 1) // options.cpus_per_worker)))
    return num_fitting if options.num_workers is None else min(num_fitting, options.num_workers)


def _with_gpus(options: PoolOptions, gpu: bool) -> PoolOptions:
    """The options with a definite number of GPUs per worker."""
    if options.gpus_per_worker is not None:
        return options
    has_gpus = any(node["Resources"].get("GPU", 0) >= 1 for node in _nodes())
    return options.model_copy(update={"gpus_per_worker": 1.0 if gpu and has_gpus else 0.0})
