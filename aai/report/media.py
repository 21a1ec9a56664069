"""Audio, images and curves of the report, compressed so that a hundred clips fit into one page."""

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
MAX_EXCERPT_S = 30.0
"""Maximum duration of a clip's excerpt."""

CURVE_WIDTH, CURVE_HEIGHT = 220, 64
_CURVE_MARGIN = 6

_MP3_RATES_HZ = (8_000, 12_000, 16_000, 24_000, 32_000)
_MP3_COMPRESSION = 0.7  # libsndfile's scale from 0 to 1; about 40 kbit/s for noise at 16 kHz
_THUMB_QUALITY = 80

_NUM_BANDS, _NUM_COLUMNS = 64, 256
_FRAME_S = 0.064
_RANGE_DB = 70.0
_MIN_HZ = 40.0
_COLOUR_MAP = np.array([(4, 5, 18), (58, 15, 110), (150, 40, 118), (234, 92, 70), (253, 180, 100), (252, 250, 200)])


def data_uri(kind: str, data: bytes) -> str:
    """A data URI; `kind` is the media type."""
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


def excerpt(wave: Float32[np.ndarray, " samples"], rate_hz: int) -> tuple[Float32[np.ndarray, " excerpt"], int]:
    """The first 30 s at the next sample rate of MP3 (32 kHz at most), with the peak limited to full scale."""
    mp3_rate_hz = next((rate for rate in _MP3_RATES_HZ if rate >= rate_hz), _MP3_RATES_HZ[-1])
    wave = audio.resample(np.ascontiguousarray(wave[: round(MAX_EXCERPT_S * rate_hz)]), rate_hz, mp3_rate_hz)
    return wave / max(1.0, float(np.abs(wave).max(initial=0))), mp3_rate_hz


def encode_mp3(wave: Float32[np.ndarray, " samples"], rate_hz: int) -> bytes:
    """An MP3 file, which every browser plays; older versions of Safari play no Ogg."""
    file = io.BytesIO()
    with soundfile.SoundFile(
        file, "w", rate_hz, 1, "MPEG_LAYER_III", format="MP3", compression_level=_MP3_COMPRESSION
    ) as stream:
        stream.write(wave)
    return file.getvalue()


def spectrogram(wave: Float32[np.ndarray, " samples"], rate_hz: int) -> UInt8[np.ndarray, "bands columns 3"]:
    """Log-mel spectrogram in colour: 256 columns, 64 mel bands upwards from 40 Hz to half the rate, 70 dB of range."""
    length = 2 ** round(math.log2(_FRAME_S * rate_hz))
    padded = np.pad(wave, (length // 2, length // 2))
    starts = np.linspace(0, len(padded) - length, _NUM_COLUMNS).astype(int)
    frames = padded[starts[:, None] + np.arange(length)] * np.hanning(length)
    power = np.abs(np.fft.rfft(frames)) ** 2 @ _mel_filters(length, rate_hz).T
    level = 10 * np.log10(np.maximum(power, 1e-10))
    light = np.clip((level - level.max()) / _RANGE_DB + 1, 0, 1).T[::-1]
    stops = np.linspace(0, 1, len(_COLOUR_MAP))
    return np.stack([np.interp(light, stops, channel) for channel in _COLOUR_MAP.T], axis=-1).round().astype(np.uint8)


def thumbnail(pixels: UInt8[np.ndarray, "height width 3"]) -> bytes:
    """A WebP of at most 128 x 128 pixels; smaller images keep their size."""
    picture = Image.fromarray(pixels)
    picture.thumbnail((THUMB_PX, THUMB_PX), Image.Resampling.LANCZOS)
    return encode_webp(np.asarray(picture))


def encode_webp(pixels: UInt8[np.ndarray, "height width 3"]) -> bytes:
    """A WebP in the quality of the page."""
    return images.encode(pixels, "webp", _THUMB_QUALITY)


def relative_losses(losses: Sequence[float] | None) -> list[float]:
    """Losses divided by the first one; NaN and infinite values are dropped."""
    values = [value for value in losses or [] if math.isfinite(value)]
    return [value / values[0] for value in values] if values and values[0] > 0 else []


def loss_curve(losses: Sequence[float], lowest: float) -> Curve | None:
    """A curve through relative losses, with `lowest` at the bottom; None for fewer than two points.

    `lowest` is the minimum over all clips, so that the curves of a page have the same scale.
    """
    if len(losses) < 2:
        return None
    highest = max(1.0, *losses)
    wide, tall = CURVE_WIDTH - 2 * _CURVE_MARGIN, CURVE_HEIGHT - 2 * _CURVE_MARGIN
    points = [
        (
            round(_CURVE_MARGIN + wide * number / (len(losses) - 1), 1),
            round(_CURVE_MARGIN + tall * (highest - loss) / ((highest - lowest) or 1), 1),
        )
        for number, loss in enumerate(losses)
    ]
    return Curve(" ".join(f"{x},{y}" for x, y in points), *points[-1], num_points=len(losses))


def _mel_filters(length: int, rate_hz: int) -> Float[np.ndarray, "bands bins"]:
    """Triangular mel filters, each at least one FFT bin wide.

    Numpy only, so that the report needs no model library.

    Source: O'Shaughnessy 1987, "Speech Communication", mel scale 1127 ln(1 + f / 700).
    """
    top = 1127 * math.log(1 + rate_hz / 2 / 700)
    mels = np.linspace(1127 * math.log(1 + _MIN_HZ / 700), top, _NUM_BANDS + 2)
    edges, bins = 700 * np.expm1(mels / 1127), np.fft.rfftfreq(length, 1 / rate_hz)
    width = np.maximum(np.diff(edges), rate_hz / length)
    centres = edges[1:-1, None]
    rising = 1 - (centres - bins) / width[:-1, None]
    falling = 1 - (bins - centres) / width[1:, None]
    return np.clip(np.minimum(rising, falling), 0, None)
