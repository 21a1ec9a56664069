"""Votes of known strengths give these strengths back, and intervals that hold them."""

import math

import numpy as np
import pytest

from aai.evaluate.preferences import Vote, bradley_terry, ranking_of

STRENGTHS = {"adapter": 1.0, "mapper": 0.5, "label": 0.0, "random": -1.5}
METHODS = list(STRENGTHS)


def simulated(seed: int, num_clips: int = 40, num_voters: int = 3, ties: float = 0.2) -> list[Vote]:
    """Each voter votes once on each two methods of each clip."""
    rng = np.random.default_rng(seed)
    votes = []
    for clip in range(num_clips):
        for voter in range(num_voters):
            for first, second in ((a, b) for a in METHODS for b in METHODS if a < b):
                chance = 1 / (1 + math.exp(STRENGTHS[second] - STRENGTHS[first]))
                share = 0.5 if rng.random() < ties else float(rng.random() < chance)
                votes.append(Vote(f"clip {clip}", f"voter {voter}", (first, second), share))
    return votes


def test_strengths_of_two_methods_are_the_logarithm_of_their_odds():
    wins = np.array([[[0.0, 30.0], [10.0, 0.0]], [[0.0, 5.0], [0.0, 0.0]]])
    found = bradley_terry(wins)
    assert found[0, 0] - found[0, 1] == pytest.approx(math.log(30.25 / 10.25), abs=1e-6)
    assert found[1, 0] - found[1, 1] == pytest.approx(math.log(5.25 / 0.25), abs=1e-6), "it always won, and is finite"
    assert found.sum(axis=1) == pytest.approx([0, 0], abs=1e-9)


def test_expected_wins_give_the_strengths_back():
    values = np.array(list(STRENGTHS.values()))
    chances = 1 / (1 + np.exp(values[None, :] - values[:, None]))
    np.fill_diagonal(chances, 0)
    found = bradley_terry(1e6 * chances[None])[0]
    assert found == pytest.approx(values - values.mean(), abs=1e-4)


def test_the_ranking_of_simulated_votes_is_that_of_the_strengths():
    ranking = ranking_of(simulated(0, ties=0.0), num_resamples=300)
    assert [standing.method for standing in ranking.standings] == METHODS
    assert (ranking.num_votes, ranking.num_clips, ranking.num_voters) == (720, 40, 3)
    for standing in ranking.standings:
        assert standing.strength.value == pytest.approx(STRENGTHS[standing.method], abs=0.35)
        assert standing.strength.low < STRENGTHS[standing.method] < standing.strength.high
        assert standing.num == 360 and standing.wins.low < standing.wins.value < standing.wins.high
    assert ranking.standings[3].rank == (4, 4) and ranking.standings[0].rank[0] == 1
    assert len(ranking.duels) == 6 and all(duel.num == 120 for duel in ranking.duels)


def test_intervals_hold_the_truth_about_as_often_as_they_say():
    truth = 1 / (1 + math.exp(STRENGTHS["mapper"] - STRENGTHS["adapter"]))
    held = 0
    for seed in range(20):
        ranking = ranking_of(simulated(seed, num_clips=15, ties=0.0), num_resamples=100, seed=seed)
        [duel] = [duel for duel in ranking.duels if duel.methods == ("adapter", "mapper")]
        held += duel.wins.low <= truth <= duel.wins.high
    assert held >= 17


def test_a_tie_is_half_a_win():
    votes = [Vote(f"clip {number}", "me", ("a", "b"), 0.5) for number in range(4)]
    votes.append(Vote("clip 9", "me", ("a", "b"), 1.0))
    ranking = ranking_of(votes, num_resamples=100)
    assert ranking.standings[0].method == "a" and ranking.standings[0].wins.value == pytest.approx(0.6)
    assert ranking.standings[1].wins.value == pytest.approx(0.4) and ranking.duels[0].wins.value == pytest.approx(0.6)


def test_methods_that_always_tie_share_all_ranks():
    pairs = [("a", "b"), ("a", "c"), ("b", "c")]
    ranking = ranking_of([Vote(f"clip {number}", "me", pair, 0.5) for number in range(6) for pair in pairs])
    assert [standing.rank for standing in ranking.standings] == [(1, 3)] * 3
    assert [standing.strength.value for standing in ranking.standings] == pytest.approx([0, 0, 0], abs=1e-9)


def test_a_single_vote_has_no_interval_and_decides_no_rank():
    votes = [Vote("clip 1", "me", ("a", "b"), 1.0)]
    alone = ranking_of(votes)
    assert [standing.rank for standing in alone.standings] == [(1, 2)] * 2
    assert alone.standings[0].wins.value == 1 and math.isnan(alone.standings[0].wins.low)
    assert math.isnan(alone.duels[0].wins.low) and math.isnan(alone.standings[0].strength.high)
    more = ranking_of([*votes, *(Vote(f"clip {number}", "me", ("b", "c"), float(number % 2)) for number in range(8))])
    duels = {duel.methods: duel.wins for duel in more.duels}
    assert math.isnan(duels["a", "b"].high) and 0 < duels["b", "c"].low < duels["b", "c"].high < 1


def test_clips_that_all_voters_see_alike_widen_the_interval():
    """Votes on one clip are not independent: thirty voters on three clips know less than ninety clips."""
    few = [Vote(f"clip {number % 3}", f"voter {number}", ("a", "b"), float(number % 3 > 0)) for number in range(90)]
    many = [Vote(f"clip {number}", f"voter {number}", ("a", "b"), float(number % 3 > 0)) for number in range(90)]
    widths = [found.wins.high - found.wins.low for votes in (few, many) for found in ranking_of(votes).duels]
    assert widths[0] > 2 * widths[1]


def test_without_votes_there_is_no_ranking():
    with pytest.raises(ValueError, match="no votes"):
        ranking_of([])
