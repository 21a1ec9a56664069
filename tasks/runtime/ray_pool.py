"""A bounded pool of Ray actors that survives crashed actors and lost nodes.

Ray's own retries are off, because they would run a slice that crashes its actor again and again. The pool replaces dead
actors, and the `Queue` decides what happens to their slices. An actor has one slice in work and the next one queued. It
returns rows and never commits, because an actor on a node that was given up may still be computing.
"""

import logging
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from threading import Event
from typing import NoReturn

import pyarrow as pa

from aai.errors import AaiError, BadConfig, Transient
from tasks.runtime.options import PoolOptions
from tasks.runtime.placement import Node, Placement, place
from tasks.runtime.process import OUT_OF_MEMORY, GpuFailed, is_out_of_memory
from tasks.runtime.ray_actors import Actor, IdleActors, Size, start_actor
from tasks.runtime.ray_cluster import (  # sets what Ray reads from the environment when it is imported
    alive_nodes,
    autoscales,
    cluster_nodes,
    connect,
)
from tasks.runtime.work import NO_MEMORY, TICK_S, Done, Effort, Queue, Worker, WorkItem

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

_NO_GPU_YET = (
    "the cluster has no GPU yet, so models run on CPUs: if its autoscaler can start nodes with GPUs, set submit.nodes, "
    "submit.cpus and submit.gpus to what it can"
)

_log = logging.getLogger(__name__)

_SLICES_PER_ACTOR = 2  # one in work, one queued
_CENSUS_S = 5.0  # how often nodes are counted


