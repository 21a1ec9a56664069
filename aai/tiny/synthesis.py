"""Building blocks of synthesised sounds: noise, drifting curves, random moments, bursts, tones, envelopes."""

import numpy as np
from scipy import fft, signal

SAMPLE_RATE_HZ = 16_000
DURATION_S = 5
NUM_SAMPLES = SAMPLE_RATE_HZ * DURATION_S

Number = float | int  # the runtime type checks of tests do not accept int as float

TIME_S = np.arange(NUM_SAMPLES, dtype=np.float32) / SAMPLE_RATE_HZ
HZ = fft.rfftfreq(NUM_SAMPLES, 1 / SAMPLE_RATE_HZ).astype(np.float32)
HZ[0] = HZ[1]  # keeps logarithms finite; the DC component is always removed
OCTAVE = np.log2(HZ / 1000)
"""Octaves above 1 kHz."""


def noise(rng: np.random.Generator, low_hz: Number, high_hz: Number, slope_db: Number = 0.0) -> np.ndarray:
    """Band-pass noise of unit power (12 dB per octave outside the band), with a spectral slope in dB per octave."""
    spectrum = rng.standard_normal(2 * len(HZ), dtype=np.float32).view(np.complex64)
    gain = band(low_hz, high_hz) * np.exp2(np.float32(slope_db / 6.02) * OCTAVE)
    return unit(fft.irfft(spectrum * gain, NUM_SAMPLES))


def band(low_hz: Number, high_hz: Number) -> np.ndarray:
    """Amplitude response of a band-pass, 12 dB per octave outside the band."""
    below, above = np.float32(low_hz) / HZ, HZ / np.float32(high_hz)
    gain = 1 / ((1 + below * below) * (1 + above * above))
    gain[0] = 0
    return gain


def unit(wave: np.ndarray) -> np.ndarray:
    """The wave at unit power."""
    return wave / (np.sqrt(np.mean(np.square(wave))) + np.float32(1e-9))


def drift(rng: np.random.Generator, rate_hz: Number) -> np.ndarray:
    """A random curve in [0, 1], interpolated between `rate_hz` values per second."""
    knots = rng.random(max(3, round(rate_hz * DURATION_S) + 2))
    return np.interp(TIME_S, np.linspace(0, DURATION_S, len(knots)), knots).astype(np.float32)


def moments(rng: np.random.Generator, rate_hz: Number, crowding: Number = 0.0) -> np.ndarray:
    """Sample indices of a Poisson process; with `crowding` the events are clustered."""
    num = max(1, rng.poisson(rate_hz * DURATION_S))
    if not crowding:
        return rng.integers(0, NUM_SAMPLES, num)
    density = np.cumsum(np.exp(2 * crowding * drift(rng, rng.uniform(1, 5)).astype(np.float64)))
    return np.minimum(np.searchsorted(density, rng.random(num) * density[-1]), NUM_SAMPLES - 1)


def grains(
    rng: np.random.Generator, moments: np.ndarray, decay_s: Number, band_hz: tuple[Number, Number], spread: Number = 0.8
) -> np.ndarray:
    """Decaying noise bursts, of unit power in total; `decay_s` to 1/e, `spread` is the deviation of log amplitudes."""
    clicks = np.zeros(NUM_SAMPLES, np.float32)
    np.add.at(clicks, moments, np.exp(spread * rng.standard_normal(len(moments))).astype(np.float32))
    fade = np.exp(-1 / (decay_s * SAMPLE_RATE_HZ))
    envelope = signal.lfilter(np.ones(1, np.float32), np.array([1, -fade], np.float32), clicks)
    return unit(envelope * noise(rng, *band_hz))


def chimes(
    rng: np.random.Generator, moments: np.ndarray, pitch_hz: tuple[Number, Number], decay_s: Number, rise: Number = 0.0
) -> np.ndarray:
    """Decaying tones (drips, bubbles), of unit power in total; the pitch rises by `rise` per decay time."""
    num, length = len(moments), min(int(6 * decay_s * SAMPLE_RATE_HZ), NUM_SAMPLES)
    time_s = TIME_S[:length]
    pitch = np.float32(pitch_hz[0]) * np.float32(pitch_hz[1] / pitch_hz[0]) ** rng.random((num, 1), dtype=np.float32)
    decay = decay_s * np.exp(0.4 * rng.standard_normal((num, 1))).astype(np.float32)
    turns = pitch * (time_s + np.float32(rise / decay_s / 2) * time_s * time_s)
    size = np.exp(0.7 * rng.standard_normal((num, 1))).astype(np.float32)
    tones = size * np.exp(-time_s / decay) * np.sin(2 * np.pi * turns, dtype=np.float32)
    wave = np.zeros(NUM_SAMPLES + length, np.float32)
    np.add.at(wave, moments[:, None] + np.arange(length), tones)
    return unit(wave[:NUM_SAMPLES])


def swells(starts_s: np.ndarray, rise_s: np.ndarray, fall_s: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Sum of envelopes with attack and decay."""
    since = TIME_S - np.asarray(starts_s, np.float32)[:, None]
    climb = np.clip(since / np.asarray(rise_s, np.float32)[:, None], 0, 1)
    fall = np.exp(-np.maximum(since - np.asarray(rise_s)[:, None], 0) / np.asarray(fall_s)[:, None])
    return (np.asarray(sizes)[:, None] * climb * climb * fall).sum(0).astype(np.float32)


def db(value: Number) -> np.float32:
    """A level in dB as an amplitude."""
    return np.float32(10 ** (value / 20))


def between(low: Number, high: Number, share: Number) -> float:
    """Geometric interpolation from `low` to `high`."""
    return low * (high / low) ** share


def about(rng: np.random.Generator, value: Number, spread: Number = 0.15) -> float:
    """A value with a log-normal deviation."""
    return value * np.exp(spread * rng.standard_normal())
