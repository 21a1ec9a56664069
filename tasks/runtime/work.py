"""Work slices, the retry queue, and the in-process pool: all of it without Ray.

A slice that crashed its worker is bisected until the item at fault is found; a single item gets a second attempt and is
then rejected. A slice that failed with `Transient`, or whose node was lost, is tried again a few times.
"""

import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from random import SystemRandom
from threading import Event
from typing import Protocol, TypeVar

import pyarrow as pa
import pyarrow.compute as pc

from aai.errors import AaiError, BadItem, Transient
from aai.format import without_secrets
from tasks.runtime.finite import not_finite
from tasks.runtime.loaded import LoadedModels
from tasks.runtime.options import PoolOptions
from tasks.runtime.process import OUT_OF_MEMORY, gpu_failed, is_gpu_failure, is_out_of_memory, no_room_for_model

TICK_S = 1.0
"""How often the driver can commit, and notice a stop, while nothing finishes."""

_MAX_CRASHES = 2
_MAX_BACKOFF_S = 60.0
_URI, _JOB_FILE = "uri", "job_file"

Item = TypeVar("Item")
NO_MEMORY = "it does not fit into memory even alone: make it smaller, or use a machine or GPU with more memory"

_jitter = SystemRandom()  # waiting changes no result, so it needs no seed


@dataclass(frozen=True)
class Reject:
    """An item, or a part of one, that cannot be used."""

    id: str
    error: str
    """Class of the error."""
    sentence: str
    """What is wrong with it, and the remedy."""
    uri: str | None = None
    part_of: str | None = None
    """The item that was finished without this part; none if the item itself is rejected."""
    job_file: str | None = None
    """The job file that asked for the item, if it is a picture."""

    @classmethod
    def of(cls, item_id: str, error: AaiError, uri: str | None = None, part_of: str | None = None) -> "Reject":
        """The reject that an error makes of an item; the file that the error names comes before `uri`."""
        return cls(item_id, type(error).__name__, error.sentence, error.uri or (uri and without_secrets(uri)), part_of)


@dataclass(frozen=True)
class Outcome:
    """What a worker makes of a slice: for each item rows or a reject."""

    rows: pa.Table | None
    rejects: list[Reject] = field(default_factory=list)
    extra_tables: dict[str, pa.Table] = field(default_factory=dict)
    """Rows of other tables under the same recipe. They are committed before `rows`, which mark items as done."""
    counts: Counter[str] = field(default_factory=Counter)
    """Numbers that are summed over a run, for the `note` of the stage."""
    files: dict[str, bytes] = field(default_factory=dict)
    """Files of an artifact, by name."""


class Worker(Protocol):
    """Loads its model when it is made, then maps slices; it knows nothing of Ray.

    It may have a method `halve_batch() -> bool` that lowers the memory it needs, and returns whether that was possible.
    """

    def __call__(self, rows: pa.Table) -> Outcome:
        """Map a slice.

        Raises:
            Transient: the whole slice can be tried again.
        """


class Batched:
    """A worker with a batch size that can be halved when memory is short."""

    batch_size: int

    def halve_batch(self) -> bool:
        """Halve the batch; whether that was possible."""
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
    worked_s: float = 0.0
    """Seconds that its worker took for it."""


@dataclass
class Effort:
    """What the workers of a pool took, from which the time of a later run is estimated."""

    num_workers: int = 0
    """The most that were ready at a time."""
    gpus: float = 0.0
    """GPUs of each worker."""
    loading_s: float = 0.0
    """Seconds until the first worker was ready."""
    worked_s: float = 0.0
    """Seconds that workers took for slices, the sum over all workers."""


@dataclass(frozen=True)
class WorkItem:
    """Rows to be mapped together, and their history."""

    rows: pa.Table
    attempts: int = 0
    crashes: int = 0
    not_before_s: float = 0
    """Time of the monotonic clock before which it is not tried."""


