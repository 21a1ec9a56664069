"""Synthesis of the ten phenomena from noise, clicks and tones, with an intensity.

Intensity changes rate, brightness, modulation and texture, but not loudness: the level of each clip is random. Room,
microphone, background noise and silence are random as well, so that models generalise to real recordings.
"""

from collections.abc import Callable

import numpy as np
from scipy import fft, signal

SAMPLE_RATE_HZ = 16_000
DURATION_S = 5
NUM_SAMPLES = SAMPLE_RATE_HZ * DURATION_S

Number = float | int  # the runtime type checks of tests do not accept int as float

_TIME_S = np.arange(NUM_SAMPLES, dtype=np.float32) / SAMPLE_RATE_HZ
_HZ = fft.rfftfreq(NUM_SAMPLES, 1 / SAMPLE_RATE_HZ).astype(np.float32)
_HZ[0] = _HZ[1]  # keeps logarithms finite; the DC component is always removed
_OCTAVE = np.log2(_HZ / 1000)

_LEVEL_DB, _LEVEL_SPREAD_DB = -32.0, 6.0
_MIN_SOUND_S = 2.0  # minimum of a clip that is padded with silence


def synthesise(phenomenon: str, intensity: float, seed: int) -> np.ndarray:
    """Synthesise a clip: float32, `NUM_SAMPLES` samples in [-1, 1]; `intensity` is in [0, 1].

    Raises:
        ValueError: unknown phenomenon.
    """
    if phenomenon not in _SYNTHESISERS:
        raise ValueError(f"unknown phenomenon {phenomenon!r}: use one of {', '.join(_SYNTHESISERS)}")
    rng = np.random.default_rng(seed)
    return _frame(rng, _record(rng, _SYNTHESISERS[phenomenon](rng, float(np.clip(intensity, 0, 1)))))


# --- building blocks ------------------------------------------------------------------------------------------------


def _noise(rng: np.random.Generator, low_hz: Number, high_hz: Number, slope_db: Number = 0.0) -> np.ndarray:
    """Band-pass noise of unit power (12 dB per octave outside the band), with a spectral slope in dB per octave."""
    spectrum = rng.standard_normal(2 * len(_HZ), dtype=np.float32).view(np.complex64)
    gain = _band(low_hz, high_hz) * np.exp2(np.float32(slope_db / 6.02) * _OCTAVE)
    return _unit(fft.irfft(spectrum * gain, NUM_SAMPLES))


def _band(low_hz: Number, high_hz: Number) -> np.ndarray:
    below, above = np.float32(low_hz) / _HZ, _HZ / np.float32(high_hz)
    gain = 1 / ((1 + below * below) * (1 + above * above))
    gain[0] = 0
    return gain


def _unit(wave: np.ndarray) -> np.ndarray:
    return wave / (np.sqrt(np.mean(np.square(wave))) + np.float32(1e-9))


def _drift(rng: np.random.Generator, rate_hz: Number) -> np.ndarray:
    """A random curve in [0, 1], interpolated between `rate_hz` values per second."""
    knots = rng.random(max(3, round(rate_hz * DURATION_S) + 2))
    return np.interp(_TIME_S, np.linspace(0, DURATION_S, len(knots)), knots).astype(np.float32)


def _moments(rng: np.random.Generator, rate_hz: Number, crowding: Number = 0.0) -> np.ndarray:
    """Sample indices of a Poisson process; with `crowding` the events are clustered."""
    num = max(1, rng.poisson(rate_hz * DURATION_S))
    if not crowding:
        return rng.integers(0, NUM_SAMPLES, num)
    density = np.cumsum(np.exp(2 * crowding * _drift(rng, rng.uniform(1, 5)).astype(np.float64)))
    return np.minimum(np.searchsorted(density, rng.random(num) * density[-1]), NUM_SAMPLES - 1)


