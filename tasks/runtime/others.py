"""The other drivers of a stage, as one driver sees them through the files that they renew.

A driver lives as long as its file changes, by the clock of the one who looks: clocks of hosts are never compared. How
long ago a file changed that is seen for the first time follows from the own file, which the same store has dated.
"""

import logging
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

import numpy as np

from aai.workspace.drivers import DriverFile, Listed, list_drivers, read_drivers, remove_driver
from aai.workspace.store import Store
from tasks.runtime.hashes import from_bytes

RENEW_S = 10.0
"""How often a driver renews its file at least."""

DEAD_S = 60.0
"""A driver whose file has not changed for so long is dead. Network file systems show changes up to 30 s late."""

_REMOVE_S = 600.0
"""When the file of a dead driver is removed by others."""

_HANGS_S = 600.0
"""A driver that has finished nothing for so long, or for four times its longest item, may hang."""

_HANGS_TIMES = 4
_NUM_DESCRIBED = 3

_log = logging.getLogger(__name__)


@dataclass(eq=False)
class Other:
    """Another driver of the stage."""

    name: str
    version: tuple[str, ...]
    changed_s: float
    """When its file was last seen to change, by the own monotonic clock."""
    read_version: tuple[str, ...] | None = None
    file: DriverFile | None = None
    claims: np.ndarray | None = None
    """Sorted hashes of what it has in hand; None stands for everything."""
    progress_s: float = 0.0
    """When it was last seen to have finished something."""
    is_alive: bool = False
    """As of the last look."""
    is_given_up: bool = False

    def take_in(self, file: DriverFile | None, now_s: float) -> None:
        """Take in the contents of its file; a file of another version says nothing."""
        if self.file is None or file is None or file.num_finished != self.file.num_finished:
            self.progress_s, self.is_given_up = now_s, False
        hashes = b"" if file is None else file.hashes
        self.file, self.read_version = file, self.version
        self.claims = None if hashes is None else np.sort(from_bytes(hashes))

    def hangs(self, now_s: float, longest_s: float, min_s: float = _HANGS_S) -> bool:
        """Whether it has finished nothing for long, where a driver's longest item took some seconds."""
        longest_s = max(longest_s, self.file.longest_s if self.file else 0)
        return now_s - self.progress_s > max(min_s, _HANGS_TIMES * longest_s)

    def __str__(self) -> str:
        return str(self.file.process) if self.file else "a driver of another version"


class Others:
    """The other drivers of a stage."""

    def __init__(  # noqa: PLR0913
        self,
        store: Store,
        table: str,
        recipe: str,
        own: str,
        stage: str,
        clock: Callable[[], float],
        of_this_process: Collection[str],
    ) -> None:
        self._store, self._table, self._recipe, self._own = store, table, recipe, own
        self._stage, self._clock, self._of_this_process = stage, clock, of_this_process
        self._known: dict[str, Other] = {}

    def look(self, contents: bool) -> None:
        """List the files, and read those that are new; with `contents` also those that have changed.

        Raises:
            Transient: the store failed.
        """
        listed = {file.name: file for file in list_drivers(self._store, self._table, self._recipe)}
        now_s = self._clock()
        own = listed.pop(self._own, None)
        self._known = {name: self._seen(file, own, now_s) for name, file in listed.items()}
        unread = [
            other
            for other in self._known.values()
            if other.read_version is None or (contents and other.read_version != other.version)
        ]
        files = read_drivers(self._store, [other.name for other in unread])
        for other in unread:
            other.take_in(files.get(other.name), now_s)
        self._bury(now_s)

    def _seen(self, file: Listed, own: Listed | None, now_s: float) -> Other:
        other = self._known.get(file.name)
        if other is None:
            is_dated = own is not None and own.renewed_s and file.renewed_s
            age_s = max(0.0, own.renewed_s - file.renewed_s) if own is not None and is_dated else 0.0
            return Other(file.name, file.version, now_s - age_s)
        if other.version != file.version:
            other.version, other.changed_s = file.version, now_s
        return other

    def _bury(self, now_s: float) -> None:
        """Note who has died, and remove files that nobody will miss."""
        for other in self._known.values():
            is_killed = self._is_known_dead(other)
            is_dead = is_killed or now_s - other.changed_s > DEAD_S
            if is_dead and other.is_alive:
                _log.warning("%s: no sign of life from %s; its items are taken over", self._stage, other)
            other.is_alive = not is_dead
            if is_killed or now_s - other.changed_s > _REMOVE_S:
                remove_driver(self._store, other.name)

    def _is_known_dead(self, other: Other) -> bool:
        if other.file is None:
            return False
        if other.file.process.is_here():
            return other.name not in self._of_this_process
        return other.file.process.is_known_dead()

    def living(self) -> list[Other]:
        """Those that were at work at the last look."""
        return [other for other in self._known.values() if other.is_alive]

    def have_everything(self) -> bool:
        """Whether one of them takes itself for alone: it has not seen this driver yet."""
        return any(other.claims is None for other in self.living())

    def have(self, hashes: np.ndarray) -> np.ndarray:
        """Which of some items others have in hand, by what was last read."""
        found = np.zeros(len(hashes), bool)
        for other in self.living():
            if not other.is_given_up:
                found |= True if other.claims is None else np.isin(hashes, other.claims)
        return found

    def holders(self, hashes: np.ndarray) -> list[Other]:
        """Those that have some of the items in hand."""
        return [other for other in self.living() if other.claims is None or np.isin(hashes, other.claims).any()]

    def give_up_hanging(self, longest_s: float) -> None:
        """From now on ignore what a driver has in hand that finishes nothing."""
        now_s = self._clock()
        for other in self.living():
            if not other.is_given_up and other.hangs(now_s, longest_s):
                other.is_given_up = True
                minutes = (now_s - other.progress_s) / 60
                _log.warning(
                    "%s: %s has finished nothing for %.0f minutes; its items are done again",
                    self._stage,
                    other,
                    minutes,
                )


def described(others: Sequence[Other]) -> str:
    """Who some drivers are, in one phrase."""
    phrases = [str(other) for other in others[:_NUM_DESCRIBED]]
    if num_more := len(others) - len(phrases):
        phrases.append(f"and {num_more} more")
    return "; ".join(phrases)
