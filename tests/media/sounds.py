"""Sound files for tests."""

import io

import numpy as np
import soundfile


def sine(duration_s: float = 0.5, rate_hz: int = 16_000, num_channels: int = 1, freq_hz: float = 440) -> np.ndarray:
    """Amplitude one half; channels are the same tone at other phases."""
    angle = 2 * np.pi * freq_hz * np.arange(round(duration_s * rate_hz)) / rate_hz
    return (0.5 * np.sin(angle[:, None] + 0.3 * np.arange(num_channels))).astype(np.float32)


def file_of(samples: np.ndarray, rate_hz: int = 16_000, kind: str = "WAV", subtype: str | None = None) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, samples, rate_hz, format=kind, subtype=subtype)
    return file.getvalue()


def with_flac_length(data: bytes, num_frames: int) -> bytes:
    """The same file, another length in its header (36 bits of STREAMINFO)."""
    field = int.from_bytes(data[18:26], "big") >> 36 << 36 | num_frames
    return data[:18] + field.to_bytes(8, "big") + data[26:]
