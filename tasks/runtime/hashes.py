"""Ids as numbers of 64 bits: for telling other processes of many of them, and for keeping millions."""

from collections.abc import Iterable
from hashlib import blake2b

import numpy as np

NUM_BYTES = 8

NONE = np.empty(0, np.int64)
"""No hashes."""


def hash_of(item_id: str) -> bytes:
    """Eight bytes, the same in every process.

    That two of five million ids have the same ones happens once in a million runs.
    """
    return blake2b(item_id.encode(), digest_size=NUM_BYTES).digest()


def hashes_of(ids: Iterable[str]) -> np.ndarray:
    """The hashes of some ids as numbers, in their order."""
    return from_bytes(b"".join([hash_of(item_id) for item_id in ids]))


def from_bytes(hashes: bytes) -> np.ndarray:
    """Hashes that stand one after the other, as numbers."""
    return np.frombuffer(hashes, np.int64)


class HashSet:
    """A set of hashes in 8 bytes each: sorted arrays of growing sizes, so that adding a few does not move all."""

    def __init__(self) -> None:
        self._arrays: list[np.ndarray] = []

    def __len__(self) -> int:
        return sum(map(len, self._arrays))

    def add(self, hashes: np.ndarray) -> None:
        """Add hashes; the same one may be added again."""
        if not len(hashes):
            return
        self._arrays.append(np.sort(hashes))
        while len(self._arrays) > 1 and len(self._arrays[-2]) <= 2 * len(self._arrays[-1]):
            last, before = self._arrays.pop(), self._arrays.pop()
            self._arrays.append(np.sort(np.concatenate([before, last]), kind="stable"))

    def contains(self, hashes: np.ndarray) -> np.ndarray:
        """Which of some hashes are in the set."""
        found = np.zeros(len(hashes), bool)
        for array in self._arrays:
            found |= array[np.minimum(np.searchsorted(array, hashes), len(array) - 1)] == hashes
        return found
