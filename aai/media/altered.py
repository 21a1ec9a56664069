"""Altered copies of a clip, which a listener would call the same sound."""

import numpy as np
from jaxtyping import Float32

from aai.media.audio import loudest_dbfs, resample

_SLOWER, _FASTER = 1.12, 0.89  # about two semitones lower and higher
_SILENT_DB = 40.0
"""A third that is this much quieter than the clip is silence around it, and says nothing."""


def altered(wave: Float32[np.ndarray, " samples"], rate_hz: int) -> list[Float32[np.ndarray, " _"]]:
    """Copies of a clip that sound like it: its thirds, unless they are silent, and it backwards, slower and faster."""
    least_dbfs = loudest_dbfs(wave, rate_hz) - _SILENT_DB
    parts = [part for part in np.array_split(wave, 3) if len(part) and loudest_dbfs(part, rate_hz) >= least_dbfs]
    slower, faster = (resample(wave, rate_hz, round(rate_hz * factor)) for factor in (_SLOWER, _FASTER))
    return [np.ascontiguousarray(copy) for copy in (*parts, wave[::-1], slower, faster)]
