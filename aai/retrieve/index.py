"""The FAISS index of image vectors; its type follows from their number: exact (flat), IVF with SQ8, or IVF with PQ.

Vectors are unit vectors, so the inner product is the cosine. FAISS knows an image by an int64 (`identity.int64_of`).
"""

import math
import sys
from pathlib import Path
from typing import Any, Literal

import faiss
import numpy as np
from jaxtyping import Float32, Int64

from aai.errors import BadConfig
from aai.retrieve.gpu_index import MAX_ON_GPU, GpuIndex, on_gpus
from aai.retrieve.options import MIN_PER_LIST, MIN_SAMPLE, IndexOptions
from aai.store_errors import of_text

Kind = Literal["exact", "scalar", "product"]
Build = Literal["cpu", "gpu", "both", "none"]

_LENGTH_TOLERANCE = 1e-3
"""Tolerance of unit length: it admits vectors rounded to half precision, and no embeddings before normalisation."""

_CHUNK_VECTORS = 65_536
"""Vectors per check, which bounds its memory."""

_TIE = 1e-5
"""Similarities within this count as equal: sums of products depend on their order."""


class VectorIndex:
    """A FAISS index of unit vectors under the inner product, with the int64 numbers of their images."""

    def __init__(self, index: faiss.Index) -> None:
        self._index = index
        self._on_gpus: GpuIndex | None = None

    def __len__(self) -> int:
        return int(self._index.ntotal)

    @property
    def dim(self) -> int:
        """Dimension of the vectors."""
        return int(self._index.d)

    @property
    def kind(self) -> Kind:
        """How vectors are stored. An index that outgrows the bound of its kind should be rebuilt."""
        kinds: dict[type, Kind] = {faiss.IndexIVFScalarQuantizer: "scalar", faiss.IndexIVFPQ: "product"}
        return kinds.get(type(self._index), "exact")

    def add(self, vectors: Float32[np.ndarray, "images dim"], numbers: Int64[np.ndarray, " images"]) -> None:
        """Add images, all or none. The caller ensures that the index does not hold any of them yet.

        Raises:
            BadConfig: the dimension differs, a vector does not have length 1, or a number is negative or a duplicate.
        """
        self._check_dim(vectors)
        check_unit(vectors)
        if len(numbers) and (numbers.min() < 0 or len(np.unique(numbers)) < len(numbers)):
            raise BadConfig("an image's number is negative or a duplicate: use identity.int64_of of distinct ids")
        self._index.add_with_ids(vectors, numbers)
        self._on_gpus = None

    def use_gpus(self, library: Any = faiss) -> bool:
        """Search on the GPUs of this process from now on, and return whether there are any that FAISS can use."""
        self._on_gpus = on_gpus(self._index, library)
        return self._on_gpus is not None

    def search(
        self, queries: Float32[np.ndarray, "clips dim"], k: int
    ) -> tuple[Int64[np.ndarray, "clips k"], Float32[np.ndarray, "clips k"]]:
        """The numbers of the k nearest images and their inner products, best first; queries may have any length.

        If there are fewer than k images, the rest is -1 with a similarity of minus infinity. Similarities to quantised
        vectors are approximate.

        Raises:
            BadConfig: the dimension differs, or a query is not finite.
        """
        self._check_dim(queries)
        if not np.isfinite(queries).all():
            raise BadConfig(f"query {_first(~np.isfinite(queries).all(axis=1))} is not finite: align its clip again")
        index = self._on_gpus if self._on_gpus and k <= MAX_ON_GPU else self._index
        similarities, numbers = index.search(queries, k)
        similarities[numbers < 0] = -np.inf
        return numbers, similarities

    def save(self, path: str | Path) -> None:
        """Write the index in FAISS's format, which holds arrays and no code.

        Raises:
            Transient: the disk is full.
        """
        try:
            faiss.write_index(self._index, str(path))
        except RuntimeError as error:  # FAISS's only class of errors
            raise of_text(f"RuntimeError: {error}", f"writing {path}") from error

    def _check_dim(self, vectors: np.ndarray) -> None:
        if vectors.shape[1] != self.dim:
            raise BadConfig(
                f"the index holds vectors of dimension {self.dim}, these have {vectors.shape[1]}: "
                "use the image-text encoder that it was built with, or rebuild the index"
            )


def choose_kind(num_vectors: int, options: IndexOptions) -> Kind:
    """The kind of index for a number of vectors."""
    if num_vectors <= options.max_exact:
        return "exact"
    return "scalar" if num_vectors <= options.max_scalar else "product"


def training_size(num_vectors: int, options: IndexOptions) -> int:
    """Number of vectors that an IVF index is trained on."""
    return min(num_vectors, max(num_lists(num_vectors) * options.training_per_cell, MIN_SAMPLE))


def build_index(
    vectors: Float32[np.ndarray, "images dim"],
    numbers: Int64[np.ndarray, " images"],
    options: IndexOptions,
    seed: int = 0,
) -> VectorIndex:
    """An index of images whose vectors are all in memory.

    Raises:
        BadConfig: as `VectorIndex.add`.
    """
    size = training_size(len(vectors), options)
    chosen = np.random.default_rng(seed).choice(len(vectors), size, replace=False)
    sample = vectors[:0] if choose_kind(len(vectors), options) == "exact" else vectors[np.sort(chosen)]
    index = new_index(sample, len(vectors), options, seed)
    index.add(vectors, numbers)
    return index


