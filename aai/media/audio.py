"""Sound files become samples, long recordings become windows, and a wave gets the rate and length an encoder asks for.

Levels are in dBFS of the RMS around the mean, so that a constant offset is not sound: a square wave at full scale has
0 dBFS, a sine 3 dB less, silence minus infinity.
"""

import io
import math
import re
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import soundfile
import soxr
from jaxtyping import Float32
from pydantic import Field, model_validator

from aai.errors import BadItem
from aai.options import Options

_BYTES_PER_SAMPLE = 4  # float32
_UNKNOWN_FRAMES = 2**63 - 1  # what libsndfile says of a stream whose header has no length
_UNKNOWN_BYTES = 0x7FFF0000  # headers written into a pipe claim this size or more
_BLOCK_FRAMES = 2**18  # read at a time where the length is not known

_LEVEL_BLOCK_S = 0.1  # short enough that a bark among silence is heard, long enough that a crackle is not
_MOST_MISSING_S = 0.1  # MP3 headers count the encoder's padding, so some frames less are no damage
_CANCELLED_DB = 20.0  # 100 equal but unrelated channels lose this much by being averaged; opposite ones lose all
_MAX_PEAK = 100.0  # 40 dB above full scale: integers stored as floats, or noise read as numbers

_NO_FORMAT = (1, 7)  # libsndfile: format not recognised; its MP3 reader found no frame

_OGG_PAGE = b"OggS"
_OGG_HEADER_BYTES = 27  # the last one counts the segments, whose lengths follow

_FOREIGN = (
    (4, b"ftyp", "MPEG-4 (m4a, mp4, AAC, ALAC)"),
    (0, b"\x30\x26\xb2\x75", "Windows Media (wma)"),
    (0, b"\x1a\x45\xdf\xa3", "Matroska or WebM"),
)
"""Kinds of sound files that libsndfile does not know: offset, magic bytes, name."""

_SHORT_SIZE = re.compile(r"(?:data|SSND|Data Size|riff|Riff size)\s*: (\d+) \(should be (\d+)\)")
"""How libsndfile's log says that there are fewer bytes than the header of a WAV, AIFF, AU, W64 or RF64 file claims."""


class AudioOptions(Options):
    """Which recordings are taken, and how they are cut into windows."""

    max_duration_s: float = Field(3600.0, gt=0)
    """A longer recording is rejected before it is decoded."""

    max_decoded_bytes: int = Field(2**30, gt=0)
    """A recording that needs more memory than this, all channels as float32, is rejected before it is decoded."""

    min_duration_s: float = Field(0.05, gt=0)
    """A shorter recording is rejected."""

    max_channels: int = Field(64, ge=1, le=1024)
    """A recording with more channels is rejected; 64 are those of seventh-order ambisonics."""

    min_rate_hz: int = Field(4_000, gt=0)
    """A recording with a lower sample rate is rejected."""

    max_rate_hz: int = Field(384_000, gt=0)
    """A recording with a higher sample rate is rejected."""

    silence_dbfs: float = Field(-60.0, ge=-200, le=0)
    """A recording or window is silent when no tenth of a second of it reaches this level."""

    window_s: float = Field(10.0, ge=0.1)
    """Length of a window; a shorter recording is one window."""

    hop_s: float = Field(10.0, ge=0.1)
    """From the start of a window to that of the next."""

    min_window_s: float = Field(1.0, ge=0)
    """A last window that is shorter is dropped, unless it is the only one."""

    @model_validator(mode="after")
    def _bounds_are_in_order(self) -> "AudioOptions":
        if self.min_duration_s > self.max_duration_s or self.min_rate_hz > self.max_rate_hz:
            raise ValueError("a min_ option is above the max_ option of the same name")
        if self.min_window_s > self.window_s:
            raise ValueError("min_window_s is above window_s")
        return self


@dataclass(frozen=True)
class Recording:
    """A decoded sound file: all channels, full scale is 1."""

    samples: Float32[np.ndarray, "samples channels"]
    rate_hz: int

    @property
    def duration_s(self) -> float:
        """Length in seconds."""
        return len(self.samples) / self.rate_hz


class Window(NamedTuple):
    """A part of a recording."""

    start_s: float
    duration_s: float


