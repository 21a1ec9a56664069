"""Blind preferences: win rates and a Bradley-Terry ranking of methods from votes on pairs, with intervals.

A tie counts as half a win for both. Intervals are bootstrap intervals over clips and voters: both are drawn anew, and a
vote counts as often as its clip times its voter were drawn. With a single voter only clips are; one voter's
votes on one clip have no interval.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

RESAMPLES = 2_000
_LOW, _HIGH = 2.5, 97.5
_TIES = 0.5
"""Ties that are added to each method, spread over the others, so that a method that always wins has a strength."""

_MAX_STEPS, _TOLERANCE = 100, 1e-9
_EQUAL = 1e-6
"""Strengths that differ by less are one."""

_MAX_STEP = 2.0
"""Of a strength at a time: far from the maximum Newton's method overshoots."""


@dataclass(frozen=True)
class Vote:
    """A voter's choice between two methods' pictures of a clip."""

    clip_id: str
    voter: str
    methods: tuple[str, str]
    share: float
    """1 if the first was chosen, 0 if the second, 0.5 for a tie."""


@dataclass(frozen=True)
class Estimate:
    """A value with its 95 % interval; NaN where there is none."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Duel:
    """How often a method won against another; ties count as halves."""

    methods: tuple[str, str]
    num: int
    wins: Estimate


@dataclass(frozen=True)
class Standing:
    """A method in the ranking."""

    method: str
    num: int
    """Votes on its pictures."""
    wins: Estimate
    """Share of votes that it won; ties count as halves."""
    strength: Estimate
    """Bradley-Terry strength in natural logarithms, with a mean of 0 over the methods: a method beats another with the
    probability 1 / (1 + exp(other - own))."""
    rank: tuple[int, int]
    """The best and the worst rank in 95 % of the resamples; 1 is best. Methods of one strength share their ranks."""


@dataclass(frozen=True)
class Ranking:
    """Methods, the strongest first, and all pairs of them that were voted on."""

    standings: list[Standing]
    duels: list[Duel]
    num_votes: int
    num_clips: int
    num_voters: int


def ranking_of(votes: Sequence[Vote], num_resamples: int = RESAMPLES, seed: int = 0) -> Ranking:
    """The ranking that votes give.

    Source: of the intervals Owen 2007, "The pigeonhole bootstrap": both factors are drawn anew, which is conservative.

    Raises:
        ValueError: there are no votes.
    """
    if not votes:
        raise ValueError("there are no votes")
    methods = sorted({method for vote in votes for method in vote.methods})
    clips, voters = (sorted({getattr(vote, name) for vote in votes}) for name in ("clip_id", "voter"))
    numbers = np.array([[clips.index(vote.clip_id), voters.index(vote.voter)] for vote in votes])
    pairs = np.array([[methods.index(method) for method in vote.methods] for vote in votes])
    shares = np.array([vote.share for vote in votes])
    has_one_source = len(clips) == len(voters) == 1
    weights = np.concatenate([np.ones((1, len(votes))), _drawn(numbers, num_resamples, seed)])
    wins = _wins(weights, pairs, shares, len(methods))
    strengths = bradley_terry(wins)
    return Ranking(
        standings=_standings(methods, wins, strengths, pairs, has_one_source),
        duels=_duels(methods, wins, pairs, numbers),
        num_votes=len(votes),
        num_clips=len(clips),
        num_voters=len(voters),
    )


def bradley_terry(wins: Float[np.ndarray, "samples methods methods"]) -> Float[np.ndarray, "samples methods"]:
    """Logarithms of Bradley-Terry strengths, with a mean of 0; `wins[s, i, j]` are the wins of i over j in a sample.

    They maximise the likelihood, by Newton's method; ties are half a win each.

    Source: Bradley and Terry 1952, "Rank analysis of incomplete block designs", the model and its likelihood.
    """
    num = wins.shape[1]
    wins = wins + np.where(np.eye(num, dtype=bool), 0, _TIES / 2 / max(1, num - 1))
    games, own = wins + wins.transpose(0, 2, 1), wins.sum(axis=2)
    strengths = np.zeros(wins.shape[:2])
    for _ in range(_MAX_STEPS):
        chances = 1 / (1 + np.exp(strengths[:, None, :] - strengths[:, :, None]))
        information = -games * chances * (1 - chances)
        information[:, range(num), range(num)] = -information.sum(axis=2) + np.einsum("sii->si", information)
        gradient = own - (games * chances).sum(axis=2)
        # Adding a constant to all strengths changes nothing; the ones fix it, as the gradient sums to 0.
        step = np.linalg.solve(information + 1 / num, gradient[:, :, None])[:, :, 0].clip(-_MAX_STEP, _MAX_STEP)
        strengths = strengths + step
        if np.abs(step).max() < _TOLERANCE:
            break
    found: np.ndarray = strengths - strengths.mean(axis=1, keepdims=True)
    return found


def _drawn(numbers: Int[np.ndarray, "votes 2"], num: int, seed: int) -> Float[np.ndarray, "resamples votes"]:
    """How often each vote counts in each resample of clips and voters."""
    rng = np.random.default_rng(seed)
    weights = np.ones((num, len(numbers)))
    for factor in range(2):
        size = numbers[:, factor].max() + 1
        if size > 1:
            counts = rng.multinomial(size, np.full(size, 1 / size), size=num)
            weights *= counts[:, numbers[:, factor]]
    return weights


def _wins(
    weights: Float[np.ndarray, "samples votes"],
    pairs: Int[np.ndarray, "votes 2"],
    shares: Float[np.ndarray, " votes"],
    num_methods: int,
) -> Float[np.ndarray, "samples methods methods"]:
    wins = np.zeros((num_methods, num_methods, len(weights)))
    np.add.at(wins, (pairs[:, 0], pairs[:, 1]), (weights * shares).T)
    np.add.at(wins, (pairs[:, 1], pairs[:, 0]), (weights * (1 - shares)).T)
    return wins.transpose(2, 0, 1)


def _standings(
    methods: Sequence[str],
    wins: Float[np.ndarray, "samples methods methods"],
    strengths: Float[np.ndarray, "samples methods"],
    pairs: Int[np.ndarray, "votes 2"],
    has_one_source: bool,
) -> list[Standing]:
    rates = _share(wins.sum(axis=2), wins.sum(axis=1))
    first, last = _ranks(strengths[1:])
    found = []
    for index in (-strengths[0]).argsort(kind="stable").tolist():
        low, _ = np.percentile(first[:, index], [_LOW, _HIGH], method="nearest")
        _, high = np.percentile(last[:, index], [_LOW, _HIGH], method="nearest")
        num = int((pairs == index).any(axis=1).sum())
        own = _estimate(rates[:, index], has_one_source), _estimate(strengths[:, index], has_one_source)
        ranks = (1, len(methods)) if has_one_source else (int(low), int(high))
        found.append(Standing(methods[index], num, *own, ranks))
    return found


def _ranks(strengths: Float[np.ndarray, "samples methods"]) -> tuple[np.ndarray, np.ndarray]:
    """The first and the last rank of each method in each sample: methods of one strength share ranks."""
    gap = strengths[:, None, :] - strengths[:, :, None]
    return 1 + (gap > _EQUAL).sum(axis=2), (gap > -_EQUAL).sum(axis=2)


def _duels(
    methods: Sequence[str],
    wins: Float[np.ndarray, "samples methods methods"],
    pairs: Int[np.ndarray, "votes 2"],
    numbers: Int[np.ndarray, "votes 2"],
) -> list[Duel]:
    found = []
    for first in range(len(methods)):
        for second in range(first + 1, len(methods)):
            is_own = (np.sort(pairs, axis=1) == [first, second]).all(axis=1)
            if num := int(is_own.sum()):
                rates = _share(wins[:, first, second], wins[:, second, first])
                has_one_source = len(np.unique(numbers[is_own], axis=0)) == 1
                found.append(Duel((methods[first], methods[second]), num, _estimate(rates, has_one_source)))
    return found


def _share(won: np.ndarray, lost: np.ndarray) -> np.ndarray:
    share: np.ndarray = np.divide(won, won + lost, out=np.full_like(won, np.nan), where=won + lost > 0)
    return share


def _estimate(samples: Float[np.ndarray, " samples"], has_one_source: bool) -> Estimate:
    """The first value, with an interval of the others; resamples without such a vote are left out."""
    if has_one_source:
        return Estimate(float(samples[0]), np.nan, np.nan)
    low, high = np.nanpercentile(samples[1:], [_LOW, _HIGH])
    return Estimate(float(samples[0]), float(low), float(high))