def _grains(
    rng: np.random.Generator, moments: np.ndarray, decay_s: Number, band_hz: tuple[Number, Number], spread: Number = 0.8
) -> np.ndarray:
    """Decaying noise bursts, of unit power in total; `decay_s` to 1/e, `spread` is the deviation of log amplitudes."""
    clicks = np.zeros(NUM_SAMPLES, np.float32)
    np.add.at(clicks, moments, np.exp(spread * rng.standard_normal(len(moments))).astype(np.float32))
    fade = np.exp(-1 / (decay_s * SAMPLE_RATE_HZ))
    envelope = signal.lfilter(np.ones(1, np.float32), np.array([1, -fade], np.float32), clicks)
    return _unit(envelope * _noise(rng, *band_hz))


def _chimes(
    rng: np.random.Generator, moments: np.ndarray, pitch_hz: tuple[Number, Number], decay_s: Number, rise: Number = 0.0
) -> np.ndarray:
    """Decaying tones (drips, bubbles), of unit power in total; the pitch rises by `rise` per decay time."""
    num, length = len(moments), min(int(6 * decay_s * SAMPLE_RATE_HZ), NUM_SAMPLES)
    time_s = _TIME_S[:length]
    pitch = np.float32(pitch_hz[0]) * np.float32(pitch_hz[1] / pitch_hz[0]) ** rng.random((num, 1), dtype=np.float32)
    decay = decay_s * np.exp(0.4 * rng.standard_normal((num, 1))).astype(np.float32)
    turns = pitch * (time_s + np.float32(rise / decay_s / 2) * time_s * time_s)
    size = np.exp(0.7 * rng.standard_normal((num, 1))).astype(np.float32)
    tones = size * np.exp(-time_s / decay) * np.sin(2 * np.pi * turns, dtype=np.float32)
    wave = np.zeros(NUM_SAMPLES + length, np.float32)
    np.add.at(wave, moments[:, None] + np.arange(length), tones)
    return _unit(wave[:NUM_SAMPLES])