class _Bytes(io.BytesIO):
    """The bytes of a file; where a damaged one leads to a place before its beginning, one stays where one is."""

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go to a place, if there is such a place."""
        try:
            return super().seek(offset, whence)
        except (ValueError, OverflowError):
            return self.tell()


class _Stream(soundfile.SoundFile):
    """A sound file read from front to back: seeking to its end fails where the header is wrong about the length."""

    def seekable(self) -> bool:
        """Say no, so that reading never seeks."""
        return False


def decode(data: bytes, uri: str, options: AudioOptions) -> Recording:
    """Read a sound file of any format that libsndfile knows, at its own rate; limits are checked on its header first.

    Raises:
        BadItem: the file is empty, no sound file, damaged, cut short, silent, outside a limit of the options, or has
            samples that are not numbers; the message says which and begins with `uri`.
    """
    if not data:
        raise BadItem(f"{uri}: the file is empty (0 bytes): copy it again, or delete it")
    try:
        with _Stream(_Bytes(data)) as stream:
            _check_header(stream, uri, options)
            if _is_cut_ogg(data):
                raise BadItem(f"{uri}: the file is cut short (it ends within a page of Ogg): copy it again")
            recording = Recording(_read(stream, uri, options), stream.samplerate)
    except soundfile.LibsndfileError as error:
        raise BadItem(f"{uri}: {_explain(error, data)}") from error
    _check_samples(recording, uri, options)
    return recording


def to_mono(samples: Float32[np.ndarray, "samples channels"]) -> Float32[np.ndarray, " samples"]:
    """Average the channels; where that would cancel the sound, take the loudest channel instead.

    A stereo recording with one side inverted is such a case: its average is silence.
    """
    mono = samples.mean(axis=1, dtype=np.float32)
    levels = [level_dbfs(channel) for channel in samples.T]
    if level_dbfs(mono) < max(levels) - _CANCELLED_DB:
        return np.ascontiguousarray(samples[:, int(np.argmax(levels))])
    return mono


def resample(wave: Float32[np.ndarray, " samples"], from_hz: int, to_hz: int) -> Float32[np.ndarray, " resampled"]:
    """Change the sample rate (soxr, quality HQ); the same wave where the rates are equal."""
    return wave if from_hz == to_hz else soxr.resample(wave, from_hz, to_hz, quality="HQ")


def level_dbfs(wave: Float32[np.ndarray, " samples"]) -> float:
    """The level of a whole wave."""
    if not len(wave):
        return -math.inf
    squares = np.einsum("i,i->", wave, wave, dtype=np.float64)  # unlike `var` without a copy in float64
    power = float(squares / len(wave) - wave.mean(dtype=np.float64) ** 2)
    return 10 * math.log10(power) if power > 0 else -math.inf


def loudest_dbfs(wave: Float32[np.ndarray, " samples"], rate_hz: int) -> float:
    """The level of the loudest tenth of a second."""
    block = max(2, round(_LEVEL_BLOCK_S * rate_hz))
    return max((level_dbfs(wave[i : i + block]) for i in range(0, len(wave), block)), default=-math.inf)


def windows(wave: Float32[np.ndarray, " samples"], rate_hz: int, options: AudioOptions) -> list[Window]:
    """Where to cut a recording, silent windows left out; none where sound is in a dropped last window only."""
    length, hop = round(options.window_s * rate_hz), round(options.hop_s * rate_hz)
    found = []
    for start in range(0, max(len(wave) - max(0, length - hop), 1), hop):  # not where the last window reached the end
        part = wave[start : start + length]
        too_short = start > 0 and len(part) < options.min_window_s * rate_hz
        if not too_short and loudest_dbfs(part, rate_hz) >= options.silence_dbfs:
            found.append(Window(start / rate_hz, len(part) / rate_hz))
    return found


def cut(wave: Float32[np.ndarray, " samples"], rate_hz: int, window: Window) -> Float32[np.ndarray, " part"]:
    """The samples of a window, without copying them."""
    start = round(window.start_s * rate_hz)
    return wave[start : start + round(window.duration_s * rate_hz)]


def decode_window(
    data: bytes, uri: str, window: Window, options: AudioOptions
) -> tuple[Float32[np.ndarray, " samples"], int]:
    """One window of a sound file as mono samples, and their rate in Hz.

    Raises:
        BadItem: as `decode`.
    """
    recording = decode(data, uri, options)
    return cut(to_mono(recording.samples), recording.rate_hz, window), recording.rate_hz


def fit_length(
    wave: Float32[np.ndarray, " samples"], num_samples: int, how: Literal["repeat", "repeatpad", "pad"] = "repeat"
) -> Float32[np.ndarray, " fitted"]:
    """Exactly `num_samples`: the beginning of a longer wave; a shorter one repeated or followed by zeros.

    `repeat` ends within a repetition and leaves no silence, `repeatpad` repeats the whole wave while it fits and adds
    zeros, as CLAP was trained, `pad` adds zeros alone.

    Raises:
        ValueError: there is nothing to repeat.
    """
    if not len(wave):
        raise ValueError("an empty wave cannot be made longer")
    repeats = {"repeat": math.ceil(num_samples / len(wave)), "repeatpad": num_samples // len(wave), "pad": 1}[how]
    filled = np.tile(wave, max(1, repeats))[:num_samples]
    return np.pad(filled, (0, num_samples - len(filled)))


def _check_header(stream: soundfile.SoundFile, uri: str, options: AudioOptions) -> None:
    """Refuse what is outside the limits before a sample is decoded."""
    rate = stream.samplerate
    if not options.min_rate_hz <= rate <= options.max_rate_hz:
        limits = f"{options.min_rate_hz} to {options.max_rate_hz} Hz"
        raise BadItem(f"{uri}: the rate of {rate} Hz is not in {limits}: resample it, or change min_ or max_rate_hz")
    if stream.channels > options.max_channels:
        limit = f"more than {options.max_channels}"
        raise BadItem(f"{uri}: {stream.channels} channels are {limit}: mix them down, or raise max_channels")
    if stream.frames != _UNKNOWN_FRAMES:
        _check_length(stream.frames, stream, uri, options)


def _check_length(num_frames: int, stream: soundfile.SoundFile, uri: str, options: AudioOptions) -> None:
    duration_s = num_frames / stream.samplerate
    if duration_s > options.max_duration_s:
        limit = f"more than {options.max_duration_s:g} s"
        raise BadItem(f"{uri}: too long: {duration_s:.1f} s are {limit}: cut it up, or raise max_duration_s")
    num_bytes = num_frames * stream.channels * _BYTES_PER_SAMPLE
    if num_bytes > options.max_decoded_bytes:
        size = f"{num_bytes} bytes once decoded are more than {options.max_decoded_bytes}"
        raise BadItem(f"{uri}: too large: {size}: cut it up, or raise max_decoded_bytes")


def _read(stream: soundfile.SoundFile, uri: str, options: AudioOptions) -> Float32[np.ndarray, "samples channels"]:
    """All samples there are."""
    if stream.frames == _UNKNOWN_FRAMES:
        return _read_on(stream, uri, options)
    samples, rate = stream.read(stream.frames, dtype="float32", always_2d=True), stream.samplerate
    found_s, promised_s = len(samples) / rate, _promised_frames(stream) / rate
    if promised_s - found_s > _MOST_MISSING_S:
        found = f"it announces {promised_s:.2f} s and holds {found_s:.2f} s"
        raise BadItem(f"{uri}: the file is cut short ({found}): copy it again")
    return samples


def _read_on(stream: soundfile.SoundFile, uri: str, options: AudioOptions) -> Float32[np.ndarray, "samples channels"]:
    """A stream of unknown length, as long as it keeps to the limits."""
    blocks: list[np.ndarray] = []
    while not blocks or len(blocks[-1]) == _BLOCK_FRAMES:
        blocks.append(stream.read(_BLOCK_FRAMES, dtype="float32", always_2d=True))
        _check_length(sum(map(len, blocks)), stream, uri, options)
    return np.concatenate(blocks)


def _promised_frames(stream: soundfile.SoundFile) -> int:
    """The length that the header claims; libsndfile itself has already put what is there in its place."""
    promised = stream.frames
    for claimed, present in _SHORT_SIZE.findall(stream.extra_info):
        if 0 < int(present) < int(claimed) < _UNKNOWN_BYTES:
            promised = max(promised, round(stream.frames * int(claimed) / int(present)))
    return promised


def _is_cut_ogg(data: bytes) -> bool:
    """Whether the last page of an Ogg file is not all there, of which libsndfile says nothing."""
    page = data[data.rfind(_OGG_PAGE) :]
    header_bytes = _OGG_HEADER_BYTES + sum(page[_OGG_HEADER_BYTES - 1 : _OGG_HEADER_BYTES])
    num_bytes = header_bytes + sum(page[_OGG_HEADER_BYTES:header_bytes])
    return data.startswith(_OGG_PAGE) and len(page) < num_bytes


def _check_samples(recording: Recording, uri: str, options: AudioOptions) -> None:
    """Refuse sound that no encoder can use."""
    samples, rate = recording.samples, recording.rate_hz
    if recording.duration_s < options.min_duration_s:
        length = f"{len(samples)} samples at {rate} Hz, less than {options.min_duration_s:g} s"
        raise BadItem(f"{uri}: too short: {length}: delete it, or lower min_duration_s")
    if not np.isfinite(samples).all():
        raise BadItem(f"{uri}: some samples are not numbers (NaN or infinite): store it again without them")
    peak = float(max(samples.max(), -samples.min()))
    if peak > _MAX_PEAK:
        raise BadItem(f"{uri}: samples reach {peak:.3g} where full scale is 1: store them scaled, or as integers")
    loudest = max(loudest_dbfs(channel, rate) for channel in samples.T)
    if loudest < options.silence_dbfs:
        level = f"the loudest part has {loudest:.0f} dBFS, below {options.silence_dbfs:g} dBFS"
        raise BadItem(f"{uri}: silent: {level}: record it again, or lower silence_dbfs")


def _explain(error: soundfile.LibsndfileError, data: bytes) -> str:
    """What is wrong with a file that libsndfile cannot read."""
    for offset, magic, name in _FOREIGN:
        if data[offset : offset + len(magic)] == magic:
            return f"{name} files are not supported: convert it to FLAC or WAV"
    if error.code in _NO_FORMAT:
        return "not a sound file, whatever its name says: convert it, or delete it"
    detail = error.error_string.removeprefix("Error : ").rstrip(".")
    return (
        f"the file is damaged, cut short or of a codec that is not supported ({detail}): copy it again, or convert it"
    )
