"""Exact search on the GPU: by FAISS where a build for GPUs is installed, and by PyTorch as a floor."""

from collections.abc import Iterator

import faiss
import numpy as np
import torch

from aai.retrieve.index import build_index, faiss_build
from aai.retrieve.options import IndexOptions
from bench.gpu.rows import Measured
from bench.gpu.setting import Setting, rate_of, tried, watched

_TOP = 10
_QUERIES_AT_ONCE = 1_000
_CHUNK = 100_000
"""Vectors that PyTorch draws at once."""


def measure(setting: Setting) -> Iterator[Measured]:
    """The row `search`."""
    sizes, measured = setting.sizes, Measured("search", num_items=setting.sizes.queries)
    vectors, queries = _unit(sizes.vectors, sizes.dim, setting), _unit(sizes.queries, sizes.dim, setting)
    measured.alone_is = "products and topk of PyTorch"
    measured.alone = tried(measured, "PyTorch", lambda: _by_torch(vectors, queries))
    has_gpu = hasattr(faiss, "get_num_gpus") and faiss.get_num_gpus() > 0
    if torch.cuda.is_available() and not has_gpu:
        measured.error = f"FAISS is for {faiss_build()}: install faiss-gpu (docs/GPU.md)"
    else:
        _by_faiss(measured, vectors, queries.cpu().numpy(), setting)
    yield measured


def _by_faiss(measured: Measured, vectors: torch.Tensor, queries: np.ndarray, setting: Setting) -> None:
    """The index of AAI; so many vectors are an exact one by default."""
    index = build_index(vectors.cpu().numpy(), np.arange(len(vectors)), IndexOptions())
    if not index.use_gpus():
        measured.notes.append("there is no GPU for FAISS: this is its search on CPUs")
    with watched(measured):
        for _ in range(setting.sizes.repetitions):
            rate = rate_of(len(queries), lambda: index.search(queries, _TOP), repetitions=1)
            measured.values.append(rate)
    found, _ = index.search(queries[:_QUERIES_AT_ONCE], _TOP)
    expected = _top(vectors, torch.from_numpy(queries[:_QUERIES_AT_ONCE]).to(vectors.device)).cpu().numpy()
    shared = [len(np.intersect1d(*pair)) for pair in zip(found, expected, strict=True)]
    measured.notes.append(f"{np.mean(shared) / _TOP:.2%} of the neighbours are those of PyTorch")


def _by_torch(vectors: torch.Tensor, queries: torch.Tensor) -> float:
    return rate_of(len(queries), lambda: [_top(vectors, part) for part in queries.split(_QUERIES_AT_ONCE)])


def _top(vectors: torch.Tensor, queries: torch.Tensor) -> torch.Tensor:
    """The numbers of the nearest vectors, in float32."""
    return (queries @ vectors.T).topk(min(_TOP, len(vectors)), dim=1).indices


def _unit(num: int, dim: int, setting: Setting) -> torch.Tensor:
    """Random unit vectors on the device, different ones for each number of them."""
    rng = torch.Generator(setting.device).manual_seed(num)
    parts = [
        torch.randn(min(_CHUNK, num - first), dim, generator=rng, device=setting.device)
        for first in range(0, num, _CHUNK)
    ]
    return torch.nn.functional.normalize(torch.cat(parts), dim=1)
