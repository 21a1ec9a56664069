"""The index of image vectors: FAISS, of a type that follows from the number of vectors.

Vectors have length 1, so the inner product is the cosine. An image is known by an int64 number (`identity.int64_of`).
"""

import math
from importlib.metadata import distributions
from pathlib import Path
from typing import Any, Literal

import faiss
import numpy as np
from jaxtyping import Float32, Int64

from aai.errors import BadConfig
from aai.retrieve.options import LEAST_PER_CELL, LEAST_SAMPLE, IndexOptions

Kind = Literal["exact", "scalar", "product"]
Build = Literal["cpu", "gpu", "both", "none"]

_LENGTH_TOLERANCE = 1e-3
"""How far from 1 a length may be: vectors that were stored in half precision pass, raw embeddings do not."""

_VECTORS_AT_ONCE = 65_536
"""Vectors checked together, which bounds the memory that checking takes."""

_TIE = 1e-5
"""Two similarities this near are equal, up to the order in which products are summed."""


class VectorIndex:
    """A FAISS index of unit vectors under the inner product, and the numbers of their images."""

    def __init__(self, index: faiss.Index) -> None:
        self._index = index

    def __len__(self) -> int:
        return int(self._index.ntotal)

    @property
    def dim(self) -> int:
        """The dimension of its vectors."""
        return int(self._index.d)

    @property
    def kind(self) -> Kind:
        """How vectors are stored; an index that has grown past the bound of its kind is better built anew."""
        kinds: dict[type, Kind] = {faiss.IndexIVFScalarQuantizer: "scalar", faiss.IndexIVFPQ: "product"}
        return kinds.get(type(self._index), "exact")

    def add(self, vectors: Float32[np.ndarray, "images dim"], numbers: Int64[np.ndarray, " images"]) -> None:
        """Take in more images, all or none; that none of them is in the index already is for the caller to see to.

        Raises:
            BadConfig: the dimension is another, a vector is not of length 1 or not finite, or a number is negative or
                occurs twice.
        """
        self._check_dim(vectors)
        check_unit(vectors)
        if len(numbers) and (numbers.min() < 0 or len(np.unique(numbers)) < len(numbers)):
            raise BadConfig("an image's number is negative or occurs twice: use identity.int64_of of distinct ids")
        self._index.add_with_ids(vectors, numbers)

    def search(
        self, queries: Float32[np.ndarray, "clips dim"], k: int
    ) -> tuple[Int64[np.ndarray, "clips k"], Float32[np.ndarray, "clips k"]]:
        """The nearest images and their inner products, best first; queries may have any length.

        Where there are fewer than `k`, the rest is -1 with a similarity of minus infinity. Similarities to compressed
        vectors are approximate.

        Raises:
            BadConfig: the dimension is another, or a query is not finite.
        """
        self._check_dim(queries)
        if not np.isfinite(queries).all():
            raise BadConfig(f"query {_first(~np.isfinite(queries).all(axis=1))} is not finite: align its clip again")
        similarities, numbers = self._index.search(queries, k)
        similarities[numbers < 0] = -np.inf
        return numbers, similarities

    def save(self, path: str | Path) -> None:
        """Write FAISS's own format, which holds arrays and no code."""
        faiss.write_index(self._index, str(path))

    def _check_dim(self, vectors: np.ndarray) -> None:
        if vectors.shape[1] != self.dim:
            raise BadConfig(
                f"the index holds vectors of dimension {self.dim}, these have {vectors.shape[1]}: "
                "use the image-text encoder it was built with, or build it anew"
            )


def choose_kind(num_vectors: int, options: IndexOptions) -> Kind:
    """How so many vectors are best stored."""
    if num_vectors <= options.max_exact:
        return "exact"
    return "scalar" if num_vectors <= options.max_scalar else "product"


def build_index(
    vectors: Float32[np.ndarray, "images dim"],
    numbers: Int64[np.ndarray, " images"],
    options: IndexOptions,
    seed: int = 0,
) -> VectorIndex:
    """An index of all these images.

    Raises:
        BadConfig: as `VectorIndex.add`.
    """
    size = min(len(vectors), num_cells(len(vectors)) * options.training_per_cell)
    rows = np.random.default_rng(seed).choice(len(vectors), size, replace=False)
    sample = vectors[:0] if choose_kind(len(vectors), options) == "exact" else vectors[np.sort(rows)]
    index = new_index(sample, len(vectors), options, seed)
    index.add(vectors, numbers)
    return index


