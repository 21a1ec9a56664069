"""Audio decoding, resampling and padding."""

import io
import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import soundfile
import soxr
from jaxtyping import Float32
from pydantic import Field, model_validator

from aai.errors import BadItem
from aai.media import containers
from aai.media.levels import level_dbfs, loudest_dbfs
from aai.media.streams import Stream, streams
from aai.media.unread import unread_sound
from aai.options import Options

_BYTES_PER_SAMPLE = 4  # float32
_UNKNOWN_FRAMES = 2**63 - 1  # libsndfile's length of a stream whose header has none
_BLOCK_FRAMES = 2**18  # decoded at a time where the length is unknown

_MAX_MISSING_S = 0.1  # MP3 headers count the encoder's padding, so a few missing frames are no damage
_CANCELLATION_DB = 20.0  # averaging 100 uncorrelated channels costs 20 dB; channels in opposite phase cancel
_MAX_PEAK = 100.0  # 40 dB above full scale: integers stored as floats, or random bytes

_UNKNOWN_FORMAT_CODES = (1, 7)  # libsndfile: unrecognised format; no MP3 frame

_INT16_SCALE = np.float32(2**-15)

_FORMATS = frozenset("AIFF AU CAF FLAC MP3 NIST OGG RF64 W64 WAV WAVEX".split())
"""Formats of libsndfile whose files are checked for being whole."""


class AudioOptions(Options):
    """Limits on audio files, and how a recording is split into windows (clips)."""

    max_duration_s: float = Field(3600.0, gt=0)
    """Maximum duration in seconds, checked before decoding; raise it for long field recordings."""

    max_decoded_bytes: int = Field(2**30, gt=0)
    """Maximum decoded size (all channels, float32) in bytes, checked before decoding: memory per worker."""

    min_duration_s: float = Field(0.05, gt=0)
    """Minimum duration in seconds; shorter recordings are rejected."""

    max_channels: int = Field(64, ge=1, le=1024)
    """Maximum number of channels; 64 allows seventh-order ambisonics. Channels are mixed down to mono."""

    min_rate_hz: int = Field(4_000, gt=0)
    """Minimum sample rate in Hz; telephone speech has 8,000."""

    max_rate_hz: int = Field(384_000, gt=0)
    """Maximum sample rate in Hz; higher values usually mean a damaged header."""

    silence_dbfs: float = Field(-60.0, ge=-200, le=0)
    """Silence threshold in dBFS (RMS over 0.1 s): silent recordings are rejected, silent windows skipped. Lower it for
    very quiet recordings."""

    window_s: float = Field(10.0, ge=0.1)
    """Window length in seconds, one clip per window, at most what the audio encoder hears: 10 s for CLAP. A shorter
    recording is one window."""

    hop_s: float = Field(10.0, ge=0.1)
    """Hop length in seconds, from the start of one window to the next; less than window_s makes windows overlap, more
    leaves out what is between them."""

    placement: Literal["sounds", "grid"] = "sounds"
    """Where the windows of a longer recording are: `sounds` places them around what stands out from its background, so
    that no border cuts a sound that a window can hold, `grid` takes one after another from the start."""

    background_db: float | None = Field(30.0, gt=0)
    """Windows this many dB quieter than the loudest 0.1 s of their recording are background noise, and skipped like
    silence; half of it suffices for steady noise. Null keeps them."""

    min_window_s: float = Field(1.0, ge=0)
    """Minimum length in seconds of a window; a shorter one, such as the end of the recording, is left out (and counted
    in audio_files.end_s), unless it is the only one. 0 keeps every end."""

    @model_validator(mode="after")
    def _bounds_are_in_order(self) -> "AudioOptions":
        if self.min_duration_s > self.max_duration_s or self.min_rate_hz > self.max_rate_hz:
            raise ValueError("a min_ option is above the max_ option of the same name")
        if self.min_window_s > self.window_s:
            raise ValueError("min_window_s is above window_s")
        return self


@dataclass(frozen=True)
class Recording:
    """A decoded audio file: all channels, full scale is 1."""

    samples: Float32[np.ndarray, "samples channels"]
    rate_hz: int
    num_unused: int = 0
    """Further sound streams of the file, such as a video's other languages."""

    @property
    def duration_s(self) -> float:
        """Duration in seconds."""
        return len(self.samples) / self.rate_hz


