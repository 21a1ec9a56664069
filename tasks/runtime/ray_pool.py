"""A bounded pool of Ray actors: slices in, outcomes out, whatever dies in between.

Ray's own retries are off, as they would run a slice that kills again and again. The pool replaces what died and asks
the `Queue` what becomes of its slice. An actor works on one slice and has the next at hand; it returns rows and never
commits, since one on a machine that was given up may still be computing.
"""

import logging
import os
import socket
import stat
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event
from typing import Any, NoReturn

import pyarrow as pa

from aai.errors import AaiError, BadConfig, Transient
from tasks.runtime.work import NO_MEMORY, TICK_S, Done, Host, PoolOptions, Queue, Slice, Worker, is_out_of_memory

# Read by Ray as it is imported or started, and inherited by what it starts; the user's own settings go first.
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # no reports to Ray's makers
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # what 2.60 warns about otherwise

import ray  # noqa: E402
from ray import ObjectRef  # noqa: E402
from ray.exceptions import (  # noqa: E402
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

_HERE, _ANY = "local", "auto"  # a cluster of our own on this machine; one that runs on this machine already

_joined_as: dict[str, str] = {}
"""Addresses that this process has joined a cluster under, and how its head calls itself: with another of its names."""

_SLICES_PER_ACTOR = 2  # one at work, one at hand
_CENSUS_S = 5.0  # how often machines are counted
_PROBE_S = 5.0  # how long a cluster has to answer


def connect(address: str | None) -> None:
    """Join the cluster at an address or RAY_ADDRESS; without either start one on this machine, for this process.

    Raises:
        BadConfig: the cluster that was asked for does not answer, or is reached through Ray Client.
    """
    address = address or os.environ.get("RAY_ADDRESS") or _HERE
    if address.startswith("ray://"):
        raise BadConfig(
            f"address: {address} is Ray Client, which ends the run when the connection drops for 30 s: "
            "submit the run as a job, so that its driver is inside the cluster"
        )
    if address not in (_HERE, _ANY):
        _probe(address)
    if ray.is_initialized():
        _check_same(address)
        return
    dashboard = False if address == _HERE else None
    try:
        ray.init(address=address, include_dashboard=dashboard, log_to_driver=False, logging_level=logging.ERROR)
    except (ConnectionError, RuntimeError) as error:
        raise BadConfig(f"address: Ray at {address!r} does not let us in: {error}") from error
    _joined_as[address] = _joined()
    _protect_token()


def _probe(address: str) -> None:
    """See at once what Ray would take minutes to find out."""
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit():
        raise BadConfig(f"address: {address!r} is not host:port, {_ANY} or {_HERE}")
    try:
        socket.create_connection((host, int(port)), timeout=_PROBE_S).close()
    except OSError as error:
        raise BadConfig(f"address: nothing answers at {address}: start Ray there, or leave the key out") from error


def _check_same(address: str) -> None:
    """See that the cluster this process has joined is the one that is asked for."""
    joined = _joined()
    if address in (_HERE, _ANY) or _joined_as.get(address) == joined:
        return
    if _resolved(address) != _resolved(joined):
        raise BadConfig(f"address: this process has joined {joined}: use another process for {address}")


def _joined() -> str:
    """The address of the cluster's head, as the head has it."""
    return str(ray.get_runtime_context().gcs_address)


def _resolved(address: str) -> tuple[str, str]:
    host, _, port = address.rpartition(":")
    return socket.gethostbyname(host), port


def _protect_token() -> None:
    """Ray 2.60 makes its token readable to everybody on the machine."""
    path = Path(os.environ.get("RAY_AUTH_TOKEN_PATH") or Path.home() / ".ray" / "auth_token")
    if path.is_file() and path.stat().st_uid == os.getuid():
        path.chmod(stat.S_IRUSR | stat.S_IWUSR)


class _RemoteHost(Host):
    """A host that says where it is."""

    def load_here(self, make_worker: Callable[[], Worker]) -> str:
        """Make the worker and say on which machine."""
        self.load(make_worker)
        return str(ray.get_runtime_context().get_node_id())


@dataclass(eq=False)
class _Actor:
    """An actor as its pool sees it."""

    handle: Any
    loading: ObjectRef | None
    node_id: str = ""
    slices: dict[ObjectRef, Slice] = field(default_factory=dict)
    """In flight, in the order in which the actor works on them."""
    since_s: float = 0
    """When the first of them was seen to begin."""


class RayPool:
    """Workers on a cluster, as many as there is room for and work to do."""

    def __init__(self, make_worker: Callable[[], Worker], id_column: str, options: PoolOptions) -> None:
        connect(options.address)
        self._make_worker = make_worker
        self._id_column = id_column
        self._options = options
        self._actors: list[_Actor] = []
        self._num_halvings = 0
        self._num_failed_loads = 0
        self._room = 0
        self._counted_s = 0.0
        self._loading_since_s = time.monotonic()
        self._remote_host = ray.remote(
            num_cpus=options.cpus_per_worker, num_gpus=options.gpus_per_worker, max_restarts=0, max_task_retries=0
        )(_RemoteHost)

    def map(self, slices: Iterable[pa.Table], stop: Event) -> Iterator[list[Done]]:
        """What finished since the last time, at times nothing; ends early, after a grace, once `stop` is set.

        Finished slices wait with their actors until they are asked for, so no more than two per actor are in memory.

        Raises:
            Transient: a slice failed too often, or no worker came up.
            BadConfig: workers need what no machine has, or die while they load.
            RayTaskError: the worker has a bug; holds its traceback.
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
        """Start actors where there is room, but not more than there are slices."""
        if time.monotonic() - self._counted_s > _CENSUS_S or not self._counted_s:
            self._room = _room(self._options)
            self._counted_s = time.monotonic()
        in_flight = sum(len(actor.slices) for actor in self._actors)
        wanted = min(self._room, in_flight + queue.waiting(self._room))
        if not self._actors:
            self._loading_since_s = time.monotonic()
        while len(self._actors) < wanted:
            handle: Any = self._remote_host.remote(self._id_column, self._num_halvings)
            self._actors.append(_Actor(handle, handle.load_here.remote(self._make_worker)))

    def _feed(self, queue: Queue) -> None:
        """Give each actor that has loaded one slice, then each a second."""
        for depth in range(_SLICES_PER_ACTOR):
            for actor in self._actors:
                if actor.loading is None and len(actor.slices) == depth:
                    piece = queue.pop()
                    if piece is None:
                        return
                    if not actor.slices:
                        actor.since_s = time.monotonic()
                    actor.slices[actor.handle.run.remote(piece.rows)] = piece

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
        """How long to wait for a result: something else may be due before."""
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
        for ref, piece in list(actor.slices.items()):
            if ref not in ready or actor not in self._actors:
                break
            finished += self._finish(actor, ref, piece, queue)
        if actor in self._actors and self._is_overdue(actor):
            sentence = f"it kept a worker busy for more than {self._options.deadline_s:g} s (deadline_s), twice"
            finished += self._bury(actor, queue, "DeadlineExceeded", sentence)
        return finished

    def _finish_loading(self, actor: _Actor) -> None:
        assert actor.loading is not None, "who finished loading was loading"
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

    def _drop_unloaded(self, actor: _Actor, error: Exception) -> None:
        self._actors.remove(actor)
        ray.kill(actor.handle)
        self._num_failed_loads += 1
        if self._num_failed_loads < self._options.max_attempts:
            return
        if isinstance(error, Transient):
            raise Transient(f"workers could not load, {self._num_failed_loads} times in a row: {error}") from error
        raise BadConfig(
            f"num_workers: workers died as they loaded, {self._num_failed_loads} times in a row: "
            "look at memory, and try fewer"
        ) from error

    def _finish(self, actor: _Actor, ref: ObjectRef, piece: Slice, queue: Queue) -> list[Done]:
        """Take a slice off an actor: its result, or what becomes of it now."""
        try:
            done: Done = ray.get(ref)
        except RayTaskError as error:
            self._next(actor, ref)
            return _after_error(piece, error, queue)
        except _LOST as error:
            return self._lose(actor, queue, error)
        except _DIED as error:
            if actor.node_id not in {node["NodeID"] for node in _machines()}:
                return self._lose(actor, queue, error)
            return self._bury(actor, queue, "WorkerDied", "its worker died over it, twice: look at the item and memory")
        self._next(actor, ref)
        self._num_halvings = max(self._num_halvings, done.num_halvings)
        return [done]

    def _next(self, actor: _Actor, ref: ObjectRef) -> None:
        del actor.slices[ref]
        actor.since_s = time.monotonic()

    def _is_overdue(self, actor: _Actor) -> bool:
        limit_s = self._options.deadline_s
        return limit_s is not None and bool(actor.slices) and time.monotonic() - actor.since_s > limit_s

    def _bury(self, actor: _Actor, queue: Queue, error: str, sentence: str) -> list[Done]:
        """Give an actor up because of the slice it was working on."""
        first, *others = self._remove(actor)
        for piece in others:
            queue.put_back(piece)
        return queue.blame(first, error, sentence)

    def _lose(self, actor: _Actor, queue: Queue, error: Exception) -> list[Done]:
        """Give an actor up that was lost, through no fault of a slice."""
        self._counted_s = 0
        first, *others = self._remove(actor)
        for piece in others:
            queue.put_back(piece)
        queue.try_later(first, error)
        return []

    def _remove(self, actor: _Actor) -> list[Slice]:
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


def _after_error(piece: Slice, error: RayTaskError, queue: Queue) -> list[Done]:
    """What becomes of a slice over which a living worker raised an error."""
    if isinstance(error, Transient):
        queue.try_later(piece, error)
        return []
    if is_out_of_memory(error.cause):
        return queue.blame(piece, type(error.cause).__name__, NO_MEMORY)
    _raise_ours(error)


def _raise_ours(error: RayTaskError) -> NoReturn:
    """Raise our own errors as the worker did; others as Ray has them, with the worker's traceback."""
    if isinstance(error.cause, AaiError):
        raise error.cause from error
    raise error


def _machines() -> list[dict[str, Any]]:
    return [node for node in ray.nodes() if node["Alive"]]


def _room(options: PoolOptions) -> int:
    """How many workers fit: one CPU of the cluster stays free, unless it is all there is.

    Raises:
        BadConfig: no machine is large enough for one.
    """
    resources = [node["Resources"] for node in _machines()]
    fits = 0
    for have in resources:
        by_cpus = have.get("CPU", 0) // options.cpus_per_worker
        by_gpus = have.get("GPU", 0) // options.gpus_per_worker if options.gpus_per_worker else by_cpus
        fits += int(min(by_cpus, by_gpus))
    if not fits:
        raise BadConfig(
            f"cpus_per_worker, gpus_per_worker: no machine has {options.cpus_per_worker:g} CPUs "
            f"and {options.gpus_per_worker:g} GPUs: ask for less, or use a larger cluster"
        )
    num_cpus = sum(have.get("CPU", 0) for have in resources)
    fits = max(1, min(fits, int((num_cpus - 1) // options.cpus_per_worker)))
    return fits if options.num_workers is None else min(fits, options.num_workers)
