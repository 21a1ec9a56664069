"""Waves that every codec keeps, and the bytes of sound files."""

import io
import struct
from collections.abc import Callable, Sequence

import numpy as np
import soundfile

RATE_HZ = 16_000
LENGTH_S = 0.4


def tone(rate_hz: int = RATE_HZ, channels: int = 1, length_s: float = LENGTH_S, first_hz: float = 440.0) -> np.ndarray:
    """A sine per channel, each of its own frequency and level."""
    times_s = np.arange(round(length_s * rate_hz))[:, None] / rate_hz
    numbers = np.arange(channels)
    return ((0.3 + 0.05 * numbers) * np.sin(2 * np.pi * (first_hz + 110 * numbers) * times_s)).astype(np.float32)


def opposite() -> np.ndarray:
    """A stereo wave whose channels cancel."""
    return tone() * np.float32([1, -1])


def offset() -> np.ndarray:
    """A wave far from the zero line."""
    return tone() + np.float32(0.4)


def growing() -> np.ndarray:
    """One tone for 4 s and a dense chord for 4 s: an encoder of variable rate spends most of its bits at the end."""
    times_s = np.arange(8 * RATE_HZ) / RATE_HZ
    quiet = 0.1 * np.sin(2 * np.pi * 440 * times_s)
    chord = sum(np.sin(2 * np.pi * 97 * number * times_s + number**2) for number in range(1, 60)) / 60
    return np.where(times_s < 4, quiet, quiet + chord)[:, None].astype(np.float32)


def encoded(
    kind: str,
    subtype: str | None = None,
    wave: Callable[[], np.ndarray] = tone,
    rate_hz: int = RATE_HZ,
    **how: object,
) -> bytes:
    """A sound file as libsndfile writes it."""
    file = io.BytesIO()
    soundfile.write(file, wave(), rate_hz, format=kind, subtype=subtype, **how)
    return file.getvalue()


def wav(
    wave: Callable[[], np.ndarray] = tone,
    before: Sequence[bytes] = (),
    after: Sequence[bytes] = (),
    sizes: tuple[int, int] | None = None,
) -> bytes:
    """A 16-bit WAV file with other chunks before and after the samples, and with these sizes of file and samples."""
    samples = np.round(wave() * 32_768).astype("<i2")
    data, channels = samples.tobytes(), samples.shape[1]
    form = struct.pack("<HHIIHH", 1, channels, RATE_HZ, RATE_HZ * 2 * channels, 2 * channels, 16)
    body = b"WAVE" + riff_chunk(b"fmt ", form) + b"".join(before)
    rest = b"".join(after)
    whole, part = sizes or (len(body) + 8 + len(data) + len(rest), len(data))
    return b"RIFF" + struct.pack("<I", whole) + body + b"data" + struct.pack("<I", part) + data + rest


def riff_chunk(name: bytes, data: bytes) -> bytes:
    """A chunk of a WAV file, padded to an even length."""
    return name + struct.pack("<I", len(data)) + data + b"\0" * (len(data) % 2)


def mp3(wave: Callable[[], np.ndarray] = tone, mode: str = "CONSTANT", has_header: bool = True) -> bytes:
    """An MP3 file, with or without the frame that holds its length (Xing or Info)."""
    data = encoded("MP3", wave=wave, bitrate_mode=mode, compression_level=0.5)
    return data if has_header else data[frame_bytes(data) :]


def frame_bytes(data: bytes) -> int:
    """Size of the first frame of an MP3 file (MPEG 2, layer III, no padding)."""
    rates = (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160)
    assert data[0] == 0xFF and data[1] & 0xFE == 0xF2, data[:4]
    rate_hz = (22_050, 24_000, 16_000)[data[2] >> 2 & 3]
    return 72_000 * rates[data[2] >> 4] // rate_hz


def id3(*frames: tuple[bytes, bytes]) -> bytes:
    """A tag of ID3 version 2.3."""
    body = b"".join(name + struct.pack(">IH", len(data), 0) + data for name, data in frames)
    size = bytes(len(body) >> shift & 127 for shift in (21, 14, 7, 0))
    return b"ID3\3\0\0" + size + body
