"""The index artifact: a FAISS index, the vectors themselves, the images' ids, and the mean query.

    images.faiss      the FAISS index; an image's number is `identity.int64_of` of its id
    vectors.f16       all vectors, images x dim, half precision
    ids.bin           the images' ids in the same order, 16 bytes each
    numbers.npy       the images' numbers, sorted
    positions.npy     for each of these numbers, the image's position in vectors.f16 and ids.bin
    query_mean.npy    the mean of the clips' aligned vectors
    index.json        num_images, dim, num_clips

Everything but the FAISS index is memory-mapped, so the workers of a machine share it.
"""

import json
import shutil
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
from jaxtyping import Float16, Float32, Int64, UInt8

from aai.errors import BadConfig
from aai.identity import int64_of
from aai.retrieve.index import VectorIndex, choose_kind, load_index, new_index
from aai.retrieve.options import INDEX_FACTS, IndexOptions

_INDEX, _VECTORS, _IDS, _MEAN = "images.faiss", "vectors.f16", "ids.bin", "query_mean.npy"
_NUMBERS, _POSITIONS = "numbers.npy", "positions.npy"
_ID_BYTES, _F16_BYTES = 16, 2


class ImageIndex:
    """An index artifact in a local folder.

    Args:
        folder: where its files are.
        origin: where the folder was copied from, for errors.

    Raises:
        BadConfig: it is damaged.
    """

    def __init__(self, folder: Path, origin: str | None = None) -> None:
        self.folder, self._origin = folder, origin or str(folder)
        try:
            facts = json.loads((folder / INDEX_FACTS).read_text())
            self.num_images, self.dim, self.num_clips = (int(facts[key]) for key in ("num_images", "dim", "num_clips"))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise self._damaged(INDEX_FACTS) from error
        sizes = {_VECTORS: self.num_images * self.dim * _F16_BYTES, _IDS: self.num_images * _ID_BYTES}
        for name, num_bytes in sizes.items():
            if not (folder / name).is_file() or (folder / name).stat().st_size != num_bytes:
                raise self._damaged(name)
        self._numbers, self._all_positions = (self._array(name, self.num_images) for name in (_NUMBERS, _POSITIONS))
        self.query_mean: Float32[np.ndarray, " dim"] = self._array(_MEAN, self.dim)
        """The mean of the aligned vectors of `num_clips` clips."""
        if not np.isfinite(self.query_mean).all():
            raise self._damaged(_MEAN)

    @cached_property
    def index(self) -> VectorIndex:
        """The FAISS index, in memory.

        Raises:
            BadConfig: it is damaged.
        """
        try:
            index = load_index(self.folder / _INDEX)
        except (BadConfig, FileNotFoundError) as error:
            raise self._damaged(_INDEX) from error
        if (len(index), index.dim) != (self.num_images, self.dim):
            raise self._damaged(_INDEX)
        return index

    @cached_property
    def vectors(self) -> Float16[np.ndarray, "images dim"]:
        """All vectors, memory-mapped."""
        return np.memmap(self.folder / _VECTORS, np.float16, "r", shape=(self.num_images, self.dim))

    @cached_property
    def ids(self) -> UInt8[np.ndarray, "images 16"]:
        """The images' ids as bytes, memory-mapped."""
        return np.memmap(self.folder / _IDS, np.uint8, "r", shape=(self.num_images, _ID_BYTES))

    def vectors_of(self, numbers: Int64[np.ndarray, " images"]) -> Float32[np.ndarray, "images dim"]:
        """The vectors of images by their numbers."""
        return self.vectors[self._positions(numbers)].astype(np.float32)

    def vectors_by_id(self, ids: Sequence[str]) -> Float32[np.ndarray, "images dim"]:
        """The vectors of images by their ids."""
        return self.vectors_of(np.array([int64_of(image_id) for image_id in ids], np.int64))

    def sample(self, num: int) -> Float32[np.ndarray, "images dim"]:
        """The vectors of some images: those with the smallest numbers, which are parts of digests and so random."""
        return self.vectors_of(self._numbers[:num])

    def holds(self, ids: Sequence[str]) -> list[bool]:
        """Whether each of some images is in the index."""
        numbers = np.array([int64_of(image_id) for image_id in ids], np.int64)
        places = np.minimum(np.searchsorted(self._numbers, numbers), self.num_images - 1)
        found: list[bool] = (self._numbers[places] == numbers).tolist()
        return found

    def ids_of(self, numbers: Int64[np.ndarray, " images"]) -> list[str]:
        """The ids of images by their numbers."""
        return [image_id.tobytes().hex() for image_id in self.ids[self._positions(numbers)]]

    def all_ids(self) -> list[str]:
        """The ids of all images."""
        text = self.ids.tobytes().hex()
        return [text[first : first + 2 * _ID_BYTES] for first in range(0, len(text), 2 * _ID_BYTES)]

    def _array(self, name: str, size: int) -> np.ndarray:
        try:
            array: np.ndarray = np.load(self.folder / name, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise self._damaged(name) from error
        if array.shape != (size,):
            raise self._damaged(name)
        return array

    def _damaged(self, name: str) -> BadConfig:
        sentence = "missing or damaged: delete the folder of the index, and `aai build` makes it again"
        return BadConfig(sentence, uri=f"{self._origin}/{name}")

    def _positions(self, numbers: Int64[np.ndarray, " images"]) -> Int64[np.ndarray, " images"]:
        positions: np.ndarray = self._all_positions[np.searchsorted(self._numbers, numbers)]
        return positions


class ImageIndexWriter:
    """Writes an index artifact in parts, so that the vectors are never in memory together.

    Args:
        folder: an empty folder.
        num_images: how many images it will hold.
        sample: vectors to train an IVF index on; an exact index uses only their dimension.
        before: an artifact to extend, whose kind of index stays the same.
    """

    def __init__(  # noqa: PLR0913
        self,
        folder: Path,
        num_images: int,
        sample: Float32[np.ndarray, "sampled dim"],
        options: IndexOptions,
        seed: int,
        before: ImageIndex | None = None,
    ) -> None:
        self._folder, self._dim = folder, sample.shape[1]
        if before:
            self._index = before.index
            for name in (_VECTORS, _IDS):
                shutil.copyfile(before.folder / name, folder / name)
        else:
            self._index = new_index(sample, num_images, options, seed)
        self._append(b"", b"")

    def add(self, ids: Sequence[str], vectors: Float32[np.ndarray, "images dim"]) -> None:
        """Add images.

        Raises:
            BadConfig: a vector does not have length 1, or the dimension differs.
        """
        numbers = np.array([int64_of(image_id) for image_id in ids], np.int64)
        self._index.add(vectors, numbers)
        self._append(vectors.astype(np.float16).tobytes(), bytes.fromhex("".join(ids)))

    def finish(self, query_mean: Float32[np.ndarray, " dim"], num_clips: int) -> None:
        """Write the remaining files; nothing can be added afterwards."""
        self._index.save(self._folder / _INDEX)
        raw = np.fromfile(self._folder / _IDS, dtype=">u8").reshape(-1, 2)[:, 0]
        numbers = (raw >> np.uint64(1)).astype(np.int64)
        order = np.argsort(numbers, kind="stable")
        np.save(self._folder / _NUMBERS, numbers[order])
        np.save(self._folder / _POSITIONS, order)
        np.save(self._folder / _MEAN, query_mean.astype(np.float32))
        facts = {"num_images": len(numbers), "dim": self._dim, "num_clips": num_clips}
        (self._folder / INDEX_FACTS).write_text(json.dumps(facts))

    def _append(self, vectors: bytes, ids: bytes) -> None:
        for name, data in ((_VECTORS, vectors), (_IDS, ids)):
            with (self._folder / name).open("ab") as file:
                file.write(data)


def keeps_kind(before: ImageIndex, num_images: int, options: IndexOptions) -> bool:
    """Whether the kind of an index is still right for a number of images."""
    return choose_kind(num_images, options) == before.index.kind
