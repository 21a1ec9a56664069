"""Sounds that libsndfile does not read, such as m4a, wma and the sound of videos, by ffmpeg's libraries (PyAV).

The demuxer is chosen by the file's first bytes and never by ffmpeg's own probing: playlists and other formats that name
further files are not opened. The first sound stream is decoded from its start to its end, so that windows are exact to
the sample; priming and padding samples of the encoder are left out where the container says how many there are.
"""

import importlib.util
import io
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float32

from aai.errors import BadItem
from aai.media.unread import unread_sound

INSTALL = "pip install av"
_DEMUXERS = {
    "MPEG-4 (m4a, mp4, AAC, ALAC)": "mov",
    "Windows Media (wma)": "asf",
    "Matroska or WebM": "matroska",
    "AAC (ADTS)": "aac",
    "AMR": "amr",
    "RealAudio": "rm",
    "Monkey's Audio": "ape",
    "WavPack": "wv",
    "True Audio": "tta",
    "TAK": "tak",
    "Shorten": "shn",
    "DSD": "dsf",
    "DSD (DSDIFF)": "iff",
    "Musepack": "mpc",
    "Musepack 8": "mpc8",
    "AC-3": "ac3",
    "E-AC-3": "eac3",
    "DTS": "dts",
    "Dolby TrueHD": "truehd",
    "AVI": "avi",
    "Flash video": "flv",
    "MPEG video": "mpeg",
    "MPEG transport stream": "mpegts",
}
"""The demuxers of ffmpeg by the names of formats."""

_WITH_LENGTH = frozenset(("mov", "asf", "wv", "tta", "ape", "tak", "dsf", "iff", "mpc", "mpc8", "avi"))
"""Demuxers that know the length of a stream; that of others is an estimate, or is the file's."""
_MAX_PADDING_S = 0.1
"""Decoded samples after the stream's end that are an encoder's padding."""


class Sound(NamedTuple):
    """The first sound stream of a file, decoded."""

    samples: Float32[np.ndarray, "samples channels"]
    rate_hz: int
    declared_s: float
    """How long the stream is by the file's header; 0: unknown."""
    num_unused: int
    """Further sound streams, which are not decoded."""


class Progress(NamedTuple):
    """What is known of a sound before and while it is decoded, to be compared with limits."""

    num_samples: int
    num_channels: int
    rate_hz: int


def demuxer_of(data: bytes) -> str | None:
    """The demuxer of a file; none if it is of no format that is read by ffmpeg's libraries."""
    return _DEMUXERS.get(unread_sound(data) or "")


def open_container(file: Any, demuxer: str | None) -> Any:
    """A file that is open for reading bytes, as ffmpeg's libraries read it; nothing else that it may name is opened."""
    import av  # an extra, and 50 MB of libraries

    return av.open(file, format=demuxer, options={"protocol_whitelist": "none"})


def is_installed() -> bool:
    """Whether PyAV, which brings ffmpeg's libraries, is there."""
    return importlib.util.find_spec("av") is not None


def decode(data: bytes, uri: str, check: Callable[[Progress], None]) -> Sound:
    """Decode the first sound stream of a file whose format `demuxer_of` knows.

    Args:
        data: the file.
        uri: its name, for errors.
        check: called with what the header says and then after each frame; it raises `BadItem` beyond a limit.

    Raises:
        BadItem: PyAV is not installed, the file has no sound, is damaged, or changes its format inside.
    """
    name = unread_sound(data)
    if not is_installed():
        raise BadItem(f"{name} files need a further package: {INSTALL}, or convert it to FLAC or WAV", uri=uri)
    import av

    try:
        with open_container(io.BytesIO(data), demuxer_of(data)) as container:
            if not container.streams.audio:
                raise BadItem(f"the {name} file has no sound: delete it, or name it in `images` as pictures", uri=uri)
            return _first_sound(container, demuxer_of(data) in _WITH_LENGTH, uri, check)
    except (av.FFmpegError, ValueError, OverflowError, LookupError) as error:
        reason = " ".join(str(getattr(error, "strerror", None) or error).split())
        raise BadItem(
            f"the {name} file is damaged, cut short or has an unsupported codec ({reason}): copy it again, or convert "
            "it to FLAC",
            uri=uri,
        ) from error


def _first_sound(container: Any, has_length: bool, uri: str, check: Callable[[Progress], None]) -> Sound:
    stream = container.streams.audio[0]
    declared_s = float(stream.duration * stream.time_base) if has_length and stream.duration else 0.0
    context = stream.codec_context
    if declared_s and context.sample_rate and context.channels:
        num_declared = round(declared_s * context.sample_rate)
        check(Progress(num_declared, context.channels, context.sample_rate))
    blocks: list[np.ndarray] = []
    num_samples, shape = 0, (0, 0)
    for block, rate_hz in _blocks(container, stream):
        own = (block.shape[1], rate_hz)
        if blocks and own != shape:
            raise BadItem(
                f"its sound changes from {shape[1]} Hz, {shape[0]} channel(s) to {own[1]} Hz, {own[0]}: split it",
                uri=uri,
            )
        blocks.append(block)
        num_samples, shape = num_samples + len(block), own
        check(Progress(num_samples, *shape))
    if not blocks:
        raise BadItem("its sound stream is empty: copy it again, or delete it", uri=uri)
    samples = np.concatenate(blocks)
    end = round(declared_s * shape[1])
    if 0 < end < len(samples) <= end + _MAX_PADDING_S * shape[1]:
        samples = samples[:end]
    return Sound(samples, shape[1], declared_s, len(container.streams.audio) - 1)


def _blocks(container: Any, stream: Any) -> Iterator[tuple[Float32[np.ndarray, "samples channels"], int]]:
    """Decoded frames as float32, full scale 1, with their sample rate."""
    from av import AudioResampler

    resampler, before = None, None
    for frame in container.decode(stream):
        kind = (frame.format.name, frame.layout.name, frame.sample_rate)
        if resampler is None or kind != before:
            resampler, before = AudioResampler(format="fltp", layout=frame.layout, rate=frame.sample_rate), kind
        for converted in resampler.resample(frame):
            yield np.ascontiguousarray(converted.to_ndarray().T), frame.sample_rate
