"""Pairs whose sound and image do not belong together.

A preliminary aligner, ridge regression from sound to image, is fitted in turns without a part of the pairs and judges
these, so that no pair judges itself. A pair's p-value is the share of other sounds' images that are at least as similar
to its sound as its own; for a misaligned pair it is uniform. The share of misaligned pairs is estimated from the
p-values, and from it the probability of each.

Source: Storey 2002, "A direct approach to false discovery rates"; Efron 2010, "Large-Scale Inference", section 5.
"""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float, Int64

from aai.align.pair_vectors import PairVectors
from aai.align.ridge import fit_ridge

THRESHOLD = 0.5
"""Pairs with a higher probability are left out."""

_FOLDS, _ROUNDS = 5, 3
_PENALTY = 0.05
_MAX_OTHERS = 2_000
"""Images of other pairs that a pair's own is compared with."""
_TAIL = 0.5
"""p-values above this are those of misaligned pairs."""


def probabilities(pairs: PairVectors, members: Int64[np.ndarray, " pairs"]) -> Float[np.ndarray, " pairs"]:
    """The probability of some pairs that they are misaligned."""
    assert pairs.image is not None, "pairs of sounds and images"
    audio, image = np.asarray(pairs.audio[members], np.float32), np.asarray(pairs.image[members], np.float32)
    folds = _folds(pairs.sounds[members])
    doubt = np.zeros(len(members))
    for _ in range(_ROUNDS):
        values = p_values(audio, image, folds, 1 - doubt, pairs.pictures[members])
        doubt = local_false_discovery_rate(values)
    return doubt


def p_values(
    audio: Float[np.ndarray, "pairs audio_dim"],
    image: Float[np.ndarray, "pairs image_dim"],
    folds: Int64[np.ndarray, " pairs"],
    weights: Float[np.ndarray, " pairs"],
    pictures: Int64[np.ndarray, " pairs"],
) -> Float[np.ndarray, " pairs"]:
    """The p-value of each pair, by models that were fitted without its fold."""
    found = np.ones(len(audio))
    for fold in range(_FOLDS):
        own, others = np.flatnonzero(folds == fold), np.flatnonzero(folds != fold)
        if not len(own):
            continue
        projected = fit_ridge(audio[others], image[others], _PENALTY, weights[others])(audio[own])
        projected -= projected.mean(axis=0)  # centred queries: no image is near to all sounds
        compared = others[:: max(1, len(others) // _MAX_OTHERS)]
        similar = projected @ image[compared].T
        own_similarity = np.einsum("id,id->i", projected, image[own])[:, None]
        is_other = pictures[compared] != pictures[own][:, None]
        at_least = ((similar >= own_similarity) & is_other).sum(axis=1)
        found[own] = (at_least + 0.5) / (is_other.sum(axis=1) + 1)
    return found


def local_false_discovery_rate(values: Float[np.ndarray, " pairs"]) -> Float[np.ndarray, " pairs"]:
    """The probability that a p-value is of a misaligned pair, whose p-values are uniform."""
    from scipy.stats import ecdf

    share = min(1.0, float((values > _TAIL).mean()) / (1 - _TAIL))
    steps = ecdf(values).cdf
    density = _decreasing_density(
        np.concatenate([[0], steps.quantiles, [1]]), np.concatenate([[0], steps.probabilities, [1]])
    )
    rate: np.ndarray = np.minimum(1, share / np.maximum(density(values), np.finfo(float).tiny))
    return rate


def _decreasing_density(points: np.ndarray, heights: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """The slopes of the least concave majorant of a distribution function (Grenander's estimator)."""
    hull = [0]
    for number in range(1, len(points)):
        while len(hull) > 1 and _slope(points, heights, hull[-2], hull[-1]) <= _slope(
            points, heights, hull[-1], number
        ):
            hull.pop()
        hull.append(number)
    slopes = np.array([_slope(points, heights, a, b) for a, b in zip(hull, hull[1:], strict=False)])
    edges = points[hull[1:]]
    return lambda values: slopes[np.minimum(np.searchsorted(edges, values), len(slopes) - 1)]


def _slope(points: np.ndarray, heights: np.ndarray, start: int, end: int) -> float:
    return float((heights[end] - heights[start]) / max(points[end] - points[start], 1e-12))


def _folds(sounds: np.ndarray) -> np.ndarray:
    """Folds such that all pairs of a sound are in one."""
    order = np.random.default_rng(0).permutation(int(sounds.max()) + 1)
    return order[sounds] % _FOLDS
