"""Distances of sets of images by their embeddings, and the diversity of a set."""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float

from aai.evaluate.intervals import Interval, jackknife

_SIGMA, _SCALE = 10.0, 1_000.0  # of CMMD
_CHUNK = 1_024

Vectors = Float[np.ndarray, "_ dim"]


class SetDistance:
    """A squared maximum mean discrepancy of images and reference images, with its values without each clip.

    Args:
        images: embeddings of the images.
        clips: the number of each image's clip.
        reference: embeddings of the reference images.
        kind: `kid` or `cmmd`.
    """

    def __init__(self, images: Vectors, clips: np.ndarray, reference: Vectors, kind: str) -> None:
        self.kind = kind
        kernel = _polynomial if kind == "kid" else _gaussian
        self._is_biased, self._scale = kind == "cmmd", 1.0 if kind == "kid" else _SCALE
        own = kernel(images, images)
        if not self._is_biased:
            np.fill_diagonal(own, 0)
        self._own, self._clips = own, clips
        self._to_reference = kernel(images, reference).mean(axis=1)
        self._reference = _mean_kernel(reference, kernel, self._is_biased)

    @property
    def value(self) -> float:
        """The distance."""
        return self._of(float(self._own.sum()), float(self._to_reference.sum()), len(self._own))

    def without(self) -> dict[int, float]:
        """The distance without the images of each clip."""
        total, crossed, found = float(self._own.sum()), float(self._to_reference.sum()), {}
        for clip in np.unique(self._clips).tolist():
            members = np.flatnonzero(self._clips == clip)
            rows = self._own[members]
            left = total - 2 * float(rows.sum()) + float(rows[:, members].sum())
            left_crossed = crossed - float(self._to_reference[members].sum())
            found[clip] = self._of(left, left_crossed, len(self._own) - len(members))
        return found

    def _of(self, own: float, crossed: float, num: int) -> float:
        pairs = num * num if self._is_biased else num * (num - 1)
        if pairs <= 0:
            return float("nan")
        return self._scale * (own / pairs + self._reference - 2 * crossed / num)


def kid(images: Vectors, reference: Vectors) -> float:
    """Kernel inception distance: the unbiased squared MMD with the kernel (x y / dim + 1)^3.

    It is the expectation of the mean over random subsets that other implementations take.

    Source: Binkowski et al. 2018, "Demystifying MMD GANs", section 4.
    """
    return SetDistance(images, np.arange(len(images)), reference, "kid").value


def cmmd(images: Vectors, reference: Vectors) -> float:
    """CMMD: 1,000 times the squared MMD of unit vectors with a Gaussian kernel, sigma 10 (minimum-variance estimate).

    Source: Jayasumana et al. 2024, "Rethinking FID", section 4.
    """
    return SetDistance(images, np.arange(len(images)), reference, "cmmd").value


def compared(first: SetDistance, other: SetDistance) -> Interval:
    """The difference of two methods' distances (first minus other), paired by clip."""
    own, others = first.without(), other.without()
    both = sorted(own.keys() & others.keys())
    return jackknife(first.value - other.value, np.array([own[clip] - others[clip] for clip in both]))


def diversity(vectors: Vectors) -> float:
    """Mean cosine distance of all pairs of unit vectors, 0 to 2; NaN for fewer than two."""
    num = len(vectors)
    if num < 2:
        return float("nan")
    cosines = vectors @ vectors.T
    return float(1 - (cosines.sum() - np.trace(cosines)) / (num * (num - 1)))


def _polynomial(x: Vectors, y: Vectors) -> np.ndarray:
    kernel: np.ndarray = (x.astype(float) @ y.T.astype(float) / x.shape[1] + 1) ** 3
    return kernel


def _gaussian(x: Vectors, y: Vectors) -> np.ndarray:
    a, b = x.astype(float), y.astype(float)
    squares = (a**2).sum(axis=1)[:, None] + (b**2).sum(axis=1) - 2 * a @ b.T
    kernel: np.ndarray = np.exp(-squares / (2 * _SIGMA**2))
    return kernel


def _mean_kernel(vectors: Vectors, kernel: Callable[[Vectors, Vectors], np.ndarray], is_biased: bool) -> float:
    """The mean of a kernel over pairs of reference images, in pieces."""
    num, total = len(vectors), 0.0
    for start in range(0, num, _CHUNK):
        part = kernel(vectors[start : start + _CHUNK], vectors)
        total += float(part.sum())
        if not is_biased:
            total -= float(part[np.arange(len(part)), np.arange(start, start + len(part))].sum())
    pairs = num * num if is_biased else num * (num - 1)
    return total / pairs if pairs else float("nan")
