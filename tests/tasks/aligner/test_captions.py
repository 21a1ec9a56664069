"""Captions are split so that none is on both sides."""

import numpy as np

from aai.align.pair_vectors import HELD_OUT, TRAIN
from tasks.aligner.captions import Captions, _written
from tasks.aligner.config import TextTrainingConfig


def test_captions_that_are_seen_alike_are_on_one_side(tmp_path):
    rng = np.random.default_rng(0)
    texts = [f"{form} {number}" for number in range(100) for form in ("a dog", "A dog")]
    seen = np.repeat(rng.normal(size=(100, 8)), 2, axis=0).astype(np.float32)  # the encoder does not tell case
    embedded = Captions(texts, rng.normal(size=(200, 8)).astype(np.float32), seen, None, [])
    pairs, _ = _written(embedded, TextTrainingConfig(), tmp_path)
    parts = np.array(pairs.parts).reshape(100, 2)
    assert (parts[:, 0] == parts[:, 1]).all() and {TRAIN, HELD_OUT} <= set(parts[:, 0])
