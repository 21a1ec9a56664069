"""Excerpts, spectrograms, thumbnails and loss curves of the report."""

import io

import numpy as np
import pytest
import soundfile
from PIL import Image

from aai.report import media

RATE_HZ = 16_000


def tone(hertz: float, seconds: float = 1.0, rate_hz: int = RATE_HZ) -> np.ndarray:
    return np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate_hz)) / rate_hz).astype(np.float32)


def brightness_by_band(wave: np.ndarray) -> np.ndarray:
    """Mean brightness of each mel band, lowest first."""
    return media.spectrogram(wave, RATE_HZ).mean(axis=(1, 2))[::-1]


def test_an_mp3_keeps_duration_and_frequency_and_is_small():
    data = media.encode_mp3(tone(1000, 5), RATE_HZ)
    wave, rate = soundfile.read(io.BytesIO(data))
    assert rate == RATE_HZ and len(data) < 40_000
    assert len(wave) / rate == pytest.approx(5, abs=0.15)
    assert np.abs(np.fft.rfft(wave)).argmax() * rate / len(wave) == pytest.approx(1000, abs=5)


@pytest.mark.parametrize(("rate", "expected"), [(4_000, 8_000), (11_025, 12_000), (44_100, 32_000), (192_000, 32_000)])
def test_an_excerpt_has_a_sample_rate_of_mp3(rate, expected):
    wave, found = media.excerpt(tone(500, 1, rate), rate)
    assert found == expected and len(wave) == pytest.approx(expected, abs=2)


def test_an_excerpt_is_truncated_and_its_peak_limited():
    wave, _ = media.excerpt(3 * tone(440, 40), RATE_HZ)
    assert len(wave) == 30 * RATE_HZ and np.abs(wave).max() <= 1


def test_a_higher_tone_is_higher_in_the_spectrogram():
    low, high = (int(brightness_by_band(tone(pitch)).argmax()) for pitch in (300, 3000))
    assert 0 < low < high < 63


def test_time_runs_from_left_to_right():
    wave = np.concatenate([np.zeros(RATE_HZ, np.float32), tone(1000)])
    light = media.spectrogram(wave, RATE_HZ).mean(axis=(0, 2))
    assert light[:100].max() < light[160:].min()


@pytest.mark.parametrize("num_samples", [1, 2, 800])
def test_very_short_clips_and_silence_have_a_spectrogram(num_samples):
    assert media.spectrogram(np.zeros(num_samples, np.float32), RATE_HZ).shape == (64, 256, 3)


def test_a_thumbnail_is_a_webp_of_at_most_128_pixels_in_the_same_proportions():
    for shape, size_px in (((600, 300, 3), (64, 128)), ((64, 64, 3), (64, 64))):
        thumbnail = Image.open(io.BytesIO(media.thumbnail(np.zeros(shape, np.uint8))))
        assert (thumbnail.format, thumbnail.size) == ("WEBP", size_px)


def drops(losses: list[float], lowest: float) -> list[float]:
    """Distance of each point below the first one."""
    points = media.loss_curve(media.relative_losses(losses), lowest).points.split()
    downs = [float(point.split(",")[1]) for point in points]
    return [down - downs[0] for down in downs]


def test_a_decreasing_loss_is_a_falling_line_on_a_shared_scale():
    assert drops([0.4, float("nan"), 0.3, 0.2], 0.5) == pytest.approx([0, 26, 52])
    assert drops([8.0, 6.0], 0.5) == pytest.approx([0, 26])
    assert drops([0.1, 0.1], 1.0) == [0, 0]


def test_fewer_than_two_losses_have_no_curve():
    for losses in ([0.1], [], None, [float("nan"), 1.0]):
        assert media.loss_curve(media.relative_losses(losses), 0.5) is None
