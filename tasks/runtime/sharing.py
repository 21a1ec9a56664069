"""The slices of a stage, where other drivers may be at work on the same items.

Right results need no lock, because an append skips rows that are stored. But two drivers that take the same slices at
the same time do all the work twice. So a driver claims a slice before it hands it out (`tasks.runtime.presence`), and
leaves out what others have in hand or have finished. Drivers begin at different slices; one that meets another jumps to
a random later slice, and comes back for the rest. At the end it waits for what others have in hand while they live.
"""

import time
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager
from itertools import islice
from random import SystemRandom
from threading import Event
from typing import TypeVar

import numpy as np
import pyarrow as pa

from tasks.runtime.hashes import NONE, HashSet, hashes_of
from tasks.runtime.presence import Presence
from tasks.runtime.stage import Pending

_LOOK_SHARE = 0.01
"""Maximum share of the time in which a driver that is alone looks at commits."""

_CLAIM_SHARE = 0.05
"""Maximum share of the time in which a driver beside others claims slices."""

_MAX_CLAIM = 64
"""Maximum number of slices that are claimed at a time."""

_MIN_WAIT_S, _MAX_WAIT_S, _WAIT_TIMES = 0.05, 5.0, 10
_QUIET_S = 5.0
"""How long a driver waits for others before it says so."""

StreamT = TypeVar("StreamT", bound=Iterable[object])

_random = SystemRandom()  # the order of slices changes no result, so it needs no seed


class Finished:
    """The items that other drivers have finished since this one began, and those that it has taken beside others."""

    def __init__(self, looks: Iterable[Callable[[], Iterable[str]]]) -> None:
        self._looks = list(looks)
        self._hashes = HashSet()
        self._next_look_s = 0.0
        self.look()

    def look(self) -> None:
        """Look at the newest commits."""
        for look in self._looks:
            self._hashes.add(hashes_of(look()))

    def look_now_and_then(self) -> None:
        """Look at the newest commits, unless that was done a moment ago."""
        start_s = time.monotonic()
        if start_s >= self._next_look_s:
            self.look()
            self._next_look_s = start_s + (time.monotonic() - start_s) / _LOOK_SHARE

    def add(self, hashes: np.ndarray) -> None:
        """Take in items that need not be looked at again."""
        self._hashes.add(hashes)

    def have(self, hashes: np.ndarray) -> np.ndarray:
        """Which of some items are finished."""
        return self._hashes.contains(hashes)

    def __len__(self) -> int:
        return len(self._hashes)


