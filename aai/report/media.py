"""Sounds, pictures and curves, made small enough that a hundred clips fit into one file."""

import base64
import io
import math
from collections.abc import Sequence

import numpy as np
import soundfile
from jaxtyping import Float, Float32, UInt8
from PIL import Image

from aai.media import audio, images
from aai.report.contents import Curve

THUMB_PX = 128
LONGEST_S = 30.0
"""What is heard of a clip at most."""

CURVE_WIDTH, CURVE_HEIGHT = 220, 64
_CURVE_MARGIN = 6

_MP3_RATES_HZ = (8_000, 12_000, 16_000, 24_000, 32_000)
_MP3_COMPRESSION = 0.7  # of libsndfile's scale from 0 to 1: about 40 kbit/s of a rain at 16 kHz
_THUMB_QUALITY = 80

_NUM_BANDS, _NUM_COLUMNS = 64, 256
_FRAME_S = 0.064
_RANGE_DB = 70.0
_LOWEST_HZ = 40.0
_COLOURS = np.array([(4, 5, 18), (58, 15, 110), (150, 40, 118), (234, 92, 70), (253, 180, 100), (252, 250, 200)])


def data_uri(kind: str, data: bytes) -> str:
    """A file within a page; `kind` is its media type."""
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


def prepared(wave: Float32[np.ndarray, " samples"], rate_hz: int) -> tuple[Float32[np.ndarray, " prepared"], int]:
    """The beginning of a wave, at the lowest rate that keeps what is in it up to 16 kHz, within full scale."""
    wave = wave[: round(LONGEST_S * rate_hz)]
    rate = next((each for each in _MP3_RATES_HZ if each >= rate_hz), _MP3_RATES_HZ[-1])
    wave = audio.resample(np.ascontiguousarray(wave), rate_hz, rate)
    return wave / max(1.0, float(np.abs(wave).max(initial=0))), rate


def mp3(wave: Float32[np.ndarray, " samples"], rate_hz: int) -> bytes:
    """A sound file that every browser plays: Opus and Vorbis in Ogg are not played by older Safaris."""
    file = io.BytesIO()
    with soundfile.SoundFile(
        file, "w", rate_hz, 1, "MPEG_LAYER_III", format="MP3", compression_level=_MP3_COMPRESSION
    ) as stream:
        stream.write(wave)
    return file.getvalue()


def spectrogram(wave: Float32[np.ndarray, " samples"], rate_hz: int) -> UInt8[np.ndarray, "bands columns 3"]:
    """A log-mel spectrogram: time to the right, pitch upwards from 40 Hz to half the rate, 70 dB from dark to light."""
    length = 2 ** round(math.log2(_FRAME_S * rate_hz))
    padded = np.pad(wave, (length // 2, length // 2))
    starts = np.linspace(0, len(padded) - length, _NUM_COLUMNS).astype(int)
    frames = padded[starts[:, None] + np.arange(length)] * np.hanning(length)
    power = np.abs(np.fft.rfft(frames)) ** 2 @ _mel_bands(length, rate_hz).T
    level = 10 * np.log10(np.maximum(power, 1e-10))
    light = np.clip((level - level.max()) / _RANGE_DB + 1, 0, 1).T[::-1]
    places = np.linspace(0, 1, len(_COLOURS))
    return np.stack([np.interp(light, places, channel) for channel in _COLOURS.T], axis=-1).round().astype(np.uint8)


def thumbnail(pixels: UInt8[np.ndarray, "height width 3"]) -> bytes:
    """A WebP of at most 128 pixels a side; smaller pictures keep their size."""
    picture = Image.fromarray(pixels)
    picture.thumbnail((THUMB_PX, THUMB_PX), Image.Resampling.LANCZOS)
    return webp(np.asarray(picture))


def webp(pixels: UInt8[np.ndarray, "height width 3"]) -> bytes:
    """A WebP as it is put into the page."""
    return images.encode(pixels, "webp", _THUMB_QUALITY)


def relative(losses: Sequence[float] | None) -> list[float]:
    """Losses as shares of the first; what is not finite is left out."""
    values = [value for value in losses or [] if math.isfinite(value)]
    return [value / values[0] for value in values] if values and values[0] > 0 else []


def curve(shares: Sequence[float], lowest: float) -> Curve | None:
    """A curve through a clip's relative losses, from 1 or more at the top to `lowest`; none without two of them.

    With the lowest loss of all clips at the bottom, a curve that falls twice as far shows twice the gain.
    """
    if len(shares) < 2:
        return None
    highest = max(1.0, *shares)
    wide, tall = CURVE_WIDTH - 2 * _CURVE_MARGIN, CURVE_HEIGHT - 2 * _CURVE_MARGIN
    points = [
        (
            round(_CURVE_MARGIN + wide * number / (len(shares) - 1), 1),
            round(_CURVE_MARGIN + tall * (highest - share) / ((highest - lowest) or 1), 1),
        )
        for number, share in enumerate(shares)
    ]
    return Curve(" ".join(f"{x},{y}" for x, y in points), *points[-1], num_looks=len(shares))


def _mel_bands(length: int, rate_hz: int) -> Float[np.ndarray, "bands bins"]:
    """Triangles, evenly spaced on the mel scale of O'Shaughnessy (1987); each catches one bin at least."""
    top = 1127 * math.log(1 + rate_hz / 2 / 700)
    mels = np.linspace(1127 * math.log(1 + _LOWEST_HZ / 700), top, _NUM_BANDS + 2)
    edges, bins = 700 * np.expm1(mels / 1127), np.fft.rfftfreq(length, 1 / rate_hz)
    width = np.maximum(np.diff(edges), rate_hz / length)
    centres = edges[1:-1, None]
    rising = 1 - (centres - bins) / width[:-1, None]
    falling = 1 - (bins - centres) / width[1:, None]
    return np.clip(np.minimum(rising, falling), 0, None)
