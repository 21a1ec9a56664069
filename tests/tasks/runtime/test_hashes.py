"""Ids as numbers of 64 bits."""

import numpy as np

from tasks.runtime.hashes import HashSet, hash_of, hashes_of


def test_hashes_are_the_same_in_every_process():
    assert hash_of("a clip").hex() == "bc67453e3c654ca0"
    assert hashes_of(["a clip", "b"])[0] == np.frombuffer(hash_of("a clip"), np.int64)[0]
    assert len(hashes_of([])) == 0


def test_a_set_finds_what_was_added_and_nothing_else():
    known = HashSet()
    random = np.random.default_rng(0)
    everything = random.integers(-(2**63), 2**63 - 1, 5_000)
    for part in np.array_split(everything[:4_000], 300):
        known.add(part)
    known.add(np.empty(0, np.int64))
    assert len(known) == 4_000 and len(known._arrays) < 12
    assert known.contains(everything).tolist() == [True] * 4_000 + [False] * 1_000
    assert HashSet().contains(everything[:3]).tolist() == [False] * 3
