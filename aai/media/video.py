"""Videos: their sound and some of their frames, by PyAV (the extra `av`)."""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32, UInt8

from aai.errors import BadConfig, BadItem
from aai.media.containers import INSTALL, demuxer_of, open_container

VIDEO_SUFFIXES = frozenset(
    ".mp4 .m4v .mkv .webm .mov .avi .flv .wmv .mpg .mpeg .m2v .ts .mts .m2ts .3gp .3g2 .ogv .vob .asf .f4v".split()
)
_START_BYTES = 4096
MAX_DURATION_S = 4 * 3600.0
"""The sound of a longer video does not fit into memory."""


@dataclass(frozen=True)
class Excerpt:
    """A window of a video: its sound, and frames of it."""

    start_s: float
    wave: Float32[np.ndarray, " samples"]
    rate_hz: int
    frames: Sequence[UInt8[np.ndarray, "height width 3"]]
    """The middle one first, then those further and further from it."""


def excerpts(path: Path, window_s: float, num_frames: int) -> Iterator[Excerpt]:
    """The windows of a video, one after the other; a last one of less than half a window is left out.

    A video that is shorter than a window is one window.

    Raises:
        BadItem: the file is no video, is damaged, or has no sound or no picture.
        BadConfig: the extra `av` is missing.
    """
    av = _library()
    try:
        wave, rate_hz, first_s = _sound(av, path)
        duration_s = len(wave) / rate_hz
        starts = _starts(duration_s, window_s)
        times = [_times(start, min(window_s, duration_s - start), num_frames) for start in starts]
        frames = _frames(path, sorted(time for own in times for time in own), first_s)
        for start, own in zip(starts, times, strict=True):
            part = wave[round(start * rate_hz) : round((start + window_s) * rate_hz)]
            shown = dict(islice(frames, len(own)))
            yield Excerpt(start, part, rate_hz, [shown[time] for time in own])
    except (av.error.FFmpegError, OSError) as error:
        reason = error.strerror or str(error).split("\n", 1)[0]
        raise BadItem(f"it cannot be read as a video ({reason}): convert it to MP4", uri=str(path)) from error


def _library() -> Any:
    try:
        import av
        import av.error
    except ImportError as error:
        raise BadConfig(f"videos need PyAV: {INSTALL}", key="pairs.videos") from error
    return av


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """Context manager: the file by the demuxer that its first bytes call for; nothing that it names is opened."""
    with path.open("rb") as file:
        start = file.read(_START_BYTES)
        file.seek(0)
        demuxer = "ogg" if start.startswith(b"OggS") else demuxer_of(start)
        if demuxer is None:
            raise BadItem("it is no video of a known format: convert it to MP4, or leave it out", uri=str(path))
        with open_container(file, demuxer) as container:
            yield container


def _starts(duration_s: float, window_s: float) -> list[float]:
    num = max(1, math.floor(duration_s / window_s + 0.5))
    return [number * window_s for number in range(num)]


def _times(start_s: float, length_s: float, num: int) -> list[float]:
    """Times of frames within a window, the middle first."""
    at = (np.arange(num) + 0.5) / num
    order = np.argsort(np.abs(at - 0.5), kind="stable")
    return [start_s + length_s * float(at[number]) for number in order]


def _sound(av: Any, path: Path) -> tuple[Float32[np.ndarray, " samples"], int, float]:
    """The sound, its sample rate, and when it begins on the clock of the file."""
    with _opened(path) as container:
        if not container.streams.audio:
            raise BadItem("it has no sound: leave it out", uri=str(path))
        stream = container.streams.audio[0]
        rate_hz = int(stream.rate)
        resampler, parts, num = av.AudioResampler("flt", "mono", rate_hz), [], 0
        first_s: float | None = None
        for frame in container.decode(stream):
            first_s = frame.time if first_s is None else first_s
            for converted in resampler.resample(frame):
                parts.append(converted.to_ndarray()[0])
                num += len(parts[-1])
            if num > MAX_DURATION_S * rate_hz:
                raise BadItem(f"it is longer than {MAX_DURATION_S / 3600:g} hours: cut it", uri=str(path))
    if not num:
        raise BadItem("its sound is empty: leave it out", uri=str(path))
    return np.concatenate(parts).astype(np.float32), rate_hz, first_s or 0.0


def _frames(path: Path, times: list[float], first_s: float) -> Iterator[tuple[float, np.ndarray]]:
    """Each of some times, which are sorted and count from `first_s`, with the frame that is shown then."""
    with _opened(path) as container:
        if not container.streams.video:
            raise BadItem("it has no picture: leave it out", uri=str(path))
        last, num = None, 0
        for frame in container.decode(container.streams.video[0]):
            while num < len(times) and last is not None and frame.time is not None:
                if frame.time - first_s <= times[num]:
                    break
                yield times[num], last.to_ndarray(format="rgb24")
                num += 1
            last = frame
            if num == len(times):
                return
    if last is None:
        raise BadItem("it has no picture: leave it out", uri=str(path))
    for time in times[num:]:
        yield time, last.to_ndarray(format="rgb24")
