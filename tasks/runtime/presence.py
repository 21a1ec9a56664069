"""How drivers of one stage know of each other, so that they do nothing twice: a lock that tells who holds it.

Each driver has a small file in the workspace, renewed by a thread, which says who it is and what it has in hand: its
claims. It writes what it wants, then reads what others have, and leaves what another one has or wants, too. Since both
write before they read, at least one of two sees the other. An item is claimed until its row is committed, so that
whoever reads claims, and then commits, knows of all that is done or in hand.

A driver that is alone claims everything, and needs no file operation for a slice. A new driver waits until such a
driver has seen it, which takes the thread a few seconds at most.
"""

import logging
import threading
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from types import TracebackType

import numpy as np

from aai.errors import AaiError
from aai.workspace.drivers import DriverFile, Process, new_name, remove_driver, write_driver
from aai.workspace.store import Store
from tasks.runtime.hashes import from_bytes, hash_of
from tasks.runtime.others import RENEW_S, Other, Others, described

_LOOK_SHARE = 0.03
"""Maximum share of the time in which the thread lists the files."""

_MIN_PAUSE_S, _MAX_PAUSE_S = 0.2, 2.0
_END_S = 10.0
"""How long the end of a stage may wait for a store that does not answer."""

_log = logging.getLogger(__name__)

_of_this_process: set[str] = set()
"""The files of drivers of this process; another one that names this process was left behind."""


