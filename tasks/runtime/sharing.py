"""The slices of a stage, where other runs may be at work on the same items.

Right results need no lock, because an append skips rows that are stored. But two runs that take the same slices at the
same time do all the work twice. So each run looks at the newest commits before it hands out a slice, and leaves out
what others have finished. Where it meets another run it jumps to a random later slice, and comes back for the rest.
"""

import time
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager
from random import SystemRandom
from typing import TypeVar

import numpy as np
import pyarrow as pa

from tasks.runtime.stage import Pending

_LOOK_SHARE = 0.05
"""Maximum share of the time that is spent on looking at commits."""

StreamT = TypeVar("StreamT", bound=Iterable[object])

_random = SystemRandom()  # the order of slices changes no result, so it needs no seed


class Finished:
    """The items that other runs have finished since this one began.

    Of each id 8 bytes of a hash are kept in order: 40 MB for five million. That two of as many ids have the same hash
    happens once in 500,000 runs; then an item is left to the next run.
    """

    def __init__(self, looks: Iterable[Callable[[], Iterable[str]]]) -> None:
        self._looks = list(looks)
        self._hashes = np.empty(0, np.int64)
        self._next_look_s = 0.0
        self._look()

    def look(self) -> bool:
        """Look at the newest commits; whether there are some of other runs."""
        now_s = time.monotonic()
        if now_s < self._next_look_s:
            return False
        num_new = self._look()
        took_s = time.monotonic() - now_s
        self._next_look_s = now_s + took_s / _LOOK_SHARE
        return num_new > 0

    def without(self, rows: pa.Table, id_column: str) -> pa.Table:
        """The rows of items that no other run has finished."""
        if not len(self._hashes):
            return rows
        hashes = _hashes_of(rows[id_column].to_pylist())
        nearest = self._hashes[np.minimum(np.searchsorted(self._hashes, hashes), len(self._hashes) - 1)]
        return rows.filter(pa.array(nearest != hashes))

    def _look(self) -> int:
        new = np.concatenate([_hashes_of(look()) for look in self._looks])
        if len(new):
            self._hashes = np.sort(np.concatenate([self._hashes, new]), kind="stable")
        return len(new)


def _hashes_of(ids: Iterable[str]) -> np.ndarray:
    return np.fromiter(map(hash, ids), np.int64)


class SharedSlices:
    """Slices of pending rows. Iterating yields None while it waits for the results of earlier slices.

    Args:
        pending: the pending items.
        again: commits what is finished, and counts the items that are pending then.
        finished: the items that other runs have finished.
        id_column: the column with the item's id.
        size: rows of a slice.
        may_jump: whether slices may be taken in another order.
    """

    def __init__(  # noqa: PLR0913
        self,
        pending: Pending,
        again: Callable[[], Pending],
        finished: Finished,
        id_column: str,
        size: int,
        may_jump: bool = True,
    ) -> None:
        self._pending, self._again, self._finished = pending, again, finished
        self._id_column, self._size, self._may_jump = id_column, size, may_jump
        self._num_given = self._num_done = 0
        self._has_skipped = self._has_met = self._is_beside = False
        self.num_by_others = 0
        """Pending items that other runs have finished."""

    def __iter__(self) -> Generator[pa.Table | None]:
        yield from self._pass(self._pending, 0)
        while self._has_skipped:
            while self._num_done < self._num_given:
                yield None
            pending = self._again()
            self.num_by_others = self._pending.num - self._num_given - pending.num
            first = _random.randrange(pending.num) if pending.num and self._finished.look() else 0
            yield from self._pass(pending, first)

    def finish(self, num_items: int) -> None:
        """Take in that some items are done."""
        self._num_done += num_items

    def meet(self) -> None:
        """Take in that another run did the same slice at the same time."""
        self._is_beside = True

    def _pass(self, pending: Pending, num_to_skip: int) -> Generator[pa.Table]:
        """Slices of some pending rows, from a position on."""
        num_left, self._has_skipped = pending.num, False
        with closing_stream(pending.rows):
            for rows in slices_of(pending.rows, self._size):
                num_left -= rows.num_rows
                if num_to_skip <= 0 and (left := self._left_of(rows)).num_rows:
                    num_to_skip = self._jump(num_left + rows.num_rows)
                    if num_to_skip <= 0:
                        self._num_given += left.num_rows
                        yield left
                        continue
                if num_to_skip > 0:
                    num_to_skip, self._has_skipped = num_to_skip - rows.num_rows, True

    def _left_of(self, rows: pa.Table) -> pa.Table:
        """The rows that no other run has finished."""
        if self._finished.look() and not self._has_met:
            self._has_met = self._is_beside = True
        left = self._finished.without(rows, self._id_column)
        self._is_beside = self._is_beside or left.num_rows < rows.num_rows
        self.num_by_others += rows.num_rows - left.num_rows
        return left

    def _jump(self, num_left: int) -> int:
        """How many rows to skip: a random number beside another run, and at the first sign of one."""
        is_beside, self._is_beside = self._is_beside, False
        return _random.randrange(num_left) if is_beside and self._may_jump else 0


def slices_of(tables: Iterable[pa.Table], size: int) -> Iterator[pa.Table]:
    """Cut tables into slices; the last of each table may be shorter."""
    for table in tables:
        for first in range(0, table.num_rows, size):
            yield table.slice(first, size)


@contextmanager
def closing_stream(stream: StreamT) -> Iterator[StreamT]:
    """Close a stream that was not read to its end: one of rows holds a connection, one of results its workers."""
    try:
        yield stream
    finally:
        if isinstance(stream, Generator):
            stream.close()
