"""The driver of all stages: pending rows go through a pool, and results are committed.

Completion follows from the rows alone, so a killed run resumes when it is started again, and a second run does nothing.
Only the driver commits; the rhythm of its commits keeps a run below a thousand of them.
"""

import logging
import signal
import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from math import ceil
from threading import Event
from types import FrameType, TracebackType

import pyarrow as pa
import pyarrow.compute as pc

from aai.errors import BadConfig
from aai.workspace import Workspace
from tasks.runtime.options import PoolOptions, RunOptions
from tasks.runtime.stage import Pending, Source
from tasks.runtime.work import Done, LocalPool, Pool, Reject, Worker

_REJECTS = "rejects"
_MAX_COMMITS_BY_SIZE = 300
_COMMIT_SHARE = 1 / 60  # of the time a run has taken: from 2 s on, 400 commits in 10 hours and 600 in a week
_SIGNALS = (signal.SIGTERM, signal.SIGINT)

_log = logging.getLogger(__name__)

Progress = Callable[[int, int, float], None]
"""Called with the number of finished items, their total, and the rate per second."""


@dataclass(frozen=True)
class StageRun:
    """One stage at work: where its items come from, where its rows go, and who makes them."""

    name: str
    source: Source
    table: str
    recipe: str
    make_worker: Callable[[], Worker]
    """Called in the worker's process, because it loads a model."""
    gpu: bool = False
    """Whether a worker takes a GPU, if the cluster has any."""


@dataclass(frozen=True)
class StageSummary:
    """What a run of a stage did."""

    stage: str
    recipe: str
    done: int
    """Items that were finished before: they have rows, or were rejected."""
    new: int
    """Items that this run finished."""
    rejected: int
    """Items and parts of items that this run rejected."""
    took_s: float
    stopped: bool = False
    """Whether it was stopped before all was done."""

    @property
    def rate(self) -> float:
        """Items per second, rejected ones included."""
        return (self.new + self.rejected) / self.took_s if self.took_s else 0.0

    @classmethod
    def nothing(cls, stage: str, recipe: str, done: int = 0) -> "StageSummary":
        """The summary of a run with nothing to do."""
        return cls(stage, recipe, done, new=0, rejected=0, took_s=0.0)


def run_stage(
    workspace: Workspace,
    stage: StageRun,
    pool: PoolOptions,
    options: RunOptions,
    progress: Progress | None = None,
    stop: Event | None = None,
) -> StageSummary:
    """Process what is pending. However it ends, finished slices are committed; starting it again does the rest.

    SIGTERM and SIGINT stop it cleanly, and are then delivered again to the handlers that were there before; a second
    one ends it at once. Setting `stop` stops it cleanly, too.

    Raises:
        BadConfig: too many items were rejected, or the pool cannot start.
        Transient: the store failed, or a slice failed too often.
    """
    start_s = time.monotonic()
    stop = stop or Event()
    pending = stage.source.pending(options.retry_rejects)
    buffer = CommitBuffer(workspace, stage, options, pending, ceil(pending.num / pool.slice_size))
    if pending.num:
        _work(stage, pending, pool, buffer, progress, stop)
    return StageSummary(
        stage.name,
        stage.recipe,
        done=pending.total - pending.num,
        new=buffer.num_new,
        rejected=buffer.num_rejected,
        took_s=time.monotonic() - start_s,
        stopped=stop.is_set(),
    )


def _work(
    stage: StageRun,
    pending: Pending,
    pool: PoolOptions,
    buffer: "CommitBuffer",
    progress: Progress | None,
    stop: Event,
) -> None:
    id_column = buffer.id_column
    workers = open_pool(stage.make_worker, id_column, pool, stage.gpu)
    with stopping_on_signals(stop):
        with _closing(pending.rows), buffer:
            for finished in workers.map(slices_of(pending.rows, _slice_size(pool, pending.num, workers)), stop):
                for done in finished:
                    buffer.add(done)
                buffer.commit_if_due()
                buffer.check_rejects()
                if progress and finished:
                    progress(*buffer.progress())
        if stop.is_set():
            _log.warning(
                "%s: stopped with %d of %d items finished; starting it again does the rest",
                stage.name,
                *buffer.progress()[:2],
            )


@contextmanager
def _closing(rows: Iterable[pa.Table]) -> Iterator[None]:
    """Close a stream of rows that was not read to its end: it holds a connection and a folder."""
    try:
        yield
    finally:
        if isinstance(rows, Generator):
            rows.close()


def _slice_size(pool: PoolOptions, num_items: int, workers: Pool) -> int:
    """The configured size, or less where some workers would get no slice otherwise."""
    return max(1, min(pool.slice_size, ceil(num_items / workers.num_workers)))


def open_pool(make_worker: Callable[[], Worker], id_column: str, options: PoolOptions, gpu: bool = False) -> Pool:
    """Workers in this process or on Ray.

    Raises:
        BadConfig: the Ray cluster does not answer.
    """
    if options.num_workers == 0:
        return LocalPool(make_worker, id_column, options)
    from tasks.runtime.ray_pool import RayPool  # importing Ray takes a second

    return RayPool(make_worker, id_column, options, gpu)