class Presence:
    """This driver among those of a stage; use it as a context manager.

    Args:
        store: the workspace's.
        table: the table or artifact that the stage writes.
        recipe: its recipe.
        stage: its name in messages.
        clock: seconds, as `time.monotonic`.
    """

    def __init__(
        self, store: Store, table: str, recipe: str, stage: str, clock: Callable[[], float] = time.monotonic
    ) -> None:
        name = new_name(table, recipe)
        self.others = Others(store, table, recipe, name, stage, clock, _of_this_process)
        self.is_alone = True
        """Whether no other driver is known, so that everything is claimed."""
        self.num_met = 0
        """How often others came after this driver had been alone."""
        self._store, self._name, self._stage, self._clock = store, name, stage, clock
        self._lock = threading.RLock()
        self._end = threading.Event()
        self.process = Process.here()
        """What the file says of this driver."""
        self._held: dict[str, bytes | None] = {}
        self._begun_s: dict[str, float] = {}
        self._num_finished = self._renewals = 0
        self._longest_s, self._written_s = 0.0, -RENEW_S
        self._has_announced = self._is_blind = False

    def __enter__(self) -> "Presence":
        self.begin()
        threading.Thread(target=self._tend_until_end, name=f"presence in {self._stage}", daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end()

    def begin(self) -> None:
        """Write the file, and look who else is there."""
        _of_this_process.add(self._name)
        with self._lock, self._tolerant():
            self._write()
            self._look(contents=True)

    def end(self) -> None:
        """Remove the file. If the store does not answer, the others will count this driver as dead."""
        self._end.set()
        _of_this_process.discard(self._name)
        if self._lock.acquire(timeout=_END_S):
            try:
                with self._tolerant():
                    remove_driver(self._store, self._name)
            finally:
                self._lock.release()

    def tend(self) -> None:
        """What the thread does now and then: look who is there, and renew the file."""
        with self._lock, self._tolerant():
            if self._end.is_set():
                return
            self._look(contents=False)
            if not self.is_alone and not self.others.living():
                self.is_alone = True
                self._write()
                self._look(contents=False)  # at another one that came meanwhile
            elif self._clock() - self._written_s >= RENEW_S:
                self._write()

    def claim(self, ids: Sequence[str]) -> np.ndarray | None:
        """Which of some items this driver may do now; they are claimed until they are released.

        None if that is not known yet, because another driver has not seen this one: ask again in a moment.
        """
        with self._lock:
            self._held.update(dict.fromkeys(ids))
            self._begun_s[ids[0]] = self._clock()
            if self.is_alone:
                return np.ones(len(ids), bool)
            with self._tolerant():
                self._write()
                self._look(contents=True)
                if self.others.have_everything():
                    return None
                is_free = ~self.others.have(from_bytes(b"".join(map(hash_of, ids))))
                if not is_free.all():
                    self.release(
                        [item_id for item_id, mine in zip(ids, is_free, strict=True) if not mine], is_done=False
                    )
                    self._write()  # so that nobody else leaves them, too
                return is_free
        return np.ones(len(ids), bool)

    def release(self, ids: Collection[str], is_done: bool = True) -> None:
        """Take in that some items are committed, or are left to others."""
        with self._lock:
            now_s = self._clock()
            for item_id in ids:
                self._held.pop(item_id, None)
                if item_id in self._begun_s:
                    took_s = now_s - self._begun_s.pop(item_id)
                    self._longest_s = max(self._longest_s, took_s if is_done else 0)

    def finish(self, num_items: int = 1) -> None:
        """Take in that something is finished, so that this driver does not seem to hang."""
        self._num_finished += num_items

    def look(self) -> bool:
        """Read what others have in hand; whether that was possible, and everyone knows of this driver."""
        with self._lock, self._tolerant():
            self._look(contents=True)
            return not self.others.have_everything()
        return True

    def give_up_hanging(self) -> None:
        """From now on ignore what a driver has in hand that finishes nothing."""
        self.others.give_up_hanging(self._longest_s)

    def say_waiting(self, hashes: np.ndarray) -> None:
        """Say for whom this driver waits."""
        who = described(self.others.holders(hashes)) or "others"
        _log.warning("%s: waits for what is in the hands of %s", self._stage, who)

    def rank(self) -> tuple[int, int]:
        """This driver's number among those at work, by the time of their start, and how many they are."""
        own = (self.process.since, self._name)
        others = [(other.file.process.since if other.file else "", other.name) for other in self.others.living()]
        return sum(other < own for other in others), len(others) + 1

    def _look(self, contents: bool) -> None:
        """Look at the others' files; with others there, this driver claims no more than it has in hand."""
        self.others.look(contents)
        if living := self.others.living():
            if self.is_alone:
                self.is_alone = False
                self.num_met += 1
                self._write()
            self._announce(living)
        self._is_blind = False

    def _write(self) -> None:
        self._renewals += 1
        claims = None if self.is_alone else DriverFile.encoded(b"".join(self._hashes()))
        file = DriverFile(
            process=self.process,
            num_finished=self._num_finished,
            longest_s=self._longest_s,
            renewals=self._renewals,
            claims=claims,
        )
        write_driver(self._store, self._name, file)
        self._written_s = self._clock()

    def _hashes(self) -> Iterator[bytes]:
        for item_id, known in self._held.items():
            if known is None:
                self._held[item_id] = known = hash_of(item_id)
            yield known

    def _announce(self, living: Sequence[Other]) -> None:
        """Say who else is at work, once for a stage."""
        if not self._has_announced:
            self._has_announced = True
            _log.warning("%s: also at work: %s; the work is shared", self._stage, described(living))

    @contextmanager
    def _tolerant(self) -> Iterator[None]:
        """Go on without the others where the store refuses the files: results are right, but work may be done twice."""
        try:
            yield
        except AaiError as error:
            if not self._is_blind:
                _log.warning("%s: other drivers are not seen now (%s); work may be done twice", self._stage, error)
            self._is_blind = True

    def _tend_until_end(self) -> None:
        pause_s = _MIN_PAUSE_S
        while not self._end.wait(pause_s):
            start_s = time.monotonic()
            self.tend()
            pause_s = min(max(_MIN_PAUSE_S, (time.monotonic() - start_s) / _LOOK_SHARE), _MAX_PAUSE_S)