def new_index(
    sample: Float32[np.ndarray, "sampled dim"], num_vectors: int, options: IndexOptions, seed: int = 0
) -> VectorIndex:
    """An empty index, trained for `num_vectors` vectors that are added in parts.

    IVF lists and codes are trained on a random sample of the vectors; an exact index uses only its dimension.

    Raises:
        BadConfig: the sample is too small, or one of its vectors does not have length 1.
    """
    dim, kind = sample.shape[1], choose_kind(num_vectors, options)
    if kind == "exact":
        return VectorIndex(faiss.IndexIDMap2(faiss.IndexFlatIP(dim)))
    if len(sample) < MIN_SAMPLE:
        raise BadConfig(f"{len(sample)} vectors are too few to train an index: sample {MIN_SAMPLE} or more")
    check_unit(sample)
    lists = min(num_lists(num_vectors), len(sample) // MIN_PER_LIST)
    code = "SQ8" if kind == "scalar" else f"PQ{_num_codes(dim, options.code_bytes)}x8"
    index: Any = faiss.index_factory(dim, f"IVF{lists},{code}", faiss.METRIC_INNER_PRODUCT)  # faiss types it too widely
    index.nprobe = min(options.num_probes, lists)
    index.cp.seed = seed % 2**31
    if kind == "product":
        index.do_polysemous_training = False  # takes minutes, and polysemous search is not used
    index.train(sample)
    return VectorIndex(index)


def load_index(path: str | Path) -> VectorIndex:
    """Load an index that `VectorIndex.save` wrote.

    FAISS does not validate all sizes in a file: load only files that you or your workspace wrote.

    Raises:
        FileNotFoundError: the file does not exist.
        BadConfig: the file is damaged, not an index, or an index of another type or metric.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"{path}: there is no index")
    try:
        index = faiss.read_index(str(path))
    except (RuntimeError, MemoryError) as error:
        raise BadConfig("damaged, or not a FAISS index: delete its folder and build it again", uri=str(path)) from error
    inner = faiss.downcast_index(index.index) if isinstance(index, faiss.IndexIDMap2) else index
    known = (faiss.IndexFlatIP, faiss.IndexIVFScalarQuantizer, faiss.IndexIVFPQ)
    if type(inner) not in known or inner.metric_type != faiss.METRIC_INNER_PRODUCT:
        raise BadConfig(f"a {type(inner).__name__}, which aai does not build: build it again", uri=str(path))
    return VectorIndex(index)


def measure_recall(
    index: VectorIndex,
    vectors: Float32[np.ndarray, "images dim"],
    numbers: Int64[np.ndarray, " images"],
    queries: Float32[np.ndarray, "clips dim"],
    k: int,
) -> float:
    """Recall at k: the fraction of the true k nearest images that the index returns; ties count as correct."""
    k = min(k, len(vectors))
    truth, _ = faiss.knn(queries, vectors, k, metric=faiss.METRIC_INNER_PRODUCT)
    found, _ = index.search(queries, k)
    order = np.argsort(numbers)
    positions = order[np.minimum(np.searchsorted(numbers, found, sorter=order), len(numbers) - 1)]
    similarities = np.einsum("cd,ckd->ck", queries, vectors[positions])
    return float(np.mean((numbers[positions] == found) & (similarities >= truth[:, -1:] - _TIE)))


def check_unit(vectors: Float32[np.ndarray, "images dim"]) -> None:
    """Check that all vectors have length 1.

    Raises:
        BadConfig: a vector has another length or is not finite; the sentence has its position.
    """
    for start in range(0, len(vectors), _CHUNK_VECTORS):
        part = vectors[start : start + _CHUNK_VECTORS]
        lengths = np.sqrt(np.einsum("id,id->i", part, part))
        wrong = ~(np.abs(lengths - 1) <= _LENGTH_TOLERANCE)  # also true of NaN
        if wrong.any():
            position = _first(wrong)
            raise BadConfig(
                f"vector {start + position} has length {lengths[position]:.4g}, not 1: normalise embeddings first"
            )


def num_lists(num_vectors: int) -> int:
    """Number of IVF lists: the power of two nearest to 4 sqrt(n), as FAISS's guidelines recommend."""
    return int(2 ** round(math.log2(4 * math.sqrt(max(1, num_vectors)))))


def faiss_build() -> Build:
    """The FAISS package that is installed; `both` is a fault, because they overwrite each other's files."""
    found = (info.name.lower() for folder in sys.path for info in Path(folder).glob("[Ff]aiss*-info"))
    kinds = {"gpu" if "gpu" in name else "cpu" for name in found}
    if len(kinds) == 2:
        return "both"
    if kinds:
        return "gpu" if "gpu" in kinds else "cpu"
    return "none"


def _num_codes(dim: int, max_codes: int) -> int:
    """The largest divisor of the dimension up to a maximum: product quantisation needs parts of equal length."""
    return next(parts for parts in range(min(dim, max_codes), 0, -1) if dim % parts == 0)


def _first(flags: np.ndarray) -> int:
    return int(np.argmax(flags))
