"""Ridge regression between two embedding spaces, in closed form."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

_CHUNK = 65_536


@dataclass(frozen=True)
class Ridge:
    """An affine map; its results are not normalised."""

    weight: Float[np.ndarray, "inputs outputs"]
    bias: Float[np.ndarray, " outputs"]

    def __call__(self, vectors: Float[np.ndarray, "vectors inputs"]) -> Float[np.ndarray, "vectors outputs"]:
        """Map vectors."""
        return vectors @ self.weight + self.bias


def fit_ridge(
    inputs: Float[np.ndarray, "pairs inputs"],
    outputs: Float[np.ndarray, "pairs outputs"],
    penalty: float,
    weights: Float[np.ndarray, " pairs"] | None = None,
) -> Ridge:
    """The map with the least squared error; `penalty` is relative to the mean variance of the inputs.

    Rows are read in chunks, and only their second moments are kept.
    """
    num_in, num_out = inputs.shape[1], outputs.shape[1]
    total, sum_in, sum_out = 0.0, np.zeros(num_in), np.zeros(num_out)
    square, cross = np.zeros((num_in, num_in)), np.zeros((num_in, num_out))
    for start in range(0, len(inputs), _CHUNK):
        part = slice(start, start + _CHUNK)
        left, right = np.asarray(inputs[part], np.float32), np.asarray(outputs[part], np.float32)
        own = np.ones(len(left), np.float32) if weights is None else weights[part].astype(np.float32)
        weighted = left * own[:, None]
        total += float(own.sum())
        sum_in, sum_out = sum_in + weighted.sum(axis=0), sum_out + own @ right
        square, cross = square + weighted.T @ left, cross + weighted.T @ right
    mean_in, mean_out = sum_in / total, sum_out / total
    covariance = square / total - np.outer(mean_in, mean_in)
    covariance += np.eye(num_in) * penalty * max(np.trace(covariance) / num_in, np.finfo(np.float32).tiny)
    weight = np.linalg.solve(covariance, cross / total - np.outer(mean_in, mean_out))
    return Ridge(weight.astype(np.float32), (mean_out - mean_in @ weight).astype(np.float32))
