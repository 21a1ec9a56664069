"""Synthesised sounds: deterministic, in range, and with an intensity that is independent of loudness."""

from collections.abc import Callable
from functools import cache

import numpy as np
import pytest
from scipy.stats import spearmanr

from aai.tiny.sounds import NUM_SAMPLES, SAMPLE_RATE_HZ, synthesise
from aai.tiny.vocabulary import PHENOMENA


@cache
def _series(phenomenon: str) -> tuple[np.ndarray, np.ndarray]:
    """Intensities, shuffled, and a clip for each, with a tone above the bands of the tests."""
    intensities = np.random.default_rng(7).permutation(np.linspace(0, 1, 32))
    return intensities, np.stack([synthesise(phenomenon, i, seed, tone=1.0) for seed, i in enumerate(intensities)])


def _rises_with_intensity(phenomenon: str, feature: Callable[[np.ndarray], float]) -> float:
    intensities, clips = _series(phenomenon)
    return spearmanr([feature(clip) for clip in clips], intensities).statistic


def _frames_db(clip: np.ndarray) -> np.ndarray:
    """Levels of 10 ms frames."""
    return 10 * np.log10(np.square(clip).reshape(-1, SAMPLE_RATE_HZ // 100).mean(1) + 1e-10)


def _num_onsets(clip: np.ndarray) -> float:
    level_db = _frames_db(clip)
    return float(((np.diff(level_db) > 3) & (level_db[1:] > np.median(level_db) + 6)).sum())


def _evenness(clip: np.ndarray) -> float:
    """Many small events make an even sound, a few make peaks."""
    level_db = _frames_db(clip)
    return float(np.median(level_db) - np.percentile(level_db, 98))


def _share_db(clip: np.ndarray, low_hz: float, high_hz: float) -> float:
    """The power between two frequencies, of that between 60 and 3000 Hz."""
    hz = np.fft.rfftfreq(NUM_SAMPLES, 1 / SAMPLE_RATE_HZ)
    power = np.abs(np.fft.rfft(clip)) ** 2
    inside = power[(hz >= low_hz) & (hz < high_hz)].sum()
    return float(10 * np.log10(inside / power[(hz >= 60) & (hz < 3000)].sum() + 1e-12))


@pytest.mark.parametrize("phenomenon", PHENOMENA)
def test_a_clip_has_the_right_shape_and_range(phenomenon):
    for seed, intensity in enumerate([0.0, 0.5, 1.0] * 2):
        clip = synthesise(phenomenon, intensity, seed)
        assert clip.shape == (NUM_SAMPLES,) and clip.dtype == np.float32
        assert np.isfinite(clip).all() and np.abs(clip).max() <= 1 and clip.std() > 1e-4


@pytest.mark.parametrize("phenomenon", PHENOMENA)
def test_the_samples_depend_on_the_seed_alone(phenomenon):
    np.random.seed(0)  # noqa: NPY002  the global generator must not matter
    first = synthesise(phenomenon, 0.6, 11)
    np.random.seed(1)  # noqa: NPY002
    np.testing.assert_array_equal(first, synthesise(phenomenon, 0.6, 11))
    assert not np.array_equal(first, synthesise(phenomenon, 0.6, 12))


def test_an_unknown_phenomenon_is_rejected_by_name():
    with pytest.raises(ValueError, match="earthquake.*fire.*clock"):
        synthesise("earthquake", 0.5, 0)


@pytest.mark.parametrize("phenomenon", PHENOMENA)
def test_loudness_is_independent_of_intensity(phenomenon):
    assert abs(_rises_with_intensity(phenomenon, lambda clip: float(clip.std()))) < 0.5


def test_a_stronger_clock_ticks_faster():
    assert _rises_with_intensity("clock", _num_onsets) > 0.6


@pytest.mark.parametrize("phenomenon", ["fire", "rain"])
def test_crackle_and_drops_are_denser_with_intensity(phenomenon):
    assert _rises_with_intensity(phenomenon, _evenness) > 0.4


@pytest.mark.parametrize("phenomenon", ["thunder", "waves", "helicopter", "tornado"])
def test_the_spectrum_rises_with_intensity(phenomenon):
    assert _rises_with_intensity(phenomenon, lambda clip: _share_db(clip, 500.0, 3000.0)) > 0.5


@pytest.mark.parametrize("phenomenon", ["rain", "waterfall"])
def test_water_gains_bass_with_intensity(phenomenon):
    assert _rises_with_intensity(phenomenon, lambda clip: _share_db(clip, 60.0, 250.0)) > 0.5


@pytest.mark.parametrize("phenomenon", PHENOMENA)
def test_a_higher_tone_has_its_band_higher(phenomenon):
    low, high = (
        np.mean([_share_db(synthesise(phenomenon, 0.5, seed, tone), 280.0, 322.0) for seed in range(8)])
        for tone in (0.0, 1.0)
    )
    assert low > high + 3
