"""Altered copies of a clip, which a listener would call the same sound."""

import numpy as np
from jaxtyping import Float32

from aai.media.audio import loudest_dbfs, resample

_QUIETER = 0.25  # 12 dB
_SLOWER = 1.12  # about two semitones lower
_SILENT_DB = 40.0
"""A half that is this much quieter than the clip is silence around it, and says nothing."""


def altered(wave: Float32[np.ndarray, " samples"], rate_hz: int) -> list[Float32[np.ndarray, " _"]]:
    """Copies of a clip that sound like it: its halves, unless one is silent, and it backwards, quieter and slower."""
    half = max(1, len(wave) // 2)
    least_dbfs = loudest_dbfs(wave, rate_hz) - _SILENT_DB
    halves = [part for part in (wave[:half], wave[-half:]) if loudest_dbfs(part, rate_hz) >= least_dbfs]
    slower = resample(wave, rate_hz, round(rate_hz * _SLOWER))
    return [np.ascontiguousarray(copy) for copy in (*halves, wave[::-1], wave * np.float32(_QUIETER), slower)]
