"""Recording of a synthesised sound: room, background noise, microphone, level, clipping and silence, all at random."""

import numpy as np
from scipy import fft

from aai.tiny.synthesis import (
    DURATION_S,
    NUM_SAMPLES,
    OCTAVE,
    SAMPLE_RATE_HZ,
    TIME_S,
    band,
    between,
    db,
    noise,
    unit,
)

_LEVEL_DB, _LEVEL_SPREAD_DB = -32.0, 6.0
_MIN_SOUND_S = 2.0
"""Minimum of a clip that is padded with silence."""


def record(rng: np.random.Generator, wave: np.ndarray) -> np.ndarray:
    """Add room reverberation, background noise and a microphone response."""
    spectrum = fft.rfft(unit(wave).astype(np.float32))
    if rng.random() < 0.5:
        spectrum *= 1 + db(rng.uniform(-16, 0)) * _room(rng)
    hiss = noise(rng, rng.uniform(20, 100), rng.uniform(1500, 9000), rng.uniform(-6, 0))
    if rng.random() < 0.2:
        hum_hz = rng.choice([50, 60]) * rng.integers(1, 5)
        hiss = hiss + np.float32(rng.uniform(0.3, 2)) * np.sin(2 * np.pi * hum_hz * TIME_S, dtype=np.float32)
    spectrum += db(-rng.uniform(8, 40)) * fft.rfft(hiss)
    return fft.irfft(spectrum * _microphone(rng), NUM_SAMPLES)


def _room(rng: np.random.Generator) -> np.ndarray:
    """Spectrum of an exponentially decaying impulse response of unit energy."""
    length = int(rng.uniform(0.05, 0.8) * SAMPLE_RATE_HZ)
    echo = rng.standard_normal(length, dtype=np.float32) * np.exp(-6.9 * np.arange(length, dtype=np.float32) / length)
    return fft.rfft(echo / np.sqrt(np.sum(echo * echo)), NUM_SAMPLES)


def _microphone(rng: np.random.Generator) -> np.ndarray:
    """Frequency response of a microphone: a smooth random curve with low and high cut-off."""
    knots_db = rng.normal(0, 3, 8)
    curve_db = np.interp(OCTAVE, np.linspace(-5, 3, len(knots_db)), knots_db).astype(np.float32)
    low_hz = between(10, 150, rng.random())
    high_hz = between(2500, 8000, rng.random()) if rng.random() < 0.4 else 20_000
    return np.exp2(curve_db / np.float32(6.02)) * band(low_hz, high_hz)


def frame(rng: np.random.Generator, wave: np.ndarray) -> np.ndarray:
    """Apply level, soft clipping and padding with silence, each at random."""
    wave = unit(wave)
    if rng.random() < 0.3:
        ceiling = np.float32(rng.uniform(2, 6))
        wave = ceiling * np.tanh(wave / ceiling)
    wave = wave * db(rng.normal(_LEVEL_DB, _LEVEL_SPREAD_DB))
    wave = wave / max(1.0, float(np.abs(wave).max()))
    if rng.random() < 0.12:
        wave = _pad(rng, wave)
    return wave.astype(np.float32)


def _pad(rng: np.random.Generator, wave: np.ndarray) -> np.ndarray:
    """Keep the loudest seconds, and place them at the start, the end or in between."""
    keep = int(rng.uniform(_MIN_SOUND_S, 0.95 * DURATION_S) * SAMPLE_RATE_HZ)
    power = np.concatenate([[0], np.cumsum(np.square(wave, dtype=np.float64))])
    first = int(np.argmax(power[keep:] - power[:-keep]))
    kept = wave[first : first + keep] * np.minimum(1, np.arange(keep, 0, -1) / rng.uniform(50, 8000))
    spare = NUM_SAMPLES - keep
    before = int(rng.choice([0, spare, int(rng.integers(0, spare))]))
    return np.pad(kept, (before, spare - before))