class _Bytes(io.BytesIO):
    """A file in memory that ignores invalid seeks: headers of damaged files can point before the start."""

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Seek; an invalid offset leaves the position unchanged."""
        try:
            return super().seek(offset, whence)
        except (ValueError, OverflowError):
            return self.tell()


class _Stream(soundfile.SoundFile):
    """An audio file read sequentially: seeking to the end fails if the header has the wrong length."""

    def seekable(self) -> bool:
        """Return False, so that soundfile never seeks."""
        return False


def decode(data: bytes, uri: str, options: AudioOptions) -> Recording:
    """Decode a sound file to its real end, at its own sample rate; files that were joined to one are one recording.

    What libsndfile does not read, ffmpeg's libraries do, if the extra `av` is installed: see `aai.media.containers`.

    Limits are checked on the header, before decoding, and after each block if the header has no length.

    Raises:
        BadItem: the file is empty, no audio file, damaged, cut short, silent, outside a limit of the options, or has
            NaN or infinite samples.
    """
    if not data:
        raise BadItem("the file is empty (0 bytes): copy it again, or delete it", uri=uri)
    if containers.demuxer_of(data):
        recording = _decode_container(data, uri, options)
        _check_samples(recording, uri, options)
        return recording
    recordings: list[Recording] = []
    num_samples = 0
    try:
        for part in streams(data, uri):
            recordings.append(_decode(part, num_samples, uri, options))
            num_samples += len(recordings[-1].samples)
    except soundfile.LibsndfileError as error:
        raise BadItem(_explain(error, data), uri=uri) from error
    recording = _joined(recordings, uri)
    _check_samples(recording, uri, options)
    return recording


def to_mono(samples: Float32[np.ndarray, "samples channels"]) -> Float32[np.ndarray, " samples"]:
    """Average the channels, or take the loudest one if they cancel (one side of a stereo recording inverted)."""
    if samples.shape[1] == 1:
        return np.ascontiguousarray(samples[:, 0])
    mono = samples.mean(axis=1, dtype=np.float32)
    levels = [level_dbfs(channel) for channel in samples.T]
    if level_dbfs(mono) < max(levels) - _CANCELLATION_DB:
        return np.ascontiguousarray(samples[:, int(np.argmax(levels))])
    return mono


def resample(wave: Float32[np.ndarray, " samples"], from_hz: int, to_hz: int) -> Float32[np.ndarray, " resampled"]:
    """Change the sample rate (soxr, quality HQ); equal rates return the same array."""
    return wave if from_hz == to_hz else soxr.resample(wave, from_hz, to_hz, quality="HQ")


def fit_length(
    wave: Float32[np.ndarray, " samples"], num_samples: int, how: Literal["repeat", "repeatpad", "pad"] = "repeat"
) -> Float32[np.ndarray, " fitted"]:
    """Truncate or pad a wave to `num_samples`.

    `repeat` tiles the wave and truncates the last repetition, `repeatpad` tiles whole repetitions and pads with zeros,
    as in CLAP's training, `pad` pads with zeros only.

    Raises:
        ValueError: the wave is empty.
    """
    if not len(wave):
        raise ValueError("an empty wave cannot be padded")
    if len(wave) >= num_samples:
        return wave[:num_samples]
    repeats = {"repeat": math.ceil(num_samples / len(wave)), "repeatpad": num_samples // len(wave), "pad": 1}[how]
    tiled = np.tile(wave, max(1, repeats))[:num_samples]
    return np.pad(tiled, (0, num_samples - len(tiled)))


def _decode(part: Stream, num_before: int, uri: str, options: AudioOptions) -> Recording:
    """Decode a stream that comes after `num_before` samples of the same file."""
    with _Stream(_Bytes(part.data)) as stream:
        _check_header(stream, num_before, uri, options)
        declared = 0 if stream.frames == _UNKNOWN_FRAMES else stream.frames
        samples = _read(stream, num_before, uri, options)
        recording = Recording(samples, stream.samplerate)
    _check_whole(recording, declared, part, uri)
    return recording


def _decode_container(data: bytes, uri: str, options: AudioOptions) -> Recording:
    """Decode what ffmpeg's libraries read; limits are checked on the header and after each frame."""

    def check(progress: containers.Progress) -> None:
        _check_kind(progress.rate_hz, progress.num_channels, uri, options)
        _check_length(progress.num_samples, progress.rate_hz, progress.num_channels, uri, options)

    sound = containers.decode(data, uri, check)
    recording = Recording(sound.samples, sound.rate_hz, sound.num_unused)
    _check_whole(recording, round(sound.declared_s * sound.rate_hz), Stream(data), uri)
    return recording


def _check_header(stream: soundfile.SoundFile, num_before: int, uri: str, options: AudioOptions) -> None:
    """Check the format, and the limits that the header shows, before decoding."""
    if stream.format not in _FORMATS:
        reason = f"{stream.format_info} files are not supported, since their length cannot be checked"
        raise BadItem(f"{reason}: convert it to FLAC or WAV", uri=uri)
    _check_kind(stream.samplerate, stream.channels, uri, options)
    if stream.frames != _UNKNOWN_FRAMES:
        _check_length(num_before + stream.frames, stream.samplerate, stream.channels, uri, options)


def _check_kind(rate_hz: int, num_channels: int, uri: str, options: AudioOptions) -> None:
    if not options.min_rate_hz <= rate_hz <= options.max_rate_hz:
        limits = f"{options.min_rate_hz} to {options.max_rate_hz} Hz"
        remedy = "resample it, or change min_rate_hz or max_rate_hz"
        raise BadItem(f"a sample rate of {rate_hz} Hz is outside {limits}: {remedy}", uri=uri)
    if num_channels > options.max_channels:
        excess = f"{num_channels} channels are more than {options.max_channels}"
        raise BadItem(f"{excess}: mix it down, or raise max_channels", uri=uri)