def new_index(
    sample: Float32[np.ndarray, "sampled dim"], num_vectors: int, options: IndexOptions, seed: int = 0
) -> VectorIndex:
    """An empty index for `num_vectors` that are added piece by piece, because they do not fit into memory together.

    Cells and codes are learned from a random sample of them; an exact index needs none, only its shape is looked at.

    Raises:
        BadConfig: a vector of the sample is not of length 1 or not finite, or they are too few to learn from.
    """
    dim, kind = sample.shape[1], choose_kind(num_vectors, options)
    if kind == "exact":
        return VectorIndex(faiss.IndexIDMap2(faiss.IndexFlatIP(dim)))
    if len(sample) < LEAST_SAMPLE:
        raise BadConfig(f"{len(sample)} vectors are too few to train an index: sample {LEAST_SAMPLE} or more")
    check_unit(sample)
    cells = min(num_cells(num_vectors), len(sample) // LEAST_PER_CELL)
    code = "SQ8" if kind == "scalar" else f"PQ{_num_codes(dim, options.code_bytes)}x8"
    index: Any = faiss.index_factory(dim, f"IVF{cells},{code}", faiss.METRIC_INNER_PRODUCT)  # typed as any index
    index.nprobe = min(options.num_probes, cells)
    index.cp.seed = seed % 2**31
    if kind == "product":
        index.do_polysemous_training = False  # minutes of annealing for a kind of search that is not used
    index.train(sample)
    return VectorIndex(index)


def load_index(path: str | Path) -> VectorIndex:
    """Read what `VectorIndex.save` wrote.

    FAISS reads in C++ and trusts the sizes in a file more than it should: load only files that you or your workspace
    wrote.

    Raises:
        FileNotFoundError: there is no such file.
        BadConfig: the file is damaged, no index, or one of another type or metric.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"{path}: there is no index")
    try:
        index = faiss.read_index(str(path))
    except (RuntimeError, MemoryError) as error:
        raise BadConfig(f"{path}: damaged, or no FAISS index: build it anew: {error}") from error
    inner = faiss.downcast_index(index.index) if isinstance(index, faiss.IndexIDMap2) else index
    known = (faiss.IndexFlatIP, faiss.IndexIVFScalarQuantizer, faiss.IndexIVFPQ)
    if type(inner) not in known or inner.metric_type != faiss.METRIC_INNER_PRODUCT:
        raise BadConfig(f"{path}: an index of type {type(inner).__name__} that aai did not build: build it anew")
    return VectorIndex(index)


def measure_recall(
    index: VectorIndex,
    vectors: Float32[np.ndarray, "images dim"],
    numbers: Int64[np.ndarray, " images"],
    queries: Float32[np.ndarray, "clips dim"],
    k: int,
) -> float:
    """The share of the true `k` nearest images that the index finds; one as near as the last of them is as good."""
    k = min(k, len(vectors))
    truth, _ = faiss.knn(queries, vectors, k, metric=faiss.METRIC_INNER_PRODUCT)
    found, _ = index.search(queries, k)
    order = np.argsort(numbers)
    rows = order[np.minimum(np.searchsorted(numbers, found, sorter=order), len(numbers) - 1)]
    similarities = np.einsum("cd,ckd->ck", queries, vectors[rows])
    return float(np.mean((numbers[rows] == found) & (similarities >= truth[:, -1:] - _TIE)))


def check_unit(vectors: Float32[np.ndarray, "images dim"]) -> None:
    """Let only vectors of length 1 pass.

    Raises:
        BadConfig: a vector is zero, of another length or not finite; the message says which.
    """
    for start in range(0, len(vectors), _VECTORS_AT_ONCE):
        part = vectors[start : start + _VECTORS_AT_ONCE]
        lengths = np.sqrt(np.einsum("id,id->i", part, part))
        wrong = ~(np.abs(lengths - 1) <= _LENGTH_TOLERANCE)  # NaN too
        if wrong.any():
            row = _first(wrong)
            raise BadConfig(f"vector {start + row} has length {lengths[row]:.4g}, not 1: normalise embeddings first")


def num_cells(num_vectors: int) -> int:
    """The power of two nearest to four times the root: what FAISS's guide advises for an inverted file."""
    return int(2 ** round(math.log2(4 * math.sqrt(max(1, num_vectors)))))


def faiss_build() -> Build:
    """Which package provides FAISS; `both` is a fault, since they overwrite one another's files."""
    names = {str(each.metadata["Name"]).lower() for each in distributions()}
    kinds = {"gpu" if "gpu" in name else "cpu" for name in names if name.startswith("faiss")}
    if len(kinds) == 2:
        return "both"
    if kinds:
        return "gpu" if "gpu" in kinds else "cpu"
    return "none"


def _num_codes(dim: int, most: int) -> int:
    """The largest number of equal parts, up to `most`, into which a vector can be cut."""
    return next(parts for parts in range(min(dim, most), 0, -1) if dim % parts == 0)


def _first(flags: np.ndarray) -> int:
    return int(np.argmax(flags))
