"""Vectors of pairs in memory-mapped files: a training reads them from disk in order, and holds a few batches.

audio.npy image.npy text.npy     a row per pair, half precision; the texts only where there are any
facts.npy                        a row per pair: sound, picture, class, part
pairs.json                       how many pairs, and the digest of what they were made from; written last
"""

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int64
from numpy.lib.format import open_memmap

from aai.errors import BadConfig

TRAIN, VALIDATION, HELD_OUT, LEFT_OUT, MISALIGNED = range(5)
"""What pairs are for; frames that are not chosen and misaligned pairs are for nothing."""

_SOUND, _PICTURE, _CLASS, _PART = range(4)
_MARK = "pairs.json"
_BLOCK = 32
"""Pairs that are read together: neighbours on disk."""
_BUFFERED = 32
"""Batches whose pairs are shuffled together in memory."""


@dataclass(frozen=True)
class PairVectors:
    """Pairs with their vectors, in a folder."""

    audio: Float[np.ndarray, "pairs audio_dim"]
    image: Float[np.ndarray, "pairs image_dim"] | None
    text: Float[np.ndarray, "pairs image_dim"] | None
    """Zero for a pair without a text."""
    facts: Int64[np.ndarray, "pairs 4"]

    @classmethod
    def open(cls, folder: Path) -> "PairVectors":
        """The pairs in a folder, read from disk as they are used."""

        def mapped(name: str) -> np.ndarray:
            array: np.ndarray = np.load(folder / f"{name}.npy", mmap_mode="r")
            return array

        image, text = (mapped(name) if (folder / f"{name}.npy").exists() else None for name in ("image", "text"))
        return cls(mapped("audio"), image, text, mapped("facts"))

    def __len__(self) -> int:
        return len(self.facts)

    @property
    def sounds(self) -> Int64[np.ndarray, " pairs"]:
        """The number of each pair's sound; several pairs may have the same."""
        return self.facts[:, _SOUND]

    @property
    def pictures(self) -> Int64[np.ndarray, " pairs"]:
        """The number of each pair's image."""
        return self.facts[:, _PICTURE]

    @property
    def classes(self) -> Int64[np.ndarray, " pairs"]:
        """The number of each pair's label; -1 without one."""
        return self.facts[:, _CLASS]

    @property
    def parts(self) -> Int64[np.ndarray, " pairs"]:
        """What each pair is for."""
        return self.facts[:, _PART]

    def members(self, part: int) -> Int64[np.ndarray, " pairs"]:
        """The pairs of a part."""
        return np.flatnonzero(self.parts == part)


def digest_in(folder: Path) -> str | None:
    """The digest of the pairs in a folder; none if they are not complete."""
    try:
        return str(json.loads((folder / _MARK).read_text())["digest"])
    except (OSError, ValueError, KeyError):
        return None


class PairWriter:
    """Writes the vectors of pairs; `finish` makes them complete.

    Raises:
        BadConfig: the folder cannot be written, or the disk is full.
    """

    def __init__(self, folder: Path, num: int, dims: Mapping[str, int]) -> None:
        self.folder, self._num = folder, num
        try:
            folder.mkdir(parents=True, exist_ok=True)
            for path in (folder / _MARK, *(folder / f"{name}.npy" for name in ("audio", "image", "text", "facts"))):
                path.unlink(missing_ok=True)
            self.arrays = {
                name: open_memmap(folder / f"{name}.npy", "w+", np.float16, (num, dim)) for name, dim in dims.items()
            }
        except OSError as error:
            raise BadConfig(f"it cannot be written ({error.strerror})", key="output", uri=str(folder)) from error

    def view(self, facts: Int64[np.ndarray, "pairs 4"]) -> PairVectors:
        """The pairs as they are written so far."""
        return PairVectors(self.arrays["audio"], self.arrays.get("image"), self.arrays.get("text"), facts)

    def finish(self, facts: Int64[np.ndarray, "pairs 4"], digest: str) -> PairVectors:
        """Write what is known of the pairs, and mark them as complete."""
        for array in self.arrays.values():
            array.flush()
        self.arrays = {}
        np.save(self.folder / "facts.npy", facts.astype(np.int64))
        partial = self.folder / f"{_MARK}.part"
        partial.write_text(json.dumps({"num": self._num, "digest": digest}))
        os.replace(partial, self.folder / _MARK)
        return PairVectors.open(self.folder)


def batches_of(
    members: Int64[np.ndarray, " pairs"], size: int, rng: np.random.Generator
) -> Iterator[Int64[np.ndarray, " batch"]]:
    """One pass over some pairs in random batches of equal size; up to a batch of pairs is left to other passes.

    Blocks of neighbours come in random order, and the pairs of some batches' blocks are shuffled together, so that a
    training reads the disk in pieces of some size. Up to some 130,000 pairs with a batch of 4,096 all are shuffled
    together.
    """
    blocks = [members[start : start + _BLOCK] for start in range(0, len(members), _BLOCK)]
    order = rng.permutation(len(blocks))
    per_buffer, rest = max(1, _BUFFERED * size // _BLOCK), members[:0]
    for start in range(0, len(order), per_buffer):
        buffer = np.concatenate([rest, *(blocks[number] for number in order[start : start + per_buffer])])
        buffer = buffer[rng.permutation(len(buffer))]
        whole = len(buffer) // size * size
        yield from buffer[:whole].reshape(-1, size)
        rest = buffer[whole:]
