"""Clips as encoders take them, cut from their recordings."""

from collections.abc import Callable

import numpy as np

from aai.media import audio, windows
from aai.media.files import read_content
from tasks.runtime.loader import RecentResults, Row, default_threads


class ClipReader:
    """Reads clips for an encoder; threads may call it at the same time.

    A recording that holds several of its clips is decoded once if these come one after the other.
    """

    def __init__(self, prepare: Callable[[np.ndarray, int], np.ndarray], options: audio.AudioOptions) -> None:
        self._prepare, self._options = prepare, options
        self._decoded = RecentResults(self._decode, default_threads())

    def __call__(self, row: Row) -> np.ndarray:
        """A clip as the encoder takes it.

        Raises:
            BadItem: its file cannot be read, or has changed.
        """
        wave, rate_hz = self._decoded(row["uri"], row["offset"], row["num_bytes"], row["content_id"])
        window = windows.cut(wave, rate_hz, windows.Window(row["start_s"], row["duration_s"]))
        return self._prepare(np.ascontiguousarray(window), rate_hz)

    def _decode(self, uri: str, offset: int | None, num_bytes: int | None, digest: str) -> tuple[np.ndarray, int]:
        recording = audio.decode(read_content(uri, offset, num_bytes, digest), uri, self._options)
        return audio.to_mono(recording.samples), recording.rate_hz