def slices_of(tables: Iterable[pa.Table], size: int) -> Iterator[pa.Table]:
    """Cut tables into slices; the last of each table may be shorter."""
    for table in tables:
        for first in range(0, table.num_rows, size):
            yield table.slice(first, size)


class CommitBuffer:
    """Buffers the results of workers and commits them, also when it is left by an error."""

    def __init__(
        self, workspace: Workspace, stage: StageRun, options: RunOptions, pending: Pending, num_slices: int
    ) -> None:
        self.num_new = 0
        self.num_rejected = 0
        self.num_rejected_items = 0
        self._workspace, self._stage, self._options, self._pending = workspace, stage, options, pending
        self._sink = workspace.table(stage.table)
        self._rejects = workspace.table(_REJECTS)
        self._commit_slices = max(options.commit_slices, ceil(num_slices / _MAX_COMMITS_BY_SIZE))
        self._start_s = time.monotonic()
        self._buffered: list[Done] = []
        self._oldest_s = 0.0
        self._last_reject: Reject | None = None

    def __enter__(self) -> "CommitBuffer":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.commit()

    @property
    def id_column(self) -> str:
        """The column with the item's id."""
        return self._sink.schema.id

    def add(self, done: Done) -> None:
        """Take in a finished slice."""
        if not self._buffered:
            self._oldest_s = time.monotonic()
        self._buffered.append(done)
        outcome = done.outcome
        self._last_reject = next(reversed(outcome.rejects), self._last_reject)
        num_new = 0 if outcome.rows is None else len(pc.unique(outcome.rows[self.id_column]))
        self.num_new += num_new
        self.num_rejected_items += done.num_items - num_new
        self.num_rejected += len(outcome.rejects)

    def commit_if_due(self) -> None:
        """Commit when enough slices are buffered, or the oldest has waited long enough."""
        now_s = time.monotonic()
        max_wait_s = max(self._options.commit_s, (now_s - self._start_s) * _COMMIT_SHARE)
        if len(self._buffered) >= self._commit_slices or (self._buffered and now_s - self._oldest_s >= max_wait_s):
            self.commit()

    def commit(self) -> None:
        """Commit what is buffered; repeating an append adds nothing.

        What belongs to an item is committed before the row that marks it as done, so that a kill in between loses
        nothing.
        """
        outcomes = [done.outcome for done in self._buffered]
        for name in sorted({name for outcome in outcomes for name in outcome.extra_tables}):
            tables = [outcome.extra_tables[name] for outcome in outcomes if name in outcome.extra_tables]
            self._workspace.table(name).append(self._stage.recipe, *tables)
        rejects = [reject for outcome in outcomes for reject in outcome.rejects]
        self._rejects.append(self._stage.recipe, self._reject_rows(rejects))
        self._sink.append(self._stage.recipe, *[outcome.rows for outcome in outcomes if outcome.rows is not None])
        self._buffered.clear()

    def check_rejects(self) -> None:
        """Stop a stage that rejects most of its items, because then the stage or its options are wrong.

        Raises:
            BadConfig: too many items were rejected.
        """
        num_rejected = self._pending.rejected + self.num_rejected_items
        num_all = self._pending.total
        if not self.num_rejected_items or num_rejected <= self._options.max_reject_fraction * num_all:
            return
        assert self._last_reject is not None, "a reject was counted"
        last = self._last_reject
        raise BadConfig(
            f"{self._stage.name} rejected {num_rejected} of {num_all} items, more than "
            f"{self._options.max_reject_fraction:g}, at last {last.uri or last.id} ({last.sentence}): look into the "
            f"table `{_REJECTS}`, or raise the fraction",
            key="run.max_reject_fraction",
        )

    def progress(self) -> tuple[int, int, float]:
        """Finished items, their total, and items per second."""
        finished = self.num_new + self.num_rejected_items
        return finished, self._pending.num, finished / max(time.monotonic() - self._start_s, 1e-9)

    def _reject_rows(self, rejects: list[Reject]) -> pa.Table:
        """Rows with a time of their own each, because an image may be rejected as a part of several clips at once."""
        now = time.time_ns() // 1000
        rows = [
            asdict(reject) | {"stage": self._stage.name, "rejected_at": now + number}
            for number, reject in enumerate(rejects)
        ]
        return pa.Table.from_pylist(rows, schema=self._rejects.schema.columns)


@contextmanager
def stopping_on_signals(stop: Event) -> Iterator[None]:
    """Set `stop` at the first signal; afterwards restore the handlers and deliver the signal again.

    Only the main thread may handle signals. In another thread, the caller sets `stop`.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    received: list[int] = []

    def handle(number: int, frame: FrameType | None) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        received.append(number)
        stop.set()

    before = {number: signal.signal(number, handle) for number in _SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if received:
        signal.raise_signal(received[0])
