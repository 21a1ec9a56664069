"""Slices of rows, what becomes of them, and the queue that says what is done again: all that needs no Ray.

A slice that killed its worker is halved, so that the item at fault is found; alone, it gets a second try and is then
rejected. A slice that met `Transient`, or whose worker was lost with its machine, is tried again a few times.
"""

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from random import SystemRandom
from threading import Event
from typing import Protocol

import pyarrow as pa
from pydantic import Field

from aai.errors import AaiError, Transient
from aai.options import Options

TICK_S = 1.0  # how often the driver gets to commit and to see that it shall stop while nothing finishes

_MAX_DEATHS = 2
_LONGEST_BACKOFF_S = 60.0
_URI = "uri"
NO_MEMORY = "it does not fit into the GPU's memory even alone: make it smaller, or use a larger GPU"

_jitter = SystemRandom()  # waiting is no result: it needs no address


class PoolOptions(Options):
    """Who works on the slices, and how much patience they get."""

    address: str | None = None
    """The Ray cluster: `host:port`, `auto` for one that runs here, `local` for a new one.

    None for what RAY_ADDRESS says, and without that for `local`.
    """

    num_workers: int | None = Field(None, ge=0)
    """Most workers at a time; none for all that the cluster has room for, 0 for this process, without Ray."""

    cpus_per_worker: float = Field(1, gt=0)
    """CPUs a worker occupies."""

    gpus_per_worker: float = Field(0, ge=0)
    """GPUs a worker occupies; a fraction lets several share one."""

    slice_size: int = Field(256, gt=0)
    """Items a worker gets at a time: what is lost at most when it dies, twice per worker."""

    deadline_s: float | None = Field(None, gt=0)
    """Longest time for a slice, after which its worker is killed; none for no limit. Needs Ray."""

    start_s: float = Field(900, gt=0)
    """Longest time until the first worker is ready: a full cluster lets one wait for ever."""

    grace_s: float = Field(10, ge=0)
    """How long slices at work may go on after the run was told to stop."""

    max_attempts: int = Field(5, gt=0)
    """Times a slice is tried while failures are transient."""

    backoff_s: float = Field(1, ge=0)
    """Pause before the second of these; each further one is twice as long."""


@dataclass(frozen=True)
class Reject:
    """An item that cannot be used."""

    id: str
    error: str
    """The class of the error."""
    sentence: str
    """What is wrong with it."""
    uri: str | None = None

    @classmethod
    def of(cls, item_id: str, error: AaiError, uri: str | None = None) -> "Reject":
        """The reject that an error makes of an item."""
        return cls(item_id, type(error).__name__, str(error), uri)


@dataclass(frozen=True)
class Outcome:
    """What a worker makes of a slice: each of its items has rows or a reject."""

    rows: pa.Table | None
    rejects: list[Reject] = field(default_factory=list)
    """Of items, or of parts of one, as a member of a tar: these have ids of their own."""
    others: dict[str, pa.Table] = field(default_factory=dict)
    """Rows for other tables under the same recipe; they are there before `rows`, which say that an item is done."""
    num_parts: int = 0
    """Parts of items, if rejects are of parts: what the share of rejects is taken of."""


class Worker(Protocol):
    """Loads its model as it is made, then maps slices; knows nothing of Ray.

    It may have a method `halve_batch() -> bool` that frees memory and says whether its batch could be made smaller.
    """

    def __call__(self, rows: pa.Table) -> Outcome:
        """Map a slice.

        Raises:
            Transient: the whole slice may be tried again.
        """


class Batched:
    """A worker whose items go through a model some at a time: fewer of them where memory is short."""

    batch_size: int

    def halve_batch(self) -> bool:
        """Take less memory; whether that is possible."""
        if self.batch_size == 1:
            return False
        self.batch_size //= 2
        return True


@dataclass(frozen=True)
class Done:
    """A finished slice."""

    outcome: Outcome
    num_items: int
    num_halvings: int = 0
    """How often its worker has halved its batch."""


@dataclass(frozen=True)
class Slice:
    """Rows to be mapped together, and what happened to them so far."""

    rows: pa.Table
    attempts: int = 0
    deaths: int = 0
    due_s: float = 0
    """Not to be tried before this time of the monotonic clock."""


class Host:
    """A worker and the care it gets wherever it is: an actor's process or this one."""

    def __init__(self, id_column: str, num_halvings: int = 0) -> None:
        self.id_column = id_column
        self.num_halvings = num_halvings
        self.worker: Worker | None = None

    def load(self, make_worker: Callable[[], Worker]) -> None:
        """Make the worker; a batch that was too large before is made smaller at once."""
        self.worker = make_worker()
        for _ in range(self.num_halvings):
            _halve_batch(self.worker)

    def run(self, rows: pa.Table) -> Done:
        """Map a slice, with smaller batches if memory is short.

        Raises:
            RuntimeError: the worker forgot items, or memory was short and nothing could be made smaller.
        """
        assert self.worker is not None, "a host is loaded before it runs"
        while True:
            try:
                outcome = self.worker(rows)
                break
            except RuntimeError as error:
                if not is_out_of_memory(error):
                    raise
                shortage = error.with_traceback(None)  # the frames hold what fills the memory
            if not _halve_batch(self.worker):
                raise shortage
            self.num_halvings += 1
        self._check(rows, outcome)
        return Done(outcome, rows.num_rows, self.num_halvings)

    def _check(self, rows: pa.Table, outcome: Outcome) -> None:
        given = set(rows[self.id_column].to_pylist())
        rejected = {reject.id for reject in outcome.rejects}
        made = set() if outcome.rows is None else set(outcome.rows[self.id_column].to_pylist())
        done = made | (rejected & given)
        if given != done or made & rejected:
            wrong = sorted((given ^ done) | (made & rejected))
            raise RuntimeError(f"{self.worker!r}: {len(wrong)} items have not either rows or a reject, as {wrong[0]}")