def _swells(starts_s: np.ndarray, rise_s: np.ndarray, fall_s: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Sum of envelopes with attack and decay."""
    since = _TIME_S - np.asarray(starts_s, np.float32)[:, None]
    climb = np.clip(since / np.asarray(rise_s, np.float32)[:, None], 0, 1)
    fall = np.exp(-np.maximum(since - np.asarray(rise_s)[:, None], 0) / np.asarray(fall_s)[:, None])
    return (np.asarray(sizes)[:, None] * climb * climb * fall).sum(0).astype(np.float32)


def _db(value: Number) -> np.float32:
    return np.float32(10 ** (value / 20))


def _between(low: Number, high: Number, share: Number) -> float:
    """Geometric interpolation from `low` to `high`."""
    return low * (high / low) ** share


def _about(rng: np.random.Generator, value: Number, spread: Number = 0.15) -> float:
    return value * np.exp(spread * rng.standard_normal())


# --- phenomena ------------------------------------------------------------------------------------------------------


def _fire(rng: np.random.Generator, intensity: float) -> np.ndarray:
    """Crackle over a roar; more and finer crackle, a wider and faster modulated roar with intensity."""
    rate_hz = _about(rng, _between(3, 150, intensity), 0.1)
    low_hz, decay_s = rng.uniform(300, 2500), _between(0.0008, 0.006, rng.random())
    crackle = _grains(rng, _moments(rng, rate_hz, rng.uniform(0, 1.5)), decay_s, (low_hz, 9000), rng.uniform(0.7, 1.2))
    ticks = _grains(rng, _moments(rng, 2 * rate_hz, 1), decay_s / 2, (rng.uniform(1500, 4000), 9000))
    roar = _noise(rng, 25, _about(rng, _between(60, 1000, intensity), 0.12), rng.uniform(-6, -1))
    roar *= 1 - (0.1 + 0.7 * intensity) * _drift(rng, _about(rng, _between(3, 14, intensity), 0.25))
    wave = crackle + _db(rng.uniform(-16, -6)) * ticks + _db(rng.uniform(-16, -8) + 14 * intensity) * _unit(roar)
    wave += _db(rng.uniform(-30, -9)) * _noise(rng, rng.uniform(40, 1500), 9000, rng.uniform(-5, 0))
    if rng.random() < 0.4:
        pops = _moments(rng, rng.uniform(0.2, 0.8))
        wave += _db(rng.uniform(-8, 3)) * _grains(rng, pops, _between(0.01, 0.15, rng.random()), (100, 8000), 0.5)
    return wave


def _rain(rng: np.random.Generator, intensity: float) -> np.ndarray:
    """Drops over a hiss; more drops, gusts and bass with intensity."""
    rate_hz = _about(rng, _between(12, 1000, intensity), 0.1)
    kind = rng.choice(["leaves", "roof", "tent", "drips", "hiss"])
    low_hz = _about(rng, _between(1800, 120, intensity), 0.1) * (0.3 if kind == "tent" else 1)
    slope_db = rng.uniform(-5, -1) if kind == "tent" else rng.uniform(-2.5, 1)
    wave = _noise(rng, low_hz, rng.uniform(5000, 9000), slope_db)
    gust_hz = _about(rng, _between(0.5, 8, intensity), 0.2)
    wave *= 1 - _between(0.1, 0.5, intensity) * _drift(rng, gust_hz)
    level_db = 5 - 15 * intensity + rng.uniform(-2, 2) - {"hiss": 4, "tent": 5}.get(kind, 0)
    bands_hz = {"roof": (rng.uniform(200, 500), rng.uniform(1500, 4000)), "tent": (50, rng.uniform(2000, 9000))}
    band_hz = bands_hz.get(kind, (rng.uniform(800, 3000), rng.uniform(5000, 9000)))
    decay_s = _about(rng, _between(0.006, 0.001, intensity), 0.3) * (2 if kind in bands_hz else 1)
    wave += _db(level_db) * _grains(rng, _moments(rng, rate_hz), decay_s, band_hz, rng.uniform(0.2, 0.6))
    if kind == "drips":
        drips = _chimes(rng, _moments(rng, min(rate_hz, 90) / 3), (700, 5000), rng.uniform(0.004, 0.015))
        wave += _db(level_db - 2) * drips
    return wave + _db(-30 + 28 * intensity + rng.uniform(-2, 2)) * _noise(rng, 40, 400, -2)


def _snow(rng: np.random.Generator, intensity: float) -> np.ndarray:
    """Footsteps in snow and soft wind; faster, deeper and grainier steps with intensity."""
    period_s = _about(rng, _between(1.1, 0.36, intensity), 0.06)
    starts_s = np.arange(rng.uniform(0, period_s), DURATION_S, period_s)
    starts_s = starts_s + rng.normal(0, 0.03, len(starts_s))
    ones = np.ones(len(starts_s))
    length_s = max(0.12, period_s * rng.uniform(0.2, 0.34))
    sizes = np.exp(0.25 * rng.standard_normal(len(starts_s)))
    step = _swells(starts_s, length_s * ones, 0.4 * length_s * ones, sizes)
    squeak = _swells(starts_s + 0.6 * length_s, length_s * ones, 0.3 * length_s * ones, sizes)
    grain_hz = _between(80, 500, intensity)
    crunch = _grains(rng, _moments(rng, grain_hz), 0.003, (_between(900, 250, intensity), rng.uniform(3000, 6000)))
    wave = _unit(step * crunch) + _db(rng.uniform(-12, -4)) * _unit(squeak * _noise(rng, 600, 2500))
    wind = _noise(rng, 80, _about(rng, 350, 0.3), -3) * (0.4 + _drift(rng, 1.5))
    return wave + _db(rng.uniform(-22, -9)) * wind


def _thunder(rng: np.random.Generator, intensity: float) -> np.ndarray:
    """A rumble; a crack at the start, more claps and higher frequencies with intensity."""
    num = 1 + round(4 * intensity * rng.uniform(0.7, 1.1))
    starts_s = rng.uniform(0.1, 0.8) + np.sort(rng.uniform(0, 2.6, num))
    sizes = np.exp(0.5 * rng.standard_normal(num))
    roll = _swells(starts_s, np.full(num, _between(0.5, 0.02, intensity)), rng.uniform(0.4, 1.2, num), sizes)
    high_hz = _about(rng, _between(60, 700, intensity), 0.1)
    rumble = _unit(roll * (0.1 + _drift(rng, rng.uniform(5, 14))) * _noise(rng, 25, high_hz, -2))
    snap = _swells(starts_s, np.full(num, 0.004), rng.uniform(0.08, 0.3, num), sizes)
    crack = _unit(snap * _noise(rng, 200, _between(900, 7000, intensity), -3))
    wave = rumble + _db(-30 + 30 * intensity + rng.uniform(-2, 2)) * crack
    return wave + _db(rng.uniform(-40, -24)) * _noise(rng, 300, 8000, -2)


def _waves(rng: np.random.Generator, intensity: float) -> np.ndarray:
    """Swelling and breaking waves; brighter, faster and with quieter pauses with intensity."""
    gap_s = _about(rng, _between(4, 1.4, intensity), 0.2)
    starts_s = np.arange(rng.uniform(-gap_s, 1), DURATION_S, gap_s)
    num = len(starts_s)
    starts_s = starts_s + rng.normal(0, 0.25 * gap_s, num)
    rise_s = _between(1.8, 0.15, intensity) * np.exp(0.15 * rng.standard_normal(num))
    fall_s = _between(1.8, 0.6, intensity) * np.exp(0.3 * rng.standard_normal(num))
    swell = _swells(starts_s, rise_s, fall_s, np.exp(0.4 * rng.standard_normal(num)))
    swell = swell / (swell.max() + np.float32(1e-6))
    calm = _about(rng, _between(1, 0.1, intensity), 0.25) * (0.7 + 0.6 * _drift(rng, rng.uniform(0.3, 2)))
    high_hz = _about(rng, _between(300, 4200, intensity), 0.1)
    body = _unit((calm + swell) * _noise(rng, rng.uniform(80, 350), high_hz, rng.uniform(-4.5, -0.5)))
    foam = _noise(rng, rng.uniform(700, 2500), 9000, rng.uniform(-4, -1))
    if rng.random() < 0.6:
        drops = _moments(rng, _between(30, 400, intensity))
        foam = foam + _db(rng.uniform(-6, 4)) * _grains(rng, drops, 0.003, (600, 8000))
    late = np.roll(swell, int(rng.uniform(0, 0.4) * SAMPLE_RATE_HZ))
    wave = body + _db(-24 + 21 * intensity + rng.uniform(-2, 2)) * _unit((calm + late) * foam)
    if rng.random() < 0.4:
        laps = _chimes(rng, _moments(rng, rng.uniform(5, 40), 1), (250, 4000), rng.uniform(0.004, 0.015), 0.1)
        wave += _db(rng.uniform(-10, -4) - 10 * intensity) * laps
    return wave


def _fireworks(rng: np.random.Generator, intensity: float) -> np.ndarray:
    """Whistles, bangs and crackling; more and sharper with intensity."""
    num = max(1, round(_about(rng, _between(1.2, 12, intensity), 0.1)))
    starts_s = rng.permutation(np.linspace(0.3, 4.6, num)) + rng.uniform(-0.2, 0.2, num)
    sizes = np.exp(0.4 * rng.standard_normal(num))
    boom = _swells(starts_s, np.full(num, 0.003), rng.uniform(0.06, 0.25, num), sizes)
    wave = _unit(boom * _noise(rng, 40, _about(rng, _between(500, 2500, intensity)), -3))
    sparks = _swells(starts_s + rng.uniform(0.05, 0.5, num), np.full(num, 0.1), rng.uniform(0.2, 0.6, num), sizes)
    rate_hz = _about(rng, _between(40, 250, intensity), 0.2)
    shower = sparks * _grains(rng, _moments(rng, rate_hz), 0.003, (rng.uniform(1500, 3000), 8000), 0.5)
    wave += _db(rng.uniform(-14, -2)) * _unit(shower)
    for start_s in starts_s[: rng.integers(1, 4)]:
        length_s = rng.uniform(0.3, 0.9)
        rising = np.clip((_TIME_S - start_s + length_s) / length_s, 0, 1)
        pitch_hz = rng.uniform(700, 2200) + rng.uniform(-500, 1800) * rising
        on = (rising > 0) & (rising < 1)
        whistle = on * np.sin(2 * np.pi * np.cumsum(pitch_hz) / SAMPLE_RATE_HZ, dtype=np.float32)
        wave += _db(rng.uniform(-16, -4)) * np.float32(1.4) * whistle
    return wave


def _waterfall(rng: np.random.Generator, intensity: float) -> np.ndarray:
    """A steady roar with gurgles; lower, wider and deeper with intensity."""
    low_hz, high_hz = _about(rng, _between(500, 40, intensity), 0.1), _about(rng, _between(1200, 6000, intensity), 0.1)
    roar = _noise(rng, low_hz, high_hz, rng.uniform(-3, -1.5))
    rumble = _noise(rng, 30, 110) * (0.7 + 0.6 * _drift(rng, 8))
    pitch_hz = _about(rng, _between(1300, 200, intensity), 0.1)
    moments = _moments(rng, _about(rng, _between(80, 20, intensity), 0.2))
    gurgle = _chimes(rng, moments, (0.6 * pitch_hz, 2 * pitch_hz), rng.uniform(0.015, 0.04), 0.15)
    wave = roar + _db(-22 + 24 * intensity + rng.uniform(-2, 2)) * rumble
    return wave + _db(rng.uniform(-3, 3) - 2 * intensity) * gurgle


def _tornado(rng: np.random.Generator, intensity: float) -> np.ndarray:
    """Howling wind; higher and faster modulated with intensity."""
    restless_hz = _between(0.8, 4, intensity)
    wave = _noise(rng, 30, _between(150, 500, intensity), -3) * (0.5 + _drift(rng, restless_hz))
    wave *= _db(rng.uniform(-8, 0))
    for _ in range(rng.integers(1, 4)):
        centre_hz = _about(rng, _between(180, 900, intensity), 0.12)
        glide = np.exp2(_between(0.4, 1.6, intensity) * (_drift(rng, restless_hz) - np.float32(0.5)))
        carrier = np.exp(2j * np.pi * np.cumsum(centre_hz * glide) / SAMPLE_RATE_HZ).astype(np.complex64)
        width_hz = rng.uniform(8, 40)
        flutter = _noise(rng, 0.5, width_hz) + 1j * _noise(rng, 0.5, width_hz)
        wave += _unit((carrier * flutter).real * (0.2 + _drift(rng, restless_hz)))
    return wave + _db(-26 + 14 * intensity + rng.uniform(-3, 3)) * _noise(rng, 800, 7000, -3)


def _helicopter(rng: np.random.Generator, intensity: float) -> np.ndarray:
    """Rotor beats and engine noise; faster, deeper and brighter beats with intensity."""
    rate_hz = _about(rng, _between(7, 24, intensity), 0.12)
    turn = np.cumsum(rate_hz * (1 + rng.uniform(0, 0.04) * _drift(rng, 0.6))) / SAMPLE_RATE_HZ + rng.random()
    sharpness = _about(rng, _between(0.7, 7, intensity), 0.2)
    beat = np.exp(-sharpness * (1 + np.cos(2 * np.pi * turn, dtype=np.float32)))
    beat *= 1 - rng.uniform(0, 0.4) * (np.floor(turn) % 2).astype(np.float32)
    beat /= beat.mean()
    depth = np.clip(_about(rng, _between(0.12, 0.9, intensity), 0.1), 0, 1)
    high_hz = _about(rng, _between(160, 3200, intensity), 0.1)
    throb = _noise(rng, rng.uniform(20, 120), high_hz, rng.uniform(-3, 0))
    wave = _unit(throb * (1 - depth + depth * beat))
    wave += _db(rng.uniform(-10, 2)) * _unit(beat * _noise(rng, 30, 180))
    air = _noise(rng, rng.uniform(60, 400), rng.uniform(2, 4) * high_hz, rng.uniform(-5, -2))
    wave += _db(rng.uniform(-12, 0)) * air * (1 - 0.3 * depth + 0.3 * depth * beat)
    wave += _db(rng.uniform(-16, 0)) * _engine(rng)
    if rng.random() < 0.4:  # reflection from the ground: a comb filter
        wave += np.float32(rng.uniform(0.3, 0.9)) * np.roll(wave, int(_between(4, 80, rng.random())))
    return wave * np.exp(rng.uniform(0, 1.5) * _drift(rng, rng.uniform(0.2, 1)))


def _engine(rng: np.random.Generator) -> np.ndarray:
    """Harmonics of the tail rotor and the turbine."""
    tail_hz, whine_hz = rng.uniform(50, 120), _between(500, 5500, rng.random())
    pitches_hz = [tail_hz * order for order in range(1, rng.integers(3, 9))]
    pitches_hz += [whine_hz * order for order in range(1, rng.integers(1, 4)) if whine_hz * order < 7500]
    sizes = np.exp(0.7 * rng.standard_normal(len(pitches_hz))) * (tail_hz / np.array(pitches_hz)) ** rng.uniform(0, 0.7)
    sway = np.cumsum(1 + rng.uniform(0, 0.02) * _drift(rng, 0.5).astype(np.float64)) / SAMPLE_RATE_HZ
    wave = np.zeros(NUM_SAMPLES, np.float32)
    for pitch_hz, size in zip(pitches_hz, sizes, strict=True):
        wave += np.float32(size) * np.sin(2 * np.pi * np.mod(pitch_hz * sway, 1).astype(np.float32))
    return _unit(wave)


def _clock(rng: np.random.Generator, intensity: float) -> np.ndarray:
    """Ticks; faster and sharper with intensity."""
    period_s = _about(rng, _between(1.2, 0.16, intensity), 0.06)
    starts_s = np.arange(rng.uniform(0, period_s), DURATION_S, period_s)
    lag_s = rng.uniform(0, 0.25) * period_s * (rng.random() < 0.4)  # uneven intervals: tick-tock
    starts_s[1::2] += lag_s
    moments = np.minimum((starts_s * SAMPLE_RATE_HZ).astype(int), NUM_SAMPLES - 1)
    wave = np.zeros(NUM_SAMPLES, np.float32)
    kinds = [_tick(rng, intensity), _tick(rng, intensity)] if rng.random() < 0.5 else [_tick(rng, intensity)]
    for index, moment in enumerate(moments):
        tick = kinds[index % len(kinds)][: NUM_SAMPLES - moment]
        wave[moment : moment + len(tick)] += _about(rng, 1.0, 0.12) * tick
    return wave


def _tick(rng: np.random.Generator, intensity: float) -> np.ndarray:
    """One or more clicks of the escapement with resonances of the case."""
    length = SAMPLE_RATE_HZ // 3
    time_s = _TIME_S[:length]
    decay_s = _between(0.015, 0.003, intensity) * _about(rng, 1, 0.3)
    noise = rng.standard_normal(length).astype(np.float32)
    cut_hz = min(_about(rng, _between(900, 5000, intensity), 0.25), 7500)
    filters = signal.butter(rng.integers(1, 4), cut_hz, rng.choice(["low", "high"]), fs=SAMPLE_RATE_HZ)
    noise = signal.lfilter(*filters, noise)
    tick = _unit(noise * np.exp(-time_s / decay_s))
    if rng.random() < 0.45:
        tick += _db(rng.uniform(-16, -2)) * _unit(noise * np.exp(-time_s / _between(0.015, 0.12, rng.random())))
    for _ in range(rng.integers(0, 6)):
        pitch_hz, ring_s = _between(250, 7000, rng.random()), _between(0.006, 0.08, rng.random())
        ring = np.sin(2 * np.pi * pitch_hz * time_s) * np.exp(-time_s / ring_s)
        tick += _db(rng.uniform(-12, 3)) * _unit(ring)
    tick[:8] *= np.linspace(0, 1, 8)
    for _ in range(rng.integers(0, 4)):
        gap = rng.integers(80, 1200)
        tick[gap:] += np.float32(rng.uniform(0.2, 0.9)) * tick[:-gap]
    return (tick * np.linspace(1, 0, length)).astype(np.float32)


_SYNTHESISERS: dict[str, Callable[[np.random.Generator, float], np.ndarray]] = {
    voice.__name__.removeprefix("_"): voice
    for voice in (_fire, _rain, _snow, _thunder, _waves, _fireworks, _waterfall, _tornado, _helicopter, _clock)
}


# --- recording ------------------------------------------------------------------------------------------------------


def _record(rng: np.random.Generator, wave: np.ndarray) -> np.ndarray:
    """Add room reverberation, background noise and a microphone response."""
    spectrum = fft.rfft(_unit(wave).astype(np.float32))
    if rng.random() < 0.5:
        spectrum *= 1 + _db(rng.uniform(-16, 0)) * _room(rng)
    noise = _noise(rng, rng.uniform(20, 100), rng.uniform(1500, 9000), rng.uniform(-6, 0))
    if rng.random() < 0.2:
        hum_hz = rng.choice([50, 60]) * rng.integers(1, 5)
        noise = noise + np.float32(rng.uniform(0.3, 2)) * np.sin(2 * np.pi * hum_hz * _TIME_S, dtype=np.float32)
    spectrum += _db(-rng.uniform(8, 40)) * fft.rfft(noise)
    return fft.irfft(spectrum * _microphone(rng), NUM_SAMPLES)


def _room(rng: np.random.Generator) -> np.ndarray:
    """Spectrum of an exponentially decaying impulse response of unit energy."""
    length = int(rng.uniform(0.05, 0.8) * SAMPLE_RATE_HZ)
    echo = rng.standard_normal(length, dtype=np.float32) * np.exp(-6.9 * np.arange(length, dtype=np.float32) / length)
    return fft.rfft(echo / np.sqrt(np.sum(echo * echo)), NUM_SAMPLES)


def _microphone(rng: np.random.Generator) -> np.ndarray:
    """Frequency response of a microphone: a smooth random curve with low and high cut-off."""
    knots_db = rng.normal(0, 3, 8)
    curve_db = np.interp(_OCTAVE, np.linspace(-5, 3, len(knots_db)), knots_db).astype(np.float32)
    low_hz = _between(10, 150, rng.random())
    high_hz = _between(2500, 8000, rng.random()) if rng.random() < 0.4 else 20_000
    return np.exp2(curve_db / np.float32(6.02)) * _band(low_hz, high_hz)


def _frame(rng: np.random.Generator, wave: np.ndarray) -> np.ndarray:
    """Apply level, soft clipping and padding with silence, each at random."""
    wave = _unit(wave)
    if rng.random() < 0.3:
        ceiling = np.float32(rng.uniform(2, 6))
        wave = ceiling * np.tanh(wave / ceiling)
    wave = wave * _db(rng.normal(_LEVEL_DB, _LEVEL_SPREAD_DB))
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
