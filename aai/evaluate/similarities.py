"""Similarities of pictures to what they should show: clips, own images, labels. Embeddings are unit vectors."""

import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from aai.metrics import ais_rank

_MIN_OTHERS = 5
"""Pictures of other targets that a standard deviation needs."""

Vectors = Float[np.ndarray, "pictures dim"]


def ranks_within(
    pictures: Vectors, targets: Float[np.ndarray, "targets dim"], numbers: Sequence[int]
) -> Float[np.ndarray, " pictures"]:
    """The share of the other targets that are less similar to a picture than its own one; 0.5 is chance.

    Args:
        pictures: the pictures.
        targets: the pool: clips of the evaluation (AIS), or their own images (IIS).
        numbers: the target of each picture.
    """
    is_own = np.asarray(numbers)[:, None] == np.arange(len(targets))
    return ais_rank(pictures, targets[list(numbers)], targets, is_own)


def z_scores(
    pictures: Vectors, targets: Float[np.ndarray, "targets dim"], numbers: Sequence[int]
) -> Float[np.ndarray, " pictures"]:
    """The cosine of a picture and its target, in standard deviations above the other pictures' cosines with it.

    The other pictures are those of other targets. NaN with fewer than five, whose deviation says little, or where their
    cosines are all equal.

    Source: AIS and IIS in MACS (arXiv 2503.10287), whose standard deviation divides by the number.
    """
    owners, found = np.asarray(numbers), np.full(len(pictures), math.nan)
    cosines = pictures @ targets.T
    for index, target in enumerate(owners.tolist()):
        others = cosines[owners != target, target]
        if len(others) >= _MIN_OTHERS and (spread := others.std()) > 0:
            found[index] = (cosines[index, target] - others.mean()) / spread
    return found


def best_label(pictures: Vectors, labels: Float[np.ndarray, "labels dim"]) -> list[int]:
    """The number of the label that is most similar to each picture.

    Source: AIC in SonicDiffusion (arXiv 2405.00878): zero-shot classification by the bare labels.
    """
    numbers: list[int] = (pictures @ labels.T).argmax(axis=1).tolist()
    return numbers