def is_out_of_memory(error: BaseException | None) -> bool:
    """Whether the GPU's memory was short; told by name, as torch need not be here."""
    return error is not None and any(kind.__name__ == "OutOfMemoryError" for kind in type(error).__mro__)


def _halve_batch(worker: Worker) -> bool:
    halve = getattr(worker, "halve_batch", None)
    return halve is not None and bool(halve())


class Queue:
    """The slices still to be done: new ones are asked for as they are needed, others come back."""

    def __init__(self, slices: Iterable[pa.Table], id_column: str, options: PoolOptions) -> None:
        self._intake = iter(slices)
        self._new: deque[Slice] = deque()
        self._again: list[Slice] = []
        self._id_column = id_column
        self._options = options

    def waiting(self, up_to: int) -> int:
        """How many slices there are, counted up to a number, as the rest is not looked at."""
        while len(self._new) + len(self._again) < up_to:
            rows = next(self._intake, None)
            if rows is None:
                break
            self._new.append(Slice(rows))
        return min(up_to, len(self._new) + len(self._again))

    def pop(self) -> Slice | None:
        """The next slice, if one is due."""
        now_s = time.monotonic()
        for number, piece in enumerate(self._again):
            if piece.due_s <= now_s:
                return self._again.pop(number)
        self.waiting(len(self._again) + 1)
        return self._new.popleft() if self._new else None

    def due_in_s(self) -> float:
        """How long until a slice is due."""
        if self._new or not self._again:
            return 0
        return max(0, min(piece.due_s for piece in self._again) - time.monotonic())

    def put_back(self, piece: Slice) -> None:
        """Have a slice done that was not begun."""
        self._again.append(piece)

    def try_later(self, piece: Slice, failure: Exception) -> None:
        """Have a slice done again after a while: something failed that may be gone by then.

        Raises:
            Transient: it has been tried often enough.
        """
        attempts = piece.attempts + 1
        if attempts >= self._options.max_attempts:
            raise Transient(
                f"{self._ids(piece)} failed {attempts} times (max_attempts), at last with {type(failure).__name__}: "
                "run the same command again once the cause is gone"
            ) from failure
        pause_s = min(_LONGEST_BACKOFF_S, self._options.backoff_s * 2 ** (attempts - 1)) * _jitter.uniform(0.5, 1)
        self._again.append(replace(piece, attempts=attempts, due_s=time.monotonic() + pause_s))

    def blame(self, piece: Slice, error: str, sentence: str) -> list[Done]:
        """Find out which item of a slice is at fault, and reject it once it is alone and failed twice."""
        if piece.rows.num_rows > 1:
            half = piece.rows.num_rows // 2
            self._again += [Slice(piece.rows.slice(0, half)), Slice(piece.rows.slice(half))]
            return []
        if piece.deaths + 1 < _MAX_DEATHS:
            self._again.append(replace(piece, deaths=piece.deaths + 1))
            return []
        [item] = piece.rows.to_pylist()
        return [Done(Outcome(None, [Reject(item[self._id_column], error, sentence, item.get(_URI))]), 1)]

    def _ids(self, piece: Slice) -> str:
        first, others = piece.rows[self._id_column][0].as_py(), piece.rows.num_rows - 1
        return f"{first} and {others} others" if others else str(first)


class Pool(Protocol):
    """Maps slices, here or elsewhere."""

    def map(self, slices: Iterable[pa.Table], stop: Event) -> Iterator[list[Done]]:
        """What finished since the last time, at times nothing; ends early once `stop` is set."""


class LocalPool:
    """One worker in this process: for tests and a single clip. A deadline has no effect here."""

    def __init__(self, make_worker: Callable[[], Worker], id_column: str, options: PoolOptions) -> None:
        self._host = Host(id_column)
        self._make_worker = make_worker
        self._id_column = id_column
        self._options = options

    def map(self, slices: Iterable[pa.Table], stop: Event) -> Iterator[list[Done]]:
        """What finished since the last time, at times nothing; ends early once `stop` is set.

        Raises:
            Transient: a slice failed too often.
        """
        queue = Queue(slices, self._id_column, self._options)
        self._host.load(self._make_worker)
        while not stop.is_set() and queue.waiting(1):
            piece = queue.pop()
            if piece is None:
                time.sleep(min(TICK_S, queue.due_in_s()))
                continue
            yield self._run(piece, queue)

    def _run(self, piece: Slice, queue: Queue) -> list[Done]:
        try:
            return [self._host.run(piece.rows)]
        except Transient as error:
            queue.try_later(piece, error)
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            return queue.blame(piece, type(error).__name__, NO_MEMORY)
        return []
