"""The one driver of all stages: what is pending goes through a pool, what comes back is appended.

Nothing but the rows themselves says what is done, so a run that was killed is continued by starting it again, and a
second run does nothing. The driver alone commits; it does so in a rhythm that keeps a run below a thousand commits.
"""

import logging
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from math import ceil
from threading import Event
from types import FrameType, TracebackType

import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field

from aai.errors import BadConfig
from aai.options import Options
from aai.workspace import SCHEMAS, Workspace
from tasks.runtime.tables import Source
from tasks.runtime.work import Done, LocalPool, Pool, PoolOptions, Reject, Worker

_REJECTS = "rejects"
_MAX_COMMITS_BY_SIZE = 300
_COMMIT_SHARE = 1 / 60  # of the time a run has taken: from 2 s on, 400 commits in 10 hours and 600 in a week
_SIGNALS = (signal.SIGTERM, signal.SIGINT)

_log = logging.getLogger(__name__)

Progress = Callable[[int, int, float], None]
"""Told how many items are finished, of how many, and how many per second."""


class StageOptions(Options):
    """When a stage commits, and when it gives up."""

    max_reject_fraction: float = Field(0.5, ge=0, le=1)
    """The stage stops once more than this share of its items was rejected."""

    retry_rejects: bool = False
    """Whether items that were rejected before are tried again."""

    commit_slices: int = Field(32, gt=0)
    """Finished slices that make a commit; more in a run of more than 10,000 slices."""

    commit_s: float = Field(2, gt=0)
    """Longest time a finished slice waits for its commit; more in a run of more than two minutes."""


@dataclass(frozen=True)
class Stage:
    """What one stage reads, does and writes."""

    name: str
    source: Source
    sink: str
    recipe: str
    make_worker: Callable[[], Worker]
    """Called where the worker will be, as it loads a model; `functools.partial` gives a class its options."""

    @property
    def id_column(self) -> str:
        """The column with the item's id, in the source's rows and the sink's."""
        return SCHEMAS[self.sink].id


@dataclass(frozen=True)
class StageSummary:
    """What a run of a stage did."""

    stage: str
    recipe: str
    done: int
    """Items with which there was nothing to do: they had rows, or had been rejected."""
    new: int
    """Items that have rows now."""
    rejected: int
    """Items that this run rejected."""
    took_s: float
    rate: float
    """Items per second."""
    stopped: bool = False
    """Whether it was told to stop before all was done."""


def run_stage(
    workspace: Workspace,
    stage: Stage,
    pool: PoolOptions,
    options: StageOptions,
    progress: Progress | None = None,
    stop: Event | None = None,
) -> StageSummary:
    """Do what is pending. Whatever ends it, finished slices are committed; starting it again does the rest.

    SIGTERM and SIGINT stop it cleanly and are then delivered again to whom they would have reached; a second one ends
    it at once. Setting `stop` stops it cleanly, too.

    Raises:
        BadConfig: too many items were rejected, or the pool cannot start.
        Transient: the store failed, or a slice failed too often.
    """
    start_s = time.monotonic()
    stop = stop or Event()
    total = pc.unique(stage.source.ids())
    ids = workspace.undone(pa.chunked_array([total]), stage.sink, stage.recipe, options.retry_rejects)
    books = _Books(workspace, stage, options, len(ids), ceil(len(ids) / pool.slice_size), start_s)
    if len(ids):
        _work(stage, ids, pool, books, progress, stop)
    return books.summary(len(total) - len(ids), stop.is_set())


def _work(
    stage: Stage, ids: pa.ChunkedArray, pool: PoolOptions, books: "_Books", progress: Progress | None, stop: Event
) -> None:
    workers = open_pool(stage.make_worker, stage.id_column, pool)
    with _stopping_on_signals(stop):
        with books:
            for finished in workers.map(slices_of(stage.source.rows(ids), pool.slice_size), stop):
                for done in finished:
                    books.enter(done)
                books.commit_if_due()
                books.check_rejects()
                if progress and finished:
                    progress(*books.progress())
        if stop.is_set():
            _log.warning(
                "%s: stopped with %d of %d items finished; starting it again does the rest",
                stage.name,
                *books.progress()[:2],
            )


def open_pool(make_worker: Callable[[], Worker], id_column: str, options: PoolOptions) -> Pool:
    """Workers in this process or on Ray, as the options say.

    Raises:
        BadConfig: the Ray cluster does not answer.
    """
    if options.num_workers == 0:
        return LocalPool(make_worker, id_column, options)
    from tasks.runtime.ray_pool import RayPool  # Ray's import takes a second: only who needs it pays

    return RayPool(make_worker, id_column, options)


