"""Retrieve: for each clip a few images that fit it, unlike one another; they supervise its cue.

Queries are centred first: otherwise a few images, near to the mean of all queries, are neighbours of most clips, and
reranking cannot bring back what those hubs pushed out of the candidates.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from jaxtyping import Float32, Int64

from aai.retrieve.options import RetrieveOptions

_CLIPS_AT_ONCE = 256
"""Clips whose candidates' vectors are in memory together: 160 MB with 200 candidates of dimension 768."""


class Neighbours(NamedTuple):
    """The images of one clip, best first, and the cosines to its centred query."""

    numbers: Int64[np.ndarray, " neighbours"]
    similarities: Float32[np.ndarray, " neighbours"]


Search = Callable[[Float32[np.ndarray, "clips dim"], int], tuple[np.ndarray, np.ndarray]]
"""Queries and a number to the numbers of the nearest images, clips x candidates, -1 where there is none, and their
similarities: as `VectorIndex.search`."""

VectorsOf = Callable[[Int64[np.ndarray, " images"]], Float32[np.ndarray, "images dim"]]
"""The stored unit vectors of distinct images, in the order asked for."""


def query_mean(
    bank: Float32[np.ndarray, "clips dim"],
    options: RetrieveOptions,
    given: Float32[np.ndarray, " dim"] | None = None,
) -> Float32[np.ndarray, " dim"] | None:
    """What to centre queries on: the mean of the whole bank, `given` where the bank is small, or nothing."""
    if len(bank) < options.min_bank_clips:
        return given
    return bank.mean(axis=0, dtype=np.float64).astype(np.float32)


def centre(
    queries: Float32[np.ndarray, "clips dim"], mean: Float32[np.ndarray, " dim"], strength: float
) -> Float32[np.ndarray, "clips dim"]:
    """Subtract `strength` times the mean query, so that each image loses as much as it resembles all queries.

    The inner product with an image falls by `strength` times the image's mean inner product with the bank. Lengths
    change; ranks do not depend on them.

    Source: Chowdhury et al. 2024, "Nearest Neighbor Normalization Improves Multimodal Retrieval", with the
    whole bank as neighbours.
    """
    return queries - np.float32(strength) * mean


def retrieve(
    queries: Float32[np.ndarray, "clips dim"],
    search: Search,
    vectors_of: VectorsOf,
    options: RetrieveOptions,
    mean: Float32[np.ndarray, " dim"] | None = None,
) -> list[Neighbours]:
    """Choose images for each clip; `mean` is that of the whole bank, so a clip's images do not depend on its slice.

    Candidates are ranked by their stored vectors, since the index may know compressed ones only.
    """
    if mean is not None:
        queries = centre(queries, mean, options.centring_strength)
    queries = queries / np.maximum(np.linalg.norm(queries, axis=1, keepdims=True), np.finfo(np.float32).tiny)
    found: list[Neighbours] = []
    for start in range(0, len(queries), _CLIPS_AT_ONCE):
        part = queries[start : start + _CLIPS_AT_ONCE]
        numbers, _ = search(part, options.num_candidates)
        distinct = np.unique(numbers[numbers >= 0])
        vectors = vectors_of(distinct)
        for query, row in zip(part, numbers, strict=True):
            candidates = row[row >= 0]
            seen = vectors[np.searchsorted(distinct, candidates)]
            found.append(choose_neighbours(candidates, seen, seen @ query, options))
    return found


def choose_neighbours(
    numbers: Int64[np.ndarray, " candidates"],
    vectors: Float32[np.ndarray, "candidates dim"],
    similarities: Float32[np.ndarray, " candidates"],
    options: RetrieveOptions,
) -> Neighbours:
    """Drop near duplicates of better candidates, then choose for fit and diversity.

    `similarities` are what candidates are ranked by: cosines to the centred query, or any better score of that range.
    Of two equal ones the lower number comes first.
    """
    order = np.lexsort((numbers, -similarities))
    order = order[drop_near_duplicates(vectors[order], options.duplicate_similarity)]
    chosen = choose_diverse(similarities[order], vectors[order], options.num_neighbours, options.diversity)
    best = order[np.sort(chosen)]
    return Neighbours(numbers[best], similarities[best])


def drop_near_duplicates(
    vectors: Float32[np.ndarray, "candidates dim"], similarity: float
) -> Int64[np.ndarray, " kept"]:
    """The places of the candidates, best first, whose cosine to no better one that is kept exceeds `similarity`.

    Source: the threshold on pairs is that of Abbas et al. 2023, "SemDeDup"; clusters are not needed here.
    """
    alike = np.triu(vectors @ vectors.T > similarity, k=1)
    kept = np.ones(len(vectors), dtype=bool)
    for place in np.flatnonzero(alike.any(axis=1)):
        if kept[place]:
            kept &= ~alike[place]
    return np.flatnonzero(kept)


def choose_diverse(
    scores: Float32[np.ndarray, " candidates"],
    vectors: Float32[np.ndarray, "candidates dim"],
    num: int,
    diversity: float,
) -> Int64[np.ndarray, " chosen"]:
    """The places of up to `num` candidates, in the order of choice; of equal ones the first.

    Source: Carbonell and Goldstein 1998, "The Use of MMR, Diversity-Based Reranking", with lambda
    1 - `diversity`.
    """
    chosen: list[int] = []
    nearest = np.zeros_like(scores)
    for _ in range(min(num, len(scores))):
        values = (1 - diversity) * scores - diversity * nearest
        values[chosen] = -np.inf
        chosen.append(int(values.argmax()))
        likeness = vectors @ vectors[chosen[-1]]
        nearest = likeness if len(chosen) == 1 else np.maximum(nearest, likeness)
    return np.array(chosen, dtype=np.int64)