class WorkerRunner:
    """Runs a worker, in an actor or in this process, and retries with a smaller batch when memory is short."""

    def __init__(self, id_column: str, num_halvings: int = 0, models: LoadedModels | None = None) -> None:
        self.id_column = id_column
        self.num_halvings = num_halvings
        self.models = models or LoadedModels()
        self.worker: Worker | None = None

    def load(self, make_worker: Callable[[], Worker]) -> None:
        """Make the worker, with the smaller batch that earlier workers arrived at.

        Raises:
            BadConfig: its model does not fit into memory.
            Transient: other processes take the memory of the GPU, or it failed.
        """
        try:
            with self.models.for_worker():
                self.worker = make_worker()
        except (RuntimeError, MemoryError) as error:
            _check_gpu(error)
            if not is_out_of_memory(error):
                raise
            raise no_room_for_model(error) from error.with_traceback(None)  # its frames hold tensors
        for _ in range(self.num_halvings):
            _halve_batch(self.worker)

    def run(self, rows: pa.Table) -> Done:
        """Map a slice, with smaller batches if memory is short.

        Raises:
            GpuFailed: its process can no longer use the GPU.
            RuntimeError, MemoryError: the worker left items out, or memory was short at the smallest batch.
        """
        assert self.worker is not None, "load comes before run"
        start_s = time.monotonic()
        while True:
            try:
                outcome = self.worker(rows)
                break
            except (RuntimeError, MemoryError) as error:
                _check_gpu(error)
                if not is_out_of_memory(error):
                    raise
                shortage = error.with_traceback(None)  # its frames hold the tensors that fill the memory
            if not _halve_batch(self.worker):
                raise shortage
            self.num_halvings += 1
        outcome = self._without_not_finite(rows, outcome)
        self._check(rows, outcome)
        return Done(outcome, rows.num_rows, self.num_halvings, time.monotonic() - start_s)

    def _without_not_finite(self, rows: pa.Table, outcome: Outcome) -> Outcome:
        """Reject the items that have a number which is not finite."""
        found = not_finite(outcome.rows, self.id_column) if outcome.rows is not None else {}
        if outcome.rows is None or not found:
            return outcome
        ids = rows[self.id_column].to_pylist()
        uris = dict(zip(ids, rows[_URI].to_pylist(), strict=True)) if _URI in rows.column_names else {}
        rejects = [Reject.of(item, BadItem(sentence), uris.get(item)) for item, sentence in found.items()]
        is_bad = pc.is_in(outcome.rows[self.id_column], value_set=pa.array(list(found)))
        return replace(outcome, rows=outcome.rows.filter(pc.invert(is_bad)), rejects=[*outcome.rejects, *rejects])

    def _check(self, rows: pa.Table, outcome: Outcome) -> None:
        given = set(rows[self.id_column].to_pylist())
        rejected = {reject.id for reject in outcome.rejects if reject.part_of is None}
        returned = set() if outcome.rows is None else set(outcome.rows[self.id_column].to_pylist())
        if given != returned | rejected or returned & rejected:
            wrong = sorted((given ^ (returned | rejected)) | (returned & rejected))
            raise RuntimeError(f"{self.worker!r}: {len(wrong)} items have not either rows or a reject, as {wrong[0]}")


def _check_gpu(error: BaseException) -> None:
    """Raise our own error for one of CUDA after which nothing works any more.

    Raises:
        GpuFailed: it is one.
    """
    if is_gpu_failure(error):
        raise gpu_failed(error) from error.with_traceback(None)


def _halve_batch(worker: Worker) -> bool:
    halve = getattr(worker, "halve_batch", None)
    return halve is not None and bool(halve())


def batches(items: Sequence[Item], size: int) -> Iterator[Sequence[Item]]:
    """Items in batches; the last may be shorter."""
    for first in range(0, len(items), size):
        yield items[first : first + size]


