"""Intervals of figures by the bootstrap over clips, paired: a resample takes the same clips of all methods.

Clips are drawn within strata, their labels, so that every resample has as many clips of each label as there are. Labels
with a single clip are one stratum. For means a resample has one draw less of each stratum, with a weight for it: with n
draws of n clips the variance would be too small by (n - 1) / n, by half for two clips.

Source: Rao and Wu 1988, "Resampling inference with complex survey data", for the draws of means.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

RESAMPLES = 2_000
_LOW, _HIGH, Z95 = 2.5, 97.5, 1.959964
_MIN_FOR_RANKS = 3


@dataclass(frozen=True)
class Interval:
    """A value with its 95 % interval; NaN where it is undefined."""

    value: float
    low: float
    high: float

    @classmethod
    def of(cls, value: float, resampled: Float[np.ndarray, " resamples"]) -> "Interval":
        """The interval between percentiles of resampled values; undefined ones are left out."""
        defined = resampled[~np.isnan(resampled)]
        if math.isnan(value) or not len(defined):
            return cls(value, math.nan, math.nan)
        low, high = np.percentile(defined, [_LOW, _HIGH])
        return cls(value, float(low), float(high))

    @property
    def excludes_zero(self) -> bool:
        """Whether a difference is significant at 5 %."""
        return self.low > 0 or self.high < 0


@dataclass(frozen=True)
class Degrees:
    """How a degree that the judge reads off pictures agrees with the clips' own, by resample and method."""

    rank: Float[np.ndarray, "resamples methods"]
    """Spearman's rank correlation within labels, averaged."""
    bias: Float[np.ndarray, "resamples methods"]
    """Mean of judged minus true."""
    slope: Float[np.ndarray, "resamples methods"]
    """Slope of the judged degree on the true one within labels, by least squares; 1 is right."""


class Draws:
    """Resamples of clips within strata. `one` is the sample itself."""

    def __init__(self, strata: Sequence[str | None], num: int = RESAMPLES, seed: int = 0) -> None:
        names = np.asarray([name or "" for name in strata], object)
        members = [np.flatnonzero(names == name) for name in dict.fromkeys(names)]
        alone = [own for own in members if len(own) == 1]
        self._labels = [own for own in members if len(own) > 1]
        """Strata that are one label; another one may follow."""
        self._members = self._labels + ([np.concatenate(alone)] if alone else [])
        rng = np.random.default_rng(seed)
        self._drawn = [own[rng.integers(len(own), size=(num, len(own)))] for own in self._members]

    @property
    def one(self) -> "Draws":
        """The clips as they are, once."""
        same = object.__new__(Draws)
        same._labels, same._members, same._drawn = self._labels, self._members, [own[None] for own in self._members]
        return same

    def means(self, values: Float[np.ndarray, "clips methods"]) -> Float[np.ndarray, "resamples methods"]:
        """The mean over clips of each resample; clips without a value (NaN) are left out."""
        is_known = ~np.isnan(values)
        filled = np.where(is_known, values, 0)
        weighted = [self._weighted(drawn) for drawn in self._drawn]
        total = sum(weight * filled[drawn].sum(axis=1) for weight, drawn in weighted)
        num = sum(weight * is_known[drawn].sum(axis=1) for weight, drawn in weighted)
        return _ratio(np.asarray(total, float), np.asarray(num, float))

    def degrees(self, truth: Float[np.ndarray, " clips"], judged: Float[np.ndarray, "clips methods"]) -> Degrees:
        """Rank correlation, bias and slope of each resample."""
        columns = [self._degrees_of(truth, judged[:, method]) for method in range(judged.shape[1])]
        return Degrees(*(np.stack(each, axis=1) for each in zip(*columns, strict=True)))

    def _weighted(self, drawn: np.ndarray) -> tuple[float, np.ndarray]:
        """The draws of a stratum that count for means, and their weight; none for the only clip there is."""
        num = drawn.shape[1]
        if len(drawn) == 1:
            return 1.0, drawn
        if num == 1:
            return float(len(self._members) > 1), drawn
        return num / (num - 1), drawn[:, :-1]

    def _degrees_of(self, truth: np.ndarray, judged: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        is_known = ~(np.isnan(truth) | np.isnan(judged))
        num = len(self._drawn[0])
        ranks: list[np.ndarray] = []
        covariance, variance = np.zeros(num), np.zeros(num)
        for drawn, own in zip(self._drawn, self._labels, strict=False):
            if not is_known[own].any():
                continue
            known = drawn if is_known[own].all() else _only(drawn, own, is_known)
            x, y = truth[known], judged[known]
            ranks.append(_spearman(x, y))
            # Equal values differ from their mean by rounding.
            centred = np.where(np.ptp(x, axis=1, keepdims=True) > 0, x - x.mean(axis=1, keepdims=True), 0)
            covariance = covariance + (centred * y).sum(axis=1)
            variance = variance + (centred**2).sum(axis=1)
        rank = _mean_of_defined(np.stack(ranks)) if ranks else np.full(num, math.nan)
        return rank, self.means((judged - truth)[:, None])[:, 0], _ratio(covariance, variance)


def jackknife(value: float, without: Float[np.ndarray, " clips"]) -> Interval:
    """The interval of a statistic of sets, from its values without each of the clips.

    Source: Efron and Tibshirani 1993, "An Introduction to the Bootstrap", eq. 11.5.
    """
    num = len(without)
    if num < 2 or math.isnan(value):
        return Interval(value, math.nan, math.nan)
    error = math.sqrt((num - 1) / num * float(((without - without.mean()) ** 2).sum()))
    return Interval(value, value - Z95 * error, value + Z95 * error)


def _only(drawn: Int[np.ndarray, "resamples members"], own: np.ndarray, is_known: np.ndarray) -> np.ndarray:
    """Draws among the members with a value: the others are replaced, each by one of these."""
    good = own[is_known[own]]
    place = {int(member): number for number, member in enumerate(own)}
    numbers = np.vectorize(place.__getitem__)(drawn[:, : len(good)])
    return good[numbers % len(good)]


def _spearman(x: Float[np.ndarray, "resamples members"], y: Float[np.ndarray, "resamples members"]) -> np.ndarray:
    """Spearman's rank correlation of each row; NaN for a constant truth or fewer than three members."""
    from scipy.stats import rankdata  # takes a second, and only evaluations need it

    if x.shape[1] < _MIN_FOR_RANKS:
        return np.full(len(x), math.nan)
    a, b = (rankdata(each, axis=1) for each in (x, y))
    a, b = (each - each.mean(axis=1, keepdims=True) for each in (a, b))
    found = _ratio((a * b).sum(axis=1), np.sqrt((a**2).sum(axis=1) * (b**2).sum(axis=1)))
    is_constant = (np.ptp(y, axis=1) == 0) & (np.ptp(x, axis=1) > 0)
    return np.where(is_constant, 0.0, found)


def _mean_of_defined(values: Float[np.ndarray, "strata resamples"]) -> np.ndarray:
    is_defined = ~np.isnan(values)
    return _ratio(np.where(is_defined, values, 0).sum(axis=0), is_defined.sum(axis=0).astype(float))


def _ratio(above: np.ndarray, below: np.ndarray) -> np.ndarray:
    found: np.ndarray = np.divide(above, below, out=np.full_like(above, math.nan), where=below != 0)
    return found
