"""Misaligned pairs are found, and where there are none hardly any are left out."""

import numpy as np
import pytest

from aai.align.misaligned import THRESHOLD, local_false_discovery_rate, probabilities
from aai.align.pair_vectors import PairVectors
from tests.align.pairs import make_vectors


def pairs_of(audio: np.ndarray, image: np.ndarray) -> PairVectors:
    numbers = np.arange(len(audio))
    return PairVectors(audio, image, None, np.stack([numbers, numbers, numbers, numbers], axis=1))


@pytest.mark.parametrize("share", [0.0, 0.3, 0.6])
def test_most_misaligned_pairs_are_found_and_few_others(share):
    audio, image = make_vectors(300)
    num = round(share * len(audio))
    image[:num] = np.roll(image[:num], 1, axis=0)
    is_found = probabilities(pairs_of(audio, image), np.arange(len(audio))) > THRESHOLD
    assert is_found[:num].sum() >= 0.85 * num
    assert is_found[num:].mean() <= 0.1


def test_uniform_values_are_all_misaligned_and_small_ones_none():
    uniform = (np.arange(200) + 0.5) / 200
    assert (local_false_discovery_rate(uniform) > 0.9).mean() > 0.98
    assert (local_false_discovery_rate(uniform * 0.02) < 0.1).all()
