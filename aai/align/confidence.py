"""Confidence: whether altered copies of a clip are heard as the clip is, and find its images.

An encoder that knows a sound hears a half of it, or it backwards, much as the whole; of others it has an accidental
opinion. Two numbers say how much the copies agree:

    agreement   the mean cosine of the vectors of the clip and its copies
    margin      the mean similarity of the copies to the clip's images, on a scale on which 0 is that of the bank's
                other clips (their median), and 1 that of the clip itself, or of the clips that match the images best

The confidence is agreement x margin, from 0 to 1. What was tried beside it is in docs/TINY_WORLD.md.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float32

LOW = 0.5
"""Confidences below this are low."""

_BEST = 0.95
_TINY = 1e-6


class Confidence(NamedTuple):
    """How sure the encoders are of a clip."""

    confidence: float
    agreement: float
    margin: float


def confidence_of(
    vector: Float32[np.ndarray, " dim"],
    copies: Float32[np.ndarray, "copies dim"],
    images: Float32[np.ndarray, "images dim"],
    others: Float32[np.ndarray, "clips dim"],
) -> Confidence:
    """The confidence of a clip.

    Args:
        vector: its aligned vector.
        copies: the aligned vectors of its altered copies.
        images: the vectors of the images retrieved for it.
        others: the aligned vectors of other clips of the bank; without any, 0 on the scale is no similarity.
    """
    heard = np.vstack([vector, copies])
    cosines = (heard @ heard.T)[np.triu_indices(len(heard), 1)]
    agreement = float(np.clip(cosines.mean(), 0, 1))
    own, *found = (heard @ images.mean(0)).tolist()
    margin = _on_scale(float(np.mean(found)), own, others @ images.mean(0))
    return Confidence(agreement * margin, agreement, margin)


def _on_scale(found: float, own: float, others: Float32[np.ndarray, " clips"]) -> float:
    """A similarity on the scale of the clip's own and those of other clips."""
    zero = float(np.median(others)) if len(others) else 0.0
    one = max(own, float(np.quantile(others, _BEST))) if len(others) else own
    return float(np.clip((found - zero) / max(one - zero, _TINY), 0, 1))
