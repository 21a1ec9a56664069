"""Confidence: whether altered copies of a clip are heard as the clip is.

An encoder that knows a sound hears a third of it, or it backwards or slower, much as the whole; of others it has an
accidental opinion. Vectors are compared where the bank's images differ from one another: in the subspace of their
principal components, less their mean. What all vectors of an encoder have in common, and what sets sounds apart from
images in its space, says nothing about a clip. No other clip takes part, so a clip's confidence does not depend on
which clips the bank had before it.

    agreement   the cosine of the mean angle between the vectors of the clip and its copies in this subspace
    margin      the mean similarity of the copies to the clip's images, where 0 is that to all images, and 1 the clip's

The confidence is the probability that the encoder knows the sound, by the mean angle, among as many sounds
that it knows as not. It was calibrated on recordings of the tiny world; docs/TINY_WORLD.md has what was tried.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Float32

LOW = 0.5
"""Confidences below this are low: the sound is rather unknown than known."""

_VARIANCE = 0.95
"""Share of the images' variance in the subspace."""

_EVEN_DEG, _SCALE_DEG = 40.0, 10.0
"""The mean angle at which a sound is as likely known as not, and by which the odds change by the factor e."""

_TINY = 1e-6


class Confidence(NamedTuple):
    """How sure the encoders are of a clip."""

    confidence: float
    agreement: float
    margin: float


@dataclass(frozen=True)
class ImageSpace:
    """The subspace in which images differ from one another."""

    mean: Float32[np.ndarray, " dim"]
    components: Float32[np.ndarray, "dim components"]

    @classmethod
    def of(cls, images: Float32[np.ndarray, "images dim"]) -> "ImageSpace":
        """The subspace of some images; the whole space if they do not differ."""
        mean = images.mean(0)
        _, scales, directions = np.linalg.svd(images - mean, full_matrices=False)
        shares = np.cumsum(np.square(scales))
        if shares[-1] < _TINY * len(images):
            return cls(np.zeros_like(mean), np.eye(len(mean), dtype=np.float32))
        num = int(np.searchsorted(shares, _VARIANCE * shares[-1])) + 1
        return cls(mean, np.ascontiguousarray(directions[:num].T))

    def directions_of(self, vectors: Float32[np.ndarray, "vectors dim"]) -> Float32[np.ndarray, "vectors components"]:
        """Unit vectors in the subspace."""
        inside = (vectors - self.mean) @ self.components
        return inside / np.maximum(np.linalg.norm(inside, axis=1, keepdims=True), _TINY)


def confidence_of(
    vector: Float32[np.ndarray, " dim"],
    copies: Float32[np.ndarray, "copies dim"],
    images: Float32[np.ndarray, "images dim"],
    space: ImageSpace,
) -> Confidence:
    """The confidence of a clip.

    Args:
        vector: its aligned vector.
        copies: the aligned vectors of its altered copies.
        images: the vectors of the images retrieved for it; without any the margin is 0.
        space: the subspace of the bank's images.
    """
    heard = np.vstack([vector, copies])
    directions = space.directions_of(heard)
    cosines = (directions @ directions.T)[np.triu_indices(len(heard), 1)]
    angle_deg = float(np.degrees(np.arccos(np.clip(cosines, -1, 1))).mean())
    confidence = 1 / (1 + np.exp((angle_deg - _EVEN_DEG) / _SCALE_DEG))
    agreement = float(np.clip(np.cos(np.radians(angle_deg)), 0, 1))
    return Confidence(float(confidence), agreement, _margin(heard, images, space) if len(images) else 0.0)


def _margin(heard: Float32[np.ndarray, "heard dim"], images: np.ndarray, space: ImageSpace) -> float:
    own, *found = (heard @ (images.mean(0) - space.mean)).tolist()
    return float(np.clip(np.mean(found) / max(own, _TINY), 0, 1))
