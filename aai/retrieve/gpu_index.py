"""Search on GPUs, where a FAISS for GPUs is installed: a copy of an index, sharded over all GPUs of this process.

The copy of an exact index has float32 vectors, so its neighbours are those on a CPU, up to ties. Product-quantised
codes are compared through half-precision tables, because those of 96 bytes do not fit otherwise.
"""

import logging
from typing import Any

import faiss
import numpy as np
from jaxtyping import Float32, Int64

MAX_ON_GPU = 2_048
"""Most candidates, and most IVF lists of a query, that FAISS searches for on a GPU."""

_log = logging.getLogger(__name__)


class GpuIndex:
    """A copy of an index on the GPUs of this process.

    Args:
        index: an index on the CPU.
        library: the module `faiss`.

    Raises:
        RuntimeError: it does not fit, or is of a kind that GPUs do not search.
    """

    def __init__(self, index: Any, library: Any) -> None:
        self._numbers = None
        if isinstance(index, faiss.IndexIDMap2):
            self._numbers, index = faiss.vector_to_array(index.id_map), faiss.downcast_index(index.index)
        options = library.GpuMultipleClonerOptions()
        options.shard = True
        options.useFloat16 = isinstance(index, faiss.IndexIVFPQ)
        self._index = library.index_cpu_to_all_gpus(index, options)

    def search(
        self, queries: Float32[np.ndarray, "clips dim"], k: int
    ) -> tuple[Float32[np.ndarray, "clips k"], Int64[np.ndarray, "clips k"]]:
        """As FAISS: similarities and numbers, -1 for none."""
        similarities, found = self._index.search(queries, k)
        if self._numbers is None or not len(self._numbers):
            return similarities, found
        return similarities, np.where(found < 0, -1, self._numbers[found])


def on_gpus(index: faiss.Index, library: Any) -> GpuIndex | None:
    """A copy of an index on the GPUs; none without a GPU, or if it does not fit, which is logged."""
    if not library.get_num_gpus() or getattr(index, "nprobe", 0) > MAX_ON_GPU:
        return None
    try:
        return GpuIndex(index, library)
    except RuntimeError as error:  # FAISS's only class of errors
        _log.warning("the index stays on CPUs, because FAISS cannot copy it to GPUs: %s", error)
        return None
