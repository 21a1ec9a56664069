"""Windows of recordings, which become clips: placed around sounds, without those of silence and background noise."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float32

from aai.media.audio import AudioOptions, decode, to_mono
from aai.media.levels import block_levels_dbfs, loudest_dbfs

_MIN_RANGE_DB, _ONSET_DB = 12.0, 6.0
"""Sounds stand out if the loudest tenth of a second is this far above the floor; they begin this far above it."""
_FLOOR_PERCENT = 10.0
"""The floor of a recording is the level that so many percent of its tenths of a second stay below."""
_MIN_GAP_S = 2.0
"""Sounds with shorter gaps, such as the ticks of a clock, are one sound."""
_STEADY_DB = 3.0
"""Noise is steady: its loudest tenth of a second is less than this above the median one."""

Span = tuple[int, int]
"""First sample, and the one after the last."""


class Window(NamedTuple):
    """A part of a recording."""

    start_s: float
    duration_s: float


class LeftOut(NamedTuple):
    """How much of a recording is in none of its clips, in seconds."""

    end_s: float
    """In ends shorter than min_window_s."""
    silent_s: float
    """In silent windows, and windows of background noise."""
    between_s: float
    """Between two windows."""


class Split(NamedTuple):
    """A recording's windows, and what is in none of them."""

    windows: list[Window]
    left_out: LeftOut


def split(wave: Float32[np.ndarray, " samples"], rate_hz: int, options: AudioOptions) -> Split:
    """Windows of a recording without the silent ones, and how much is in none; without any, `no_window` says why."""
    spans: list[list[Span]] = [[], [], []]  # kept, silent, too short
    loudest = loudest_dbfs(wave, rate_hz)
    for start, end in _spans(wave, rate_hz, options):
        is_short = 0 < end - start < min(len(wave), options.min_window_s * rate_hz)
        kind = 2 if is_short else int(_is_silent(wave[start:end], rate_hz, loudest, options))
        spans[kind].append((start, end))
    windows = [Window(start / rate_hz, (end - start) / rate_hz) for start, end in spans[0]]
    return Split(windows, _left_out(len(wave), rate_hz, spans))


def windows(wave: Float32[np.ndarray, " samples"], rate_hz: int, options: AudioOptions) -> list[Window]:
    """Windows of a recording without the silent ones."""
    return split(wave, rate_hz, options).windows


def no_window(wave: Float32[np.ndarray, " samples"], rate_hz: int, options: AudioOptions) -> str:
    """Why a recording that is not silent has no window: a sentence with a remedy."""
    loudest = loudest_dbfs(wave, rate_hz)
    if loudest < options.silence_dbfs:
        level = f"the loudest part of all channels together has {loudest:.0f} dBFS, below {options.silence_dbfs:g} dBFS"
        return f"silent as mono: {level}: store the channel that has the sound, or lower silence_dbfs"
    if windows(wave, rate_hz, options.model_copy(update={"min_window_s": 0.0})):
        return "the only sound is in the last window, which is shorter than min_window_s: lower min_window_s"
    if options.hop_s > options.window_s:
        return "the only sound is between two windows: lower hop_s to window_s"
    return f"no window reaches {options.silence_dbfs:g} dBFS, though the recording does: lower silence_dbfs"


def cut(wave: Float32[np.ndarray, " samples"], rate_hz: int, window: Window) -> Float32[np.ndarray, " part"]:
    """Samples of a window, as a view."""
    start = round(window.start_s * rate_hz)
    return wave[start : start + round(window.duration_s * rate_hz)]


def decode_window(
    data: bytes, uri: str, window: Window, options: AudioOptions
) -> tuple[Float32[np.ndarray, " samples"], int]:
    """One window of an audio file as mono samples, and the sample rate in Hz.

    Raises:
        BadItem: as `decode`.
    """
    recording = decode(data, uri, options)
    return cut(to_mono(recording.samples), recording.rate_hz, window), recording.rate_hz