class Queue:
    """The slices to be done: new ones are taken as they are needed, failed ones come back.

    `slices` may yield None while it waits for the result of an earlier slice.
    """

    def __init__(self, slices: Iterable[pa.Table | None], id_column: str, options: PoolOptions) -> None:
        self._intake = iter(slices)
        self._new: deque[WorkItem] = deque()
        self._again: list[WorkItem] = []
        self._id_column = id_column
        self._options = options

    def waiting(self, up_to: int) -> int:
        """How many slices are waiting, counted up to a number; no more than that are read ahead."""
        while len(self._new) + len(self._again) < up_to:
            rows = next(self._intake, None)
            if rows is None:
                break
            self._new.append(WorkItem(rows))
        return min(up_to, len(self._new) + len(self._again))

    def pop(self) -> WorkItem | None:
        """The next slice, if one is due."""
        now_s = time.monotonic()
        for index, item in enumerate(self._again):
            if item.not_before_s <= now_s:
                return self._again.pop(index)
        self.waiting(len(self._again) + 1)
        return self._new.popleft() if self._new else None

    def due_in_s(self) -> float:
        """Seconds until a slice is due."""
        if self._new or not self._again:
            return 0
        return max(0, min(item.not_before_s for item in self._again) - time.monotonic())

    def requeue(self, item: WorkItem) -> None:
        """Take back a slice that was not begun."""
        self._again.append(item)

    def retry_later(self, item: WorkItem, failure: Exception) -> None:
        """Schedule another attempt after a transient failure.

        Raises:
            Transient: it was tried `max_attempts` times.
        """
        attempts = item.attempts + 1
        if attempts >= self._options.max_attempts:
            cause = failure.sentence if isinstance(failure, Transient) else type(failure).__name__
            raise Transient(
                f"{self._ids(item)} failed {attempts} times (max_attempts), at last with: {cause}; "
                "run the same command again once the cause is gone"
            ) from failure
        pause_s = min(_MAX_BACKOFF_S, self._options.backoff_s * 2 ** (attempts - 1)) * _jitter.uniform(0.5, 1)
        self._again.append(replace(item, attempts=attempts, not_before_s=time.monotonic() + pause_s))

    def bisect(self, item: WorkItem, error: str, sentence: str) -> list[Done]:
        """Split a slice that crashed its worker; a single item is rejected once it has crashed two workers."""
        if item.rows.num_rows > 1:
            half = item.rows.num_rows // 2
            self._again += [WorkItem(item.rows.slice(0, half)), WorkItem(item.rows.slice(half))]
            return []
        if item.crashes + 1 < _MAX_CRASHES:
            self._again.append(replace(item, crashes=item.crashes + 1))
            return []
        [row] = item.rows.to_pylist()
        reject = Reject(row[self._id_column], error, sentence, row.get(_URI), job_file=row.get(_JOB_FILE))
        return [Done(Outcome(None, [reject]), 1)]

    def _ids(self, item: WorkItem) -> str:
        first, others = item.rows[self._id_column][0].as_py(), item.rows.num_rows - 1
        return f"{first} and {others} others" if others else str(first)


class Pool(Protocol):
    """Maps slices, here or elsewhere."""

    effort: Effort
    """What its workers took so far."""

    @property
    def num_workers(self) -> int:
        """How many workers there is room for."""

    def map(self, slices: Iterable[pa.Table | None], stop: Event) -> Iterator[list[Done]]:
        """Yield what finished since the last time, possibly nothing; ends early once `stop` is set."""


class LocalPool:
    """One worker in this process, for small banks, tests and single clips. A deadline has no effect here."""

    def __init__(
        self,
        make_worker: Callable[[], Worker],
        id_column: str,
        options: PoolOptions,
        models: LoadedModels | None = None,
        gpus: float = 0.0,
    ) -> None:
        self.num_workers = 1
        self.effort = Effort(num_workers=1, gpus=gpus)
        self._runner = WorkerRunner(id_column, models=models)
        self._make_worker = make_worker
        self._id_column = id_column
        self._options = options

    def map(self, slices: Iterable[pa.Table | None], stop: Event) -> Iterator[list[Done]]:
        """Yield what finished since the last time, possibly nothing; ends early once `stop` is set.

        Raises:
            Transient: a slice failed too often.
        """
        queue = Queue(slices, self._id_column, self._options)
        start_s = time.monotonic()
        self._runner.load(self._make_worker)
        self.effort.loading_s = time.monotonic() - start_s
        while not stop.is_set() and queue.waiting(1):
            item = queue.pop()
            if item is None:
                time.sleep(min(TICK_S, queue.due_in_s()))
                continue
            yield self._run(item, queue)

    def _run(self, item: WorkItem, queue: Queue) -> list[Done]:
        try:
            done = self._runner.run(item.rows)
            self.effort.worked_s += done.worked_s
            return [done]
        except Transient as error:
            queue.retry_later(item, error)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            return queue.bisect(item, OUT_OF_MEMORY, NO_MEMORY)
        return []
