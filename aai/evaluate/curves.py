"""Quality against a setting that costs time: which is the smallest value that is not distinguishably below the best."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from aai.evaluate.intervals import Interval


@dataclass(frozen=True)
class Point:
    """The quality at a value of the setting."""

    value: int
    quality: Interval
    gap: Interval
    """How far it is below the best, paired by clip; 0 at the best."""
    num: int
    """Clips."""

    @property
    def is_below(self) -> bool:
        """Whether it is distinguishably below the best: the interval of the gap lies above 0."""
        return self.gap.low > 0


@dataclass(frozen=True)
class Curve:
    """A quality at each value of a setting, in ascending order."""

    points: Sequence[Point]
    best: int
    """The value with the best quality; the smallest of equals."""
    enough: int
    """The smallest value that is not distinguishably below the best."""
    per_doubling: Interval | None
    """Change of the quality per doubling of the setting, by least squares; none if a value is 0 or alone."""


def curve_of(
    values: Sequence[int],
    quality: Float[np.ndarray, " values"],
    resampled: Float[np.ndarray, "resamples values"],
    nums: Sequence[int],
    is_higher_better: bool = True,
) -> Curve | None:
    """The curve through qualities and their paired resamples; NaN at a value leaves it out, none if all are.

    The best value is chosen on the same clips, so that gaps are overestimated, and `enough` is rather too large.
    """
    order = [int(index) for index in np.argsort(values, kind="stable") if not math.isnan(quality[index])]
    if not order:
        return None
    sign = 1.0 if is_higher_better else -1.0
    best = max(order, key=lambda index: (sign * quality[index], -values[index]))
    points = []
    for index in order:
        gap = sign * (quality[best] - quality[index])
        gaps = sign * (resampled[:, best] - resampled[:, index])
        own = Interval.of(float(quality[index]), resampled[:, index])
        points.append(Point(values[index], own, Interval.of(float(gap), gaps), nums[index]))
    enough = next(point.value for point in points if not point.is_below)
    at = [values[index] for index in order]
    return Curve(points, values[best], enough, _per_doubling(at, quality[order], resampled[:, order]))


def _per_doubling(at: Sequence[int], quality: np.ndarray, resampled: np.ndarray) -> Interval | None:
    if len(at) < 2 or min(at) <= 0:
        return None
    centred = np.log2(at) - np.log2(at).mean()
    weights = centred / (centred**2).sum()
    return Interval.of(float(quality @ weights), resampled @ weights)
