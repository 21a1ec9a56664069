"""Levels of waves.

They are RMS in dBFS with the DC offset removed: a full-scale square wave has 0 dBFS, a sine -3 dBFS, silence minus
infinity.
"""

import math

import numpy as np
from jaxtyping import Float, Float32

_BLOCK_S = 0.1  # short enough to catch a single bark, long enough to ignore a click


def level_dbfs(wave: Float32[np.ndarray, " samples"]) -> float:
    """RMS level of a whole wave."""
    if not len(wave):
        return -math.inf
    squares = np.einsum("i,i->", wave, wave, dtype=np.float64)  # unlike `var`, no copy in float64
    power = float(squares / len(wave) - wave.mean(dtype=np.float64) ** 2)
    return 10 * math.log10(power) if power > 0 else -math.inf


def loudest_dbfs(wave: Float32[np.ndarray, " samples"], rate_hz: int, enough_dbfs: float = math.inf) -> float:
    """RMS level of the loudest tenth of a second, or of the first one that reaches `enough_dbfs`."""
    block, loudest = max(2, round(_BLOCK_S * rate_hz)), -math.inf
    for start in range(0, len(wave), block):
        loudest = max(loudest, level_dbfs(wave[start : start + block]))
        if loudest >= enough_dbfs:
            break
    return loudest


def block_levels_dbfs(wave: Float32[np.ndarray, " samples"], rate_hz: int) -> Float[np.ndarray, " blocks"]:
    """RMS level of each tenth of a second; the last one may be longer, up to twice that."""
    block = max(2, round(_BLOCK_S * rate_hz))
    num = max(1, len(wave) // block)
    whole = wave[: num * block].reshape(num, -1)
    power = np.einsum("bi,bi->b", whole, whole, dtype=np.float64) / whole.shape[1] - whole.mean(1, np.float64) ** 2
    with np.errstate(divide="ignore", invalid="ignore"):
        levels: np.ndarray = np.where(power > 0, 10 * np.log10(power), -np.inf)
    if len(wave) > num * block:
        levels[-1] = max(levels[-1], level_dbfs(wave[(num - 1) * block :]))
    return levels
