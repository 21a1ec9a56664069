"""Retrieval of a clip's neighbours: query centring, removal of near-duplicates, and MMR reranking.

Centring counters hubness: without it a few images near to the mean query are candidates of almost every clip, and
reranking cannot recover the images that these hubs displaced.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from jaxtyping import Float32, Int64

from aai.retrieve.options import RetrieveOptions

_CHUNK_CLIPS = 256
"""Clips whose candidates are in memory at a time: 160 MB for 200 candidates of 768 dimensions."""


class Neighbours(NamedTuple):
    """The images of one clip, best first, and their cosine similarity to its centred query."""

    numbers: Int64[np.ndarray, " neighbours"]
    similarities: Float32[np.ndarray, " neighbours"]


Search = Callable[[Float32[np.ndarray, "clips dim"], int], tuple[np.ndarray, np.ndarray]]
"""Search of an index, as `VectorIndex.search`: queries and k to image numbers (-1 for none) and similarities."""

VectorsOf = Callable[[Int64[np.ndarray, " images"]], Float32[np.ndarray, "images dim"]]
"""Image numbers to unit vectors in the same order."""


def centre(
    queries: Float32[np.ndarray, "clips dim"], mean: Float32[np.ndarray, " dim"], strength: float
) -> Float32[np.ndarray, "clips dim"]:
    """Subtract `strength` times the mean query from each query.

    This lowers the inner product with an image by `strength` times the image's mean inner product with all queries.
    Query lengths change; ranks do not depend on them.

    Source: Chowdhury et al. 2024, "Nearest Neighbor Normalization Improves Multimodal Retrieval", with all queries as
    neighbours.
    """
    return queries - np.float32(strength) * mean


def retrieve(
    queries: Float32[np.ndarray, "clips dim"],
    search: Search,
    vectors_of: VectorsOf,
    options: RetrieveOptions,
    mean: Float32[np.ndarray, " dim"] | None = None,
) -> list[Neighbours]:
    """The neighbours of each clip. `mean` is the mean query of all clips; without it queries are not centred.

    Candidates are reranked by their unquantised vectors.
    """
    if mean is not None:
        queries = centre(queries, mean, options.centring_strength)
    queries = queries / np.maximum(np.linalg.norm(queries, axis=1, keepdims=True), np.finfo(np.float32).tiny)
    found: list[Neighbours] = []
    for start in range(0, len(queries), _CHUNK_CLIPS):
        part = queries[start : start + _CHUNK_CLIPS]
        numbers, _ = search(part, options.num_candidates)
        distinct = np.unique(numbers[numbers >= 0])
        vectors = vectors_of(distinct)
        for query, nearest in zip(part, numbers, strict=True):
            candidates = nearest[nearest >= 0]
            own = vectors[np.searchsorted(distinct, candidates)]
            found.append(choose_neighbours(candidates, own, own @ query, options))
    return found


def choose_neighbours(
    numbers: Int64[np.ndarray, " candidates"],
    vectors: Float32[np.ndarray, "candidates dim"],
    similarities: Float32[np.ndarray, " candidates"],
    options: RetrieveOptions,
) -> Neighbours:
    """Drop near-duplicates of better candidates, then choose by MMR.

    `similarities` rank the candidates: cosines to the centred query, or another score in the range of cosines. The
    lower number breaks ties.
    """
    order = np.lexsort((numbers, -similarities))
    order = order[drop_near_duplicates(vectors[order], options.duplicate_similarity)]
    chosen = choose_diverse(similarities[order], vectors[order], options.num_neighbours, options.diversity)
    best = order[np.sort(chosen)]
    return Neighbours(numbers[best], similarities[best])


def drop_near_duplicates(
    vectors: Float32[np.ndarray, "candidates dim"], similarity: float
) -> Int64[np.ndarray, " kept"]:
    """Positions of the candidates (sorted, best first) that are no near-duplicate of a better one that was kept.

    Source: the pairwise threshold of Abbas et al. 2023, "SemDeDup", without its clusters.
    """
    alike = np.triu(vectors @ vectors.T > similarity, k=1)
    kept = np.ones(len(vectors), dtype=bool)
    for position in np.flatnonzero(alike.any(axis=1)):
        if kept[position]:
            kept &= ~alike[position]
    return np.flatnonzero(kept)


def choose_diverse(
    scores: Float32[np.ndarray, " candidates"],
    vectors: Float32[np.ndarray, "candidates dim"],
    num: int,
    diversity: float,
) -> Int64[np.ndarray, " chosen"]:
    """Positions of up to `num` candidates by maximal marginal relevance (MMR), in order of choice; the first of ties.

    Source: Carbonell and Goldstein 1998, "The Use of MMR, Diversity-Based Reranking", with lambda = 1 - `diversity`.
    """
    chosen: list[int] = []
    redundancy = np.zeros_like(scores)
    for _ in range(min(num, len(scores))):
        values = (1 - diversity) * scores - diversity * redundancy
        values[chosen] = -np.inf
        chosen.append(int(values.argmax()))
        cosines = vectors @ vectors[chosen[-1]]
        redundancy = cosines if len(chosen) == 1 else np.maximum(redundancy, cosines)
    return np.array(chosen, dtype=np.int64)