def slices_of(tables: Iterable[pa.Table], size: int) -> Iterator[pa.Table]:
    """Tables cut into slices; the last of each table may be shorter."""
    for table in tables:
        for first in range(0, table.num_rows, size):
            yield table.slice(first, size)


class _Books:
    """What came back: gathered, counted and committed; left in whatever way, all of it is committed."""

    def __init__(
        self,
        workspace: Workspace,
        stage: Stage,
        options: StageOptions,
        num_items: int,
        num_slices: int,
        start_s: float,
    ) -> None:
        self.num_new = 0
        self.num_rejected = 0
        self.num_rejected_items = 0
        self._num_parts = 0
        self._workspace = workspace
        self._sink = workspace.table(stage.sink)
        self._rejects = workspace.table(_REJECTS)
        self._stage = stage
        self._options = options
        self._num_items = num_items
        self._commit_slices = max(options.commit_slices, ceil(num_slices / _MAX_COMMITS_BY_SIZE))
        self._start_s = start_s
        self._gathered: list[Done] = []
        self._since_s = 0.0
        self._last: Reject | None = None

    def __enter__(self) -> "_Books":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.commit()

    def enter(self, done: Done) -> None:
        """Take a finished slice in."""
        if not self._gathered:
            self._since_s = time.monotonic()
        self._gathered.append(done)
        self._last = next(reversed(done.outcome.rejects), self._last)
        made = 0 if done.outcome.rows is None else len(pc.unique(done.outcome.rows[self._stage.id_column]))
        self.num_new += made
        self.num_rejected_items += done.num_items - made
        self.num_rejected += len(done.outcome.rejects)
        self._num_parts += done.outcome.num_parts

    def commit_if_due(self) -> None:
        """Commit when enough is gathered, or has waited long enough."""
        now_s = time.monotonic()
        longest_s = max(self._options.commit_s, (now_s - self._start_s) * _COMMIT_SHARE)
        if len(self._gathered) >= self._commit_slices or (self._gathered and now_s - self._since_s >= longest_s):
            self.commit()

    def commit(self) -> None:
        """Commit what is gathered; an append that is repeated adds nothing."""
        outcomes = [done.outcome for done in self._gathered]
        for name in sorted({name for outcome in outcomes for name in outcome.others}):
            others = [outcome.others[name] for outcome in outcomes if name in outcome.others]
            self._workspace.table(name).append(self._stage.recipe, *others)
        self._sink.append(self._stage.recipe, *[outcome.rows for outcome in outcomes if outcome.rows is not None])
        rejects = [reject for outcome in outcomes for reject in outcome.rejects]
        self._rejects.append(self._stage.recipe, self._reject_rows(rejects))
        self._gathered.clear()

    def check_rejects(self) -> None:
        """Stop a stage that most items are too bad for: then it is rather the stage that is wrong.

        Raises:
            BadConfig: too many items were rejected.
        """
        num_all = self._num_items + self._num_parts
        if self.num_rejected <= self._options.max_reject_fraction * num_all:
            return
        assert self._last is not None, "who counts rejects has seen one"
        raise BadConfig(
            f"max_reject_fraction: {self._stage.name} rejected {self.num_rejected} of {num_all} items, more "
            f"than {self._options.max_reject_fraction:g}, at last {self._last.id} ({self._last.sentence}): "
            f"look into the table `{_REJECTS}`, or raise the fraction"
        )

    def progress(self) -> tuple[int, int, float]:
        """Items finished, of how many, and how many per second."""
        finished = self.num_new + self.num_rejected_items
        return finished, self._num_items, finished / (time.monotonic() - self._start_s)

    def summary(self, num_done_before: int, stopped: bool) -> StageSummary:
        """What the run did."""
        _, _, rate = self.progress()
        return StageSummary(
            stage=self._stage.name,
            recipe=self._stage.recipe,
            done=num_done_before,
            new=self.num_new,
            rejected=self.num_rejected,
            took_s=time.monotonic() - self._start_s,
            rate=rate,
            stopped=stopped,
        )

    def _reject_rows(self, rejects: list[Reject]) -> pa.Table:
        rows = [asdict(reject) | {"stage": self._stage.name} for reject in rejects]
        return pa.Table.from_pylist(rows, schema=self._rejects.schema.columns)


@contextmanager
def _stopping_on_signals(stop: Event) -> Iterator[None]:
    """Set `stop` at the first signal; afterwards, restore the handlers and deliver the signal again.

    Only the main thread may handle signals: elsewhere, whoever started the thread sets `stop`.
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
