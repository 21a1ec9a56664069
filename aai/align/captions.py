"""Built-in caption vocabulary for zero-shot audio classification (alignment without training)."""

from functools import cache
from importlib.resources import files

import numpy as np
from jaxtyping import Float


@cache
def everyday_sounds() -> tuple[str, ...]:
    """Some 260 visible sound sources, as "a barking dog": each fits after "the sound of" and "a photo of"."""
    return tuple((files("aai.align") / "everyday_sounds.txt").read_text().splitlines())


def weights_of(
    scores: Float[np.ndarray, "clips captions"], temperature: float, num: int
) -> Float[np.ndarray, "clips captions"]:
    """The softmax of the `num` best scores of each clip; others have no weight."""
    num = min(num, scores.shape[1])
    lowest = np.partition(scores, -num, axis=1)[:, -num, None]
    weights = np.exp((scores - scores.max(axis=1, keepdims=True)) / temperature) * (scores >= lowest)
    normalised: np.ndarray = weights / weights.sum(axis=1, keepdims=True)
    return normalised