def _is_silent(part: np.ndarray, rate_hz: int, loudest_of_all: float, options: AudioOptions) -> bool:
    """Whether a window is silent, or background noise of a recording that has louder sounds."""
    if loudest_dbfs(part, rate_hz, options.silence_dbfs) < options.silence_dbfs:
        return True
    if options.background_db is None:
        return False
    levels = block_levels_dbfs(part, rate_hz)
    below = loudest_of_all - levels.max()
    is_steady = levels.max() - np.median(levels) < _STEADY_DB
    return bool(below > options.background_db or (is_steady and below > options.background_db / 2))


def _spans(wave: np.ndarray, rate_hz: int, options: AudioOptions) -> Iterator[Span]:
    """Windows, silent ones included."""
    length, position = round(options.window_s * rate_hz), 0
    is_split = options.placement == "sounds" and len(wave) > length
    for first, last, limit in _groups(_sounds(wave, rate_hz, options), len(wave), length) if is_split else ():
        start = max(position, min(first, last - length))  # as much of what is before as fits
        if start > position:
            yield from _tiles(position, start, rate_hz, options)
        position = min(max(last, start + length), limit)
        yield from _tiles(start, position, rate_hz, options)
    if position < max(1, len(wave)):
        yield from _tiles(position, len(wave), rate_hz, options)


def _tiles(start: int, end: int, rate_hz: int, options: AudioOptions) -> Iterator[Span]:
    """Windows one after another; none after one that reaches the end.

    Around sounds the last one is as long as the others and overlaps the one before it, unless that leaves less than
    `min_window_s` for it.
    """
    length, hop = round(options.window_s * rate_hz), round(options.hop_s * rate_hz)
    for first in range(start, max(end - max(0, length - hop), start + 1), hop):
        last = min(first + length, end)
        is_long = last - first >= options.min_window_s * rate_hz
        yield (max(start, last - length) if options.placement == "sounds" and is_long else first), last


def _sounds(wave: np.ndarray, rate_hz: int, options: AudioOptions) -> list[Span]:
    """Where sounds stand out from a recording's floor; nowhere in a steady one."""
    levels = block_levels_dbfs(wave, rate_hz).clip(options.silence_dbfs)
    floor = float(np.percentile(levels, _FLOOR_PERCENT))
    if levels.max() - floor < _MIN_RANGE_DB:
        return []
    (loud,) = np.nonzero(levels > floor + _ONSET_DB)
    blocks_s = len(wave) / rate_hz / len(levels)
    parts = np.split(loud, np.nonzero(np.diff(loud) * blocks_s > _MIN_GAP_S)[0] + 1)
    edges = np.linspace(0, len(wave), len(levels) + 1).round().astype(int)
    return [(int(edges[part[0]]), int(edges[part[-1] + 1])) for part in parts]


def _groups(sounds: Sequence[Span], num_samples: int, length: int) -> Iterator[tuple[int, int, int]]:
    """Sounds that one window holds together: the start of the first, the end of the last, and the start of the next."""
    index = 0
    while index < len(sounds):
        first, last = sounds[index]
        while index + 1 < len(sounds) and sounds[index + 1][1] - first <= length:
            index += 1
            last = sounds[index][1]
        index += 1
        yield first, last, sounds[index][0] if index < len(sounds) else num_samples


def _left_out(num_samples: int, rate_hz: int, spans: Sequence[Sequence[Span]]) -> LeftOut:
    """Seconds in windows that are not kept, and in none; what several windows cover counts for the first kind."""
    edges = np.unique([0, num_samples, *(edge for some in spans for span in some for edge in span)])
    covered = np.stack([_covered(edges, some) for some in spans] + [np.ones(len(edges) - 1, bool)])
    lengths_s = np.bincount(covered.argmax(axis=0), np.diff(edges), minlength=4) / rate_hz
    return LeftOut(end_s=float(lengths_s[2]), silent_s=float(lengths_s[1]), between_s=float(lengths_s[3]))


def _covered(edges: np.ndarray, spans: Sequence[Span]) -> np.ndarray:
    """For each interval between two edges, whether some span covers it."""
    changes = np.zeros(len(edges), np.int64)
    first, last = (np.searchsorted(edges, [span[side] for span in spans]) for side in (0, 1))
    np.add.at(changes, first, 1)
    np.add.at(changes, last, -1)
    return changes.cumsum()[:-1] > 0