class SharedSlices:
    """Slices of pending rows. Iterating yields None while it waits for the results of earlier slices.

    Args:
        presence: this driver among the others of the stage.
        pending: the pending items.
        commit: commits what is finished.
        again: counts the items that are pending then.
        finished: the items that other drivers have finished.
        id_column: the column with the item's id.
        size: rows of a slice.
        stop: ends the slices once it is set.
        may_jump: whether slices may be taken in another order.
    """

    def __init__(  # noqa: PLR0913
        self,
        presence: Presence,
        pending: Pending,
        commit: Callable[[], object],
        again: Callable[[], Pending],
        finished: Finished,
        id_column: str,
        size: int,
        stop: Event,
        may_jump: bool = True,
    ) -> None:
        self._presence, self._pending, self._commit, self._again = presence, pending, commit, again
        self._finished, self._id_column, self._size, self._stop = finished, id_column, size, stop
        self._may_jump = may_jump
        self._num_given = self._num_done = 0
        self._num_met = 0
        self._has_met = False
        self._left: list[np.ndarray] = []
        self._pace = _Pace()
        self.num_by_others = 0
        """Pending items that other drivers have finished."""

    def __iter__(self) -> Generator[pa.Table | None]:
        pending, has_given = self._pending, True
        while True:
            num_before = self._num_given
            yield from self._pass(pending, self._may_jump and has_given)
            has_given = self._num_given > num_before
            while self._num_done < self._num_given:
                yield None
            if not self._is_some_free():
                return
            pending = self._again()
            self.num_by_others = max(0, self._pending.num - self._num_given - pending.num)

    def finish(self, num_items: int) -> None:
        """Take in that some items are done."""
        self._num_done += num_items
        self._presence.finish(num_items)

    def _pass(self, pending: Pending, may_jump: bool) -> Generator[pa.Table | None]:
        """Go once through pending rows; `_left` has the others."""
        num_left, num_to_skip = pending.num, self._first(pending.num) if may_jump else 0
        self._left = []
        with closing_stream(pending.rows):
            slices = slices_of(pending.rows, self._size)
            while chunk := list(islice(slices, self._num_to_claim(num_left))):
                rows = pa.concat_tables(chunk)
                num_left -= rows.num_rows
                if num_to_skip > 0:
                    num_to_skip -= rows.num_rows
                    self._left.append(hashes_of(rows[self._id_column].to_pylist()))
                    continue
                self._has_met = False
                yield from self._claimed(rows)
                if may_jump and self._has_met and num_left > 0:
                    num_to_skip = _random.randrange(num_left)

    def _first(self, num: int) -> int:
        """The number of rows to skip, so that drivers that begin together begin at different slices."""
        rank, num_drivers = self._presence.rank()
        return rank * -(-num // self._size) // num_drivers * self._size

    def _num_to_claim(self, num_left: int) -> int:
        """The number of slices to be claimed at a time, which leaves some to the others at the end of a stage."""
        if self._presence.is_alone:
            return 1
        _, num_drivers = self._presence.rank()
        return max(1, min(self._pace.num_slices, num_left // self._size // (2 * num_drivers)))

    def _claimed(self, rows: pa.Table) -> Generator[pa.Table | None]:
        """Those of some rows that this driver may do, in slices."""
        num_met, is_alone = self._presence.num_met, self._presence.is_alone
        if is_alone:
            self._look_alone(num_met)
        elif self._presence.others.have_everything():
            yield from self._until_known()
        rows = self._without_known(rows)
        if not rows.num_rows:
            return
        ids = rows[self._id_column].to_pylist()
        start_s = time.monotonic()
        while (is_mine := self._presence.claim(ids)) is None:
            yield from self._until_known()
            if self._stop.is_set():
                return
            start_s = time.monotonic()
        if not (is_alone and self._presence.num_met == num_met):
            rows = self._mine(rows, ids, is_mine)
            self._pace.claimed(start_s)
        for mine in slices_of([rows], self._size):
            self._num_given += mine.num_rows
            yield mine

    def _look_alone(self, num_met: int) -> None:
        """Look at commits: once after others were there, and then now and then for drivers that cannot be seen."""
        if num_met == self._num_met:
            self._finished.look_now_and_then()
        else:
            self._finished.look()
            self._num_met = num_met

    def _without_known(self, rows: pa.Table) -> pa.Table:
        """Rows without those that others have finished or in hand, as far as is known without another look."""
        if self._presence.is_alone and not len(self._finished):
            return rows
        hashes = hashes_of(rows[self._id_column].to_pylist())
        is_finished = self._finished.have(hashes)
        is_taken = self._presence.others.have(hashes) & ~is_finished
        self.num_by_others += int(is_finished.sum())
        self._leave(hashes[is_taken])
        return rows.filter(pa.array(~(is_finished | is_taken)))

    def _mine(self, rows: pa.Table, ids: list[str], is_mine: np.ndarray) -> pa.Table:
        """The rows that this driver has claimed, without those that were committed just before."""
        hashes = hashes_of(ids)
        self._finished.look()  # after the claims: what nobody has in hand any more is committed
        is_finished = self._finished.have(hashes)
        self._presence.release([ids[number] for number in np.flatnonzero(is_mine & is_finished)], is_done=False)
        self.num_by_others += int(is_finished.sum())
        self._leave(hashes[~is_mine & ~is_finished])
        is_mine = is_mine & ~is_finished
        self._finished.add(hashes[is_mine])
        return rows.filter(pa.array(is_mine))

    def _leave(self, hashes: np.ndarray) -> None:
        """Take in that others have some items in hand."""
        self._left.append(hashes)
        self._has_met = self._has_met or len(hashes) > 0

    def _until_known(self) -> Generator[None]:
        """Wait until the others have seen this driver."""
        start_s = time.monotonic()
        while not self._stop.is_set() and not self._presence.look():
            if self._num_done < self._num_given:
                yield None
            else:
                _wait_after(start_s)
            start_s = time.monotonic()

    def _is_some_free(self) -> bool:
        """Wait until all that was left is finished, or some of it is in nobody's hands."""
        left = np.concatenate([NONE, *self._left])
        if not len(left):
            return False
        self._commit()  # the others may wait for it
        begun_s = said_s = time.monotonic()
        while not self._stop.is_set():
            start_s = time.monotonic()
            is_known = self._presence.look()
            is_free = ~self._presence.others.have(left)
            self._finished.look()  # after the claims, as above
            is_open = ~self._finished.have(left)
            is_free, left = is_free[is_open], left[is_open]
            if not len(left):
                return False
            if is_known and is_free.any():
                time.sleep(_random.uniform(0, 2 * _MIN_WAIT_S))  # others may wait for it, too
                return True
            if said_s == begun_s and start_s - begun_s > _QUIET_S:
                said_s = start_s
                self._presence.say_waiting(left)
            self._presence.give_up_hanging()
            _wait_after(start_s)
        return False


class _Pace:
    """How many slices are claimed at a time: so many that claiming them takes a small share of the time."""

    def __init__(self) -> None:
        self.num_slices = 1
        self._end_s = 0.0

    def claimed(self, start_s: float) -> None:
        """Take in that claiming began at some time, and has ended now."""
        now_s = time.monotonic()
        took_s, allowed_s = now_s - start_s, (start_s - self._end_s) * _CLAIM_SHARE
        if took_s > allowed_s:
            self.num_slices = min(2 * self.num_slices, _MAX_CLAIM)
        elif took_s < allowed_s / 4:
            self.num_slices = max(1, self.num_slices // 2)
        self._end_s = now_s


def _wait_after(start_s: float) -> None:
    """Wait several times as long as what began at some time has taken."""
    time.sleep(min(max(_MIN_WAIT_S, (time.monotonic() - start_s) * _WAIT_TIMES), _MAX_WAIT_S))


def is_sole_maker(presence: Presence, item: str, is_made: Callable[[], bool], stop: Event) -> bool:
    """Whether this driver is to make something that only one should; waits as long as another one makes it.

    Args:
        presence: this driver among those that might make it.
        item: the name of what is to be made.
        is_made: whether it is there.
        stop: ends the waiting once it is set.
    """
    begun_s = said_s = time.monotonic()
    while not stop.is_set():
        start_s = time.monotonic()
        is_mine = presence.claim([item])
        if is_made():
            return False
        if is_mine is not None and is_mine.all():
            return True
        if said_s == begun_s and start_s - begun_s > _QUIET_S:
            said_s = start_s
            presence.say_waiting(hashes_of([item]))
        presence.give_up_hanging()
        time.sleep(_random.uniform(0, 2 * _MIN_WAIT_S))
        _wait_after(start_s)
    return False


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