class RayPool:
    """Workers on a cluster: as many as fit, and no more than there are slices.

    Args:
        make_worker: called in the worker's process.
        id_column: the column with the item's id.
        options: resources and limits.
        has_model: whether a worker takes a GPU by default, if the cluster has any.
        idle: the actors of earlier stages, which are used again if they are of the right size; those of this pool join
            them when all slices are finished.
        to_come: the nodes that the cluster's autoscaler can start.
    """

    def __init__(  # noqa: PLR0913
        self,
        make_worker: Callable[[], Worker],
        id_column: str,
        options: PoolOptions,
        has_model: bool = False,
        idle: IdleActors | None = None,
        to_come: Sequence[Node] = (),
    ) -> None:
        connect(options.address)
        self._make_worker = make_worker
        self._id_column = id_column
        self._to_come = to_come
        self._idle = idle
        placed = place(options, has_model, cluster_nodes(to_come))
        self._options = options.model_copy(update={"cpus_per_worker": placed.cpus, "gpus_per_worker": placed.gpus})
        self._size, self._num_threads = Size(placed.cpus, placed.gpus), placed.num_threads
        self.effort = Effort(gpus=placed.gpus)
        self._actors: list[Actor] = []
        self._num_halvings = 0
        self._num_failed_loads = 0
        self._room = 0
        self._nodes: dict[str, str] = {}
        self._counted_s = 0.0
        self._loading_since_s = time.monotonic()
        if idle is not None:
            idle.release(self._size)
        if has_model and not placed.gpus and options.gpus_per_worker is None and autoscales() and not to_come:
            _log.warning(_NO_GPU_YET)

    @property
    def num_workers(self) -> int:
        """How many workers the cluster has room for now, or once its autoscaler has started more nodes."""
        return self._place().num_workers

    def _place(self) -> Placement:
        """Where workers have room now.

        Raises:
            Transient: the last node is lost.
            BadConfig: no node has what a worker asks for.
        """
        if not (nodes := cluster_nodes(self._to_come)):
            raise Transient(
                "the last node of the Ray cluster is lost, perhaps for lack of memory: run the same command again"
            )
        return place(self._options, False, nodes)

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
            if not stop.is_set():
                self._keep_actors()
        finally:
            self._close()

    def _is_busy(self) -> bool:
        return any(actor.slices for actor in self._actors)

    def _keep_actors(self) -> None:
        """Leave the actors to the next stage."""
        if self._idle is None:
            return
        for actor in [actor for actor in self._actors if actor.is_idle]:
            self._actors.remove(actor)
            self._idle.put(self._size, actor.handle)

    def _close(self) -> None:
        for actor in self._actors:
            ray.kill(actor.handle)
        self._actors.clear()

    def _grow(self, queue: Queue) -> None:
        """Start actors where there is room, up to the number of slices."""
        if time.monotonic() - self._counted_s > _CENSUS_S or not self._counted_s:
            self._count()
        in_flight = sum(len(actor.slices) for actor in self._actors)
        wanted = min(self._room, in_flight + queue.waiting(max(0, self._room - in_flight)))
        if not self._actors:
            self._loading_since_s = time.monotonic()
        while len(self._actors) < wanted:
            self._actors.append(self._start())

    def _start(self) -> Actor:
        """An actor that loads: an idle one of an earlier stage, or a new one."""
        handle = self._idle.take(self._size) if self._idle is not None else None
        is_reused = handle is not None
        if handle is None:
            handle = start_actor(self._size, self._num_threads)
        loading = handle.load.remote(self._make_worker, self._id_column, self._num_halvings)
        return Actor(handle, loading, is_reused)

    def _count(self) -> None:
        """Count nodes and the room on them, and log which have come or gone."""
        nodes = {node["NodeID"]: node["NodeManagerAddress"] for node in alive_nodes()}
        for node_id in self._nodes.keys() - nodes.keys():
            _log.warning("node %s is lost: others do its slices", self._nodes[node_id])
        for node_id in nodes.keys() - self._nodes.keys() if self._nodes else ():
            _log.warning("node %s has joined", nodes[node_id])
        self._nodes = nodes
        self._room = self._place().num_workers
        self._counted_s = time.monotonic()
        if self._idle is not None:
            self._idle.release(self._size)

    def _feed(self, queue: Queue) -> None:
        """Give each actor that has loaded one slice, then each a second if enough are left for those that load."""
        num_loading = sum(actor.loading is not None for actor in self._actors)
        for depth in range(_SLICES_PER_ACTOR):
            for actor in self._actors:
                if depth and num_loading and queue.waiting(num_loading + 1) <= num_loading:
                    return
                if actor.loading is None and len(actor.slices) == depth:
                    item = queue.pop()
                    if item is None:
                        return
                    if not actor.slices:
                        actor.since_s = time.monotonic()
                    actor.slices[actor.handle.run.remote(item.rows)] = item

    def _collect(self, queue: Queue) -> list[Done]:
        awaited = [ref for actor in self._actors if (ref := actor.next_result) is not None]
        if not self._is_busy() and queue.due_in_s() and not any(actor.loading for actor in self._actors):
            time.sleep(min(TICK_S, queue.due_in_s()))
        if not awaited:
            return []
        ray.wait(awaited, timeout=self._patience_s(queue))  # of all results, one that came too early would end it
        refs = [*awaited, *(ref for actor in self._actors for ref in list(actor.slices)[1:])]
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

    def _collect_from(self, actor: Actor, ready: set[ObjectRef], queue: Queue) -> list[Done]:
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

    def _finish_loading(self, actor: Actor) -> None:
        assert actor.loading is not None, "only a loading actor finishes loading"
        try:
            actor.node_id = ray.get(actor.loading)
        except RayTaskError as error:
            if not isinstance(error, Transient):
                _raise_ours(error)
            self._drop_unloaded(actor, error)
        except (*_LOST, *_DIED) as error:
            self._drop_unloaded(actor, error)
        else:
            actor.loading = None
            self._num_failed_loads = 0
            self._count_ready()

    def _count_ready(self) -> None:
        """Note how many workers are ready; the first one ends the loading."""
        if not self.effort.num_workers:
            self.effort.loading_s = time.monotonic() - self._loading_since_s
        num_ready = sum(actor.loading is None for actor in self._actors)
        self.effort.num_workers = max(self.effort.num_workers, num_ready)

    def _drop_unloaded(self, actor: Actor, error: Exception) -> None:
        self._actors.remove(actor)
        ray.kill(actor.handle)
        if actor.is_reused and isinstance(error, _DIED + _LOST):
            return  # it died between the stages
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

    def _finish(self, actor: Actor, ref: ObjectRef, item: WorkItem, queue: Queue) -> list[Done]:
        """Collect a slice from an actor: its result, or the handling of its failure."""
        try:
            done: Done = ray.get(ref)
        except RayTaskError as error:
            if isinstance(error, GpuFailed):
                return self._on_node_loss(actor, queue, error)
            self._next(actor, ref)
            return _after_error(item, error, queue)
        except _LOST as error:
            return self._on_node_loss(actor, queue, error)
        except _DIED as error:
            if actor.node_id not in {node["NodeID"] for node in alive_nodes()}:
                return self._on_node_loss(actor, queue, error)
            return self._on_crash(
                actor, queue, "WorkerDied", "it crashed its worker twice: look at the item and memory"
            )
        self._next(actor, ref)
        self._num_halvings = max(self._num_halvings, done.num_halvings)
        self.effort.worked_s += done.worked_s
        return [done]

    def _next(self, actor: Actor, ref: ObjectRef) -> None:
        del actor.slices[ref]
        actor.since_s = time.monotonic()

    def _is_overdue(self, actor: Actor) -> bool:
        limit_s = self._options.deadline_s
        return limit_s is not None and bool(actor.slices) and time.monotonic() - actor.since_s > limit_s

    def _on_crash(self, actor: Actor, queue: Queue, error: str, sentence: str) -> list[Done]:
        """Drop an actor that crashed on a slice, and bisect that slice."""
        first, *others = self._remove(actor)
        for item in others:
            queue.requeue(item)
        return queue.bisect(first, error, sentence)

    def _on_node_loss(self, actor: Actor, queue: Queue, error: Exception) -> list[Done]:
        """Drop an actor that was lost with its node or its GPU, and retry its slice."""
        self._counted_s = 0
        first, *others = self._remove(actor)
        for item in others:
            queue.requeue(item)
        queue.retry_later(first, error)
        return []

    def _remove(self, actor: Actor) -> list[WorkItem]:
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
