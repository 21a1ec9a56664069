"""The driver of all stages: pending rows go through a pool, and results are committed.

Completion follows from the rows alone, so a killed run resumes when it is started again, and a second run does nothing.
Only the driver commits; the rhythm of its commits keeps a run below a thousand of them.
"""

import logging
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from math import ceil
from threading import Event
from types import TracebackType

import pyarrow.compute as pc

from aai.errors import BadConfig
from aai.workspace import Workspace
from aai.workspace.shards import remove_unnamed
from tasks.runtime.options import PoolOptions, RunOptions
from tasks.runtime.presence import Presence
from tasks.runtime.rejects import RejectLog
from tasks.runtime.sharing import Finished, SharedSlices, closing_stream
from tasks.runtime.signals import stopping_on_signals
from tasks.runtime.stage import Note, Pending, Source
from tasks.runtime.work import Done, Effort, Pool, Reject, Worker
from tasks.runtime.workers import Workers

_REJECTS = "rejects"
_MAX_COMMITS_BY_SIZE = 300
_COMMIT_SHARE = 1 / 60  # of the time a run has taken: from 2 s on, 400 commits in 10 hours and 600 in a week

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
    note: Note | None = None
    """What to log of the counts of all outcomes."""
    workers: Workers | None = None
    """The workers of the command, which outlive the stage; without them it has its own."""


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
    effort: Effort | None = None
    """What its workers took; None for what the driver does by itself."""

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

    SIGTERM, SIGINT and SIGHUP stop it cleanly, and are then delivered again to the handlers that were there before; a
    second one ends it at once. Setting `stop` stops it cleanly, too.

    Raises:
        BadConfig: too many items were rejected, or the pool cannot start.
        Transient: the store failed, or a slice failed too often.
    """
    start_s = time.monotonic()
    stop = stop or Event()
    pending = stage.source.pending(options.retry_rejects)
    kept = stage.workers or Workers(keeps_actors=False)
    if pending.num:
        if progress:
            progress(0, pending.num, 0.0)
        start_s += kept.connect(pool)  # Ray's start is no part of the stage
    buffer = CommitBuffer(workspace, stage, options, pending, ceil(pending.num / pool.slice_size))
    effort = _work(replace(stage, workers=kept), pending, pool, buffer, progress, stop) if pending.num else None
    return StageSummary(
        stage.name,
        stage.recipe,
        done=pending.total - pending.num,
        new=buffer.num_new,
        rejected=buffer.num_rejected,
        took_s=time.monotonic() - start_s,
        stopped=stop.is_set(),
        effort=effort,
    )


def _work(
    stage: StageRun,
    pending: Pending,
    pool: PoolOptions,
    buffer: "CommitBuffer",
    progress: Progress | None,
    stop: Event,
) -> Effort:
    """Process what is pending, and return what the workers took for it."""
    assert stage.workers, "the stage has some by now"
    workers = stage.workers.open(stage.make_worker, buffer.id_column, pool, stage.gpu)
    size = _slice_size(pool, pending.num, workers)
    with stopping_on_signals(stop):
        with buffer.presence as presence:
            slices = _slices(stage, pending, buffer, presence, size, stop)
            # An error releases the workers first, then commits what is finished, then takes leave of other drivers.
            with closing_stream(iter(slices)) as given, buffer, closing_stream(workers.map(given, stop)) as results:
                for finished in results:
                    for done in finished:
                        buffer.add(done)
                        slices.finish(done.num_items)
                    buffer.commit_if_due()
                    buffer.check_rejects()
                    if progress and finished:
                        progress(*buffer.progress(slices.num_by_others))
        if stage.note and (sentence := stage.note(buffer.counts)):
            _log.warning("%s: %s", stage.name, sentence)
        if stop.is_set():
            _log.warning(
                "%s: stopped with %d of %d items finished; starting it again does the rest",
                stage.name,
                *buffer.progress(slices.num_by_others)[:2],
            )
    return workers.effort


def _slices(  # noqa: PLR0913
    stage: StageRun, pending: Pending, buffer: "CommitBuffer", presence: Presence, size: int, stop: Event
) -> SharedSlices:
    """The slices of a stage; in the order of the rows where rejected items are tried again."""
    return SharedSlices(
        presence,
        pending,
        buffer.commit,
        stage.source.pending,
        buffer.finished_by_others(),
        buffer.id_column,
        size,
        stop,
        buffer.may_jump,
    )


def _slice_size(pool: PoolOptions, num_items: int, workers: Pool) -> int:
    """The configured size, or less where some workers would get no slice otherwise."""
    return max(1, min(pool.slice_size, ceil(num_items / workers.num_workers)))


class CommitBuffer:
    """Buffers the results of workers and commits them, also when it is left by an error."""

    def __init__(
        self, workspace: Workspace, stage: StageRun, options: RunOptions, pending: Pending, num_slices: int
    ) -> None:
        self.num_new = 0
        self.num_rejected = 0
        self.num_rejected_items = 0
        self.counts: Counter[str] = Counter()
        self._workspace, self._stage, self._options, self._pending = workspace, stage, options, pending
        self._sink = workspace.table(stage.table)
        self._reject_table = workspace.table(_REJECTS)
        self._rejects = RejectLog(self._reject_table, stage.name, stage.recipe, options.retry_rejects)
        self._commit_slices = max(options.commit_slices, ceil(num_slices / _MAX_COMMITS_BY_SIZE))
        self._start_s = time.monotonic()
        self._buffered: list[Done] = []
        self._oldest_s = 0.0
        self._last_reject: Reject | None = None
        self._ids: list[str] = []
        self.presence = Presence(workspace.store, stage.table, stage.recipe, stage.name)
        """This driver among those of the stage; what is committed is no longer in its hands."""

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

    @property
    def may_jump(self) -> bool:
        """Whether slices may be taken in another order: not where items that this run rejects are pending again."""
        return not self._options.retry_rejects

    def finished_by_others(self) -> Finished:
        """What other runs finish from now on."""
        return Finished(partial(table.ids_of_others, self._stage.recipe) for table in (self._sink, self._reject_table))

    def add(self, done: Done) -> None:
        """Take in a finished slice."""
        if not self._buffered:
            self._oldest_s = time.monotonic()
        self._buffered.append(done)
        outcome = done.outcome
        self.counts += outcome.counts
        self._last_reject = next(reversed(outcome.rejects), self._last_reject)
        new = [] if outcome.rows is None else pc.unique(outcome.rows[self.id_column]).to_pylist()
        self._ids += [*new, *(reject.id for reject in outcome.rejects if reject.part_of is None)]
        self.num_new += len(new)
        self.num_rejected_items += done.num_items - len(new)
        self.num_rejected += len(outcome.rejects)

    def commit_if_due(self) -> None:
        """Commit when enough slices are buffered, or the oldest has waited long enough."""
        now_s = time.monotonic()
        max_wait_s = max(self._options.commit_s, (now_s - self._start_s) * _COMMIT_SHARE)
        is_due = self._buffered and now_s - self._oldest_s >= max_wait_s
        if is_due or len(self._buffered) >= self._commit_slices:
            self.commit()

    def commit(self) -> None:
        """Commit what is buffered.

        Repeating an append adds nothing. What belongs to an item is committed before the row that marks it as done, so
        that a kill in between loses nothing.
        """
        outcomes, recipe = [done.outcome for done in self._buffered], self._stage.recipe
        for name in sorted({name for outcome in outcomes for name in outcome.extra_tables}):
            tables = [outcome.extra_tables[name] for outcome in outcomes if name in outcome.extra_tables]
            self._workspace.table(name).append(recipe, *tables)
        self._rejects.append([reject for outcome in outcomes for reject in outcome.rejects])
        rows = [outcome.rows for outcome in outcomes if outcome.rows is not None]
        if self._sink.append(recipe, *rows) < sum(map(len, rows)):  # another driver has committed some of it before
            remove_unnamed(self._workspace, self._stage.table, recipe, rows)
        self._buffered.clear()
        self.presence.release(self._ids)
        self._ids.clear()

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

    def progress(self, num_by_others: int = 0) -> tuple[int, int, float]:
        """Finished items, their total without those that other runs have finished, and items per second."""
        finished = self.num_new + self.num_rejected_items
        return finished, self._pending.num - num_by_others, finished / max(time.monotonic() - self._start_s, 1e-9)