def _check_length(num_frames: int, rate_hz: int, num_channels: int, uri: str, options: AudioOptions) -> None:
    duration_s = num_frames / rate_hz
    if duration_s > options.max_duration_s:
        excess = f"{duration_s:.1f} s are more than {options.max_duration_s:g} s"
        raise BadItem(f"too long: {excess}: split it, or raise max_duration_s", uri=uri)
    num_bytes = num_frames * num_channels * _BYTES_PER_SAMPLE
    if num_bytes > options.max_decoded_bytes:
        excess = f"{num_bytes} decoded bytes are more than {options.max_decoded_bytes}"
        raise BadItem(f"too large: {excess}: split it, or raise max_decoded_bytes", uri=uri)


def _read(
    stream: soundfile.SoundFile, num_before: int, uri: str, options: AudioOptions
) -> Float32[np.ndarray, "samples channels"]:
    """Decode all samples; block by block if their number is unknown, checking the limits after each."""
    if stream.frames != _UNKNOWN_FRAMES:
        if stream.subtype == "PCM_16":  # the same numbers, read at once: libsndfile converts block by block
            return stream.read(stream.frames, dtype="int16", always_2d=True) * _INT16_SCALE
        return stream.read(stream.frames, dtype="float32", always_2d=True)
    blocks: list[np.ndarray] = []
    while not blocks or len(blocks[-1]) == _BLOCK_FRAMES:
        blocks.append(stream.read(_BLOCK_FRAMES, dtype="float32", always_2d=True))
        num_frames = num_before + sum(map(len, blocks))
        _check_length(num_frames, stream.samplerate, stream.channels, uri, options)
    return np.concatenate(blocks)


def _check_whole(recording: Recording, declared: int, part: Stream, uri: str) -> None:
    """Check that a stream has the length that its header and its frames say, and that nothing is left."""
    duration_s = recording.duration_s
    declared_s = max(declared, part.num_samples) / recording.rate_hz + part.missing * duration_s
    if declared_s - duration_s > _MAX_MISSING_S:
        difference = f"its header says {declared_s:.2f} s, it has {duration_s:.2f} s"
        raise BadItem(f"the file is cut short ({difference}): copy it again", uri=uri)
    left_s = part.surplus * duration_s
    if left_s > _MAX_MISSING_S:
        difference = f"its header says {duration_s:.2f} s, but bytes for {left_s:.2f} s follow"
        remedy = "split it if it is several files in one, else correct the header (ffmpeg -ignore_length 1)"
        raise BadItem(f"{difference}: {remedy}", uri=uri)


def _joined(recordings: list[Recording], uri: str) -> Recording:
    """The streams of a file as one recording."""
    kinds = {(recording.rate_hz, recording.samples.shape[1]): None for recording in recordings}
    if len(kinds) > 1:
        parts = " and ".join(f"{rate_hz} Hz, {num_channels} channel(s)" for rate_hz, num_channels in kinds)
        raise BadItem(f"it is several files in one, which differ ({parts}): split it", uri=uri)
    if len(recordings) == 1:
        return recordings[0]
    return Recording(np.concatenate([recording.samples for recording in recordings]), recordings[0].rate_hz)


def _check_samples(recording: Recording, uri: str, options: AudioOptions) -> None:
    """Check duration, range and level of the decoded samples."""
    samples, rate = recording.samples, recording.rate_hz
    if recording.duration_s < options.min_duration_s:
        length = f"{len(samples)} samples at {rate} Hz, less than {options.min_duration_s:g} s"
        raise BadItem(f"too short: {length}: delete it, or lower min_duration_s", uri=uri)
    peak = float(np.maximum(samples.max(), -samples.min()))  # NaN and infinity, if a sample is that
    if not math.isfinite(peak):
        raise BadItem("some samples are NaN or infinite: export it again without them", uri=uri)
    if peak > _MAX_PEAK:
        raise BadItem(
            f"the peak is {peak:.3g}, full scale is 1: normalise the samples, or store them as integers", uri=uri
        )
    loudest = max(loudest_dbfs(channel, rate, options.silence_dbfs) for channel in samples.T)
    if loudest < options.silence_dbfs:
        level = f"the loudest part has {loudest:.0f} dBFS, below {options.silence_dbfs:g} dBFS"
        raise BadItem(f"silent: {level}: record it again, or lower silence_dbfs", uri=uri)


def _explain(error: soundfile.LibsndfileError, data: bytes) -> str:
    """The sentence for a file that libsndfile cannot read."""
    if name := unread_sound(data):
        return f"{name} files are not supported: convert it to FLAC or WAV"
    if error.code in _UNKNOWN_FORMAT_CODES:
        return "not a sound file of a known format: convert it to FLAC or WAV, or delete it"
    detail = error.error_string.removeprefix("Error : ").rstrip(".")
    fault = f"the file is damaged, cut short or has an unsupported codec ({detail})"
    return f"{fault}: copy it again, or convert it to FLAC"
