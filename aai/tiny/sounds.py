"""Synthesis of the ten phenomena from noise, clicks and tones, with an intensity and a tone.

Intensity changes rate, brightness, modulation and texture, but not loudness: the level of each clip is random. Tone is
the pitch of a band of noise that sounds with the phenomenon, as a body that resonates. Room, microphone, background
noise and silence are random as well, so that models generalise to real recordings.
"""

from collections.abc import Callable

import numpy as np
from scipy import signal

from aai.tiny.recording import frame, record
from aai.tiny.synthesis import (
    DURATION_S,
    NUM_SAMPLES,
    SAMPLE_RATE_HZ,
    TIME_S,
    about,
    between,
    chimes,
    db,
    drift,
    grains,
    moments,
    noise,
    swells,
    unit,
)

_VOICE_HZ = (300.0, 4000.0)
"""Pitch of the lowest and the highest tone."""

_VOICE_DB = (-7.0, 0.0)
"""Range of the level of the tone's band relative to the phenomenon."""

_VOICE_WIDTH = 0.03
"""Width of the band relative to its pitch."""


def synthesise(phenomenon: str, intensity: float, seed: int, tone: float = 0.5) -> np.ndarray:
    """Synthesise a clip: float32, `NUM_SAMPLES` samples in [-1, 1]; `intensity` and `tone` are in [0, 1].

    Raises:
        ValueError: unknown phenomenon.
    """
    if phenomenon not in _SYNTHESISERS:
        raise ValueError(f"unknown phenomenon {phenomenon!r}: use one of {', '.join(_SYNTHESISERS)}")
    rng = np.random.default_rng(seed)
    wave = _SYNTHESISERS[phenomenon](rng, float(np.clip(intensity, 0, 1)))
    return frame(rng, record(rng, _with_tone(rng, wave, float(np.clip(tone, 0, 1)))))


def _with_tone(rng: np.random.Generator, wave: np.ndarray, tone: float) -> np.ndarray:
    """Add a band of noise at the tone's pitch, as loud as the wave is at each moment."""
    wave = unit(wave)
    centre_hz = between(*_VOICE_HZ, tone)
    smooth = np.full(SAMPLE_RATE_HZ // 50, 50 / SAMPLE_RATE_HZ, np.float32)
    loudness = np.sqrt(signal.oaconvolve(np.square(wave), smooth, mode="same").clip(min=0))
    pitch = np.exp(2j * np.pi * np.cumsum(centre_hz * np.exp2(0.04 * drift(rng, 2))) / SAMPLE_RATE_HZ).astype(
        np.complex64
    )
    width_hz = centre_hz * _VOICE_WIDTH
    flutter = noise(rng, 0.5, width_hz) + 1j * noise(rng, 0.5, width_hz)
    voice = unit(loudness * (pitch * flutter).real)
    return wave + db(rng.uniform(*_VOICE_DB)) * voice


def _fire(rng: np.random.Generator, intensity: float) -> np.ndarray:
    """Crackle over a roar; more and finer crackle, a wider and faster modulated roar with intensity."""
    rate_hz = about(rng, between(3, 150, intensity), 0.1)
    low_hz, decay_s = rng.uniform(300, 2500), between(0.0008, 0.006, rng.random())
    crackle = grains(rng, moments(rng, rate_hz, rng.uniform(0, 1.5)), decay_s, (low_hz, 9000), rng.uniform(0.7, 1.2))
    ticks = grains(rng, moments(rng, 2 * rate_hz, 1), decay_s / 2, (rng.uniform(1500, 4000), 9000))
    roar = noise(rng, 25, about(rng, between(60, 1000, intensity), 0.12), rng.uniform(-6, -1))
    roar *= 1 - (0.1 + 0.7 * intensity) * drift(rng, about(rng, between(3, 14, intensity), 0.25))
    wave = crackle + db(rng.uniform(-16, -6)) * ticks + db(rng.uniform(-16, -8) + 14 * intensity) * unit(roar)
    wave += db(rng.uniform(-30, -9)) * noise(rng, rng.uniform(40, 1500), 9000, rng.uniform(-5, 0))
    if rng.random() < 0.4:
        pops = moments(rng, rng.uniform(0.2, 0.8))
        wave += db(rng.uniform(-8, 3)) * grains(rng, pops, between(0.01, 0.15, rng.random()), (100, 8000), 0.5)
    return wave


def _rain(rng: np.random.Generator, intensity: float) -> np.ndarray:
    """Drops over a hiss; more drops, gusts and bass with intensity."""
    rate_hz = about(rng, between(12, 1000, intensity), 0.1)
    kind = rng.choice(["leaves", "roof", "tent", "drips", "hiss"])
    low_hz = about(rng, between(1800, 120, intensity), 0.1) * (0.3 if kind == "tent" else 1)
    slope_db = rng.uniform(-5, -1) if kind == "tent" else rng.uniform(-2.5, 1)
    wave = noise(rng, low_hz, rng.uniform(5000, 9000), slope_db)
    gust_hz = about(rng, between(0.5, 8, intensity), 0.2)
    wave *= 1 - between(0.1, 0.5, intensity) * drift(rng, gust_hz)
    level_db = 5 - 15 * intensity + rng.uniform(-2, 2) - {"hiss": 4, "tent": 5}.get(kind, 0)
    bands_hz = {"roof": (rng.uniform(200, 500), rng.uniform(1500, 4000)), "tent": (50, rng.uniform(2000, 9000))}
    band_hz = bands_hz.get(kind, (rng.uniform(800, 3000), rng.uniform(5000, 9000)))
    decay_s = about(rng, between(0.006, 0.001, intensity), 0.3) * (2 if kind in bands_hz else 1)
    wave += db(level_db) * grains(rng, moments(rng, rate_hz), decay_s, band_hz, rng.uniform(0.2, 0.6))
    if kind == "drips":
        drips = chimes(rng, moments(rng, min(rate_hz, 90) / 3), (700, 5000), rng.uniform(0.004, 0.015))
        wave += db(level_db - 2) * drips
    return wave + db(-30 + 28 * intensity + rng.uniform(-2, 2)) * noise(rng, 40, 400, -2)


def _snow(rng: np.random.Generator, intensity: float) -> np.ndarray:
    """Footsteps in snow and soft wind; faster, deeper and grainier steps with intensity."""
    period_s = about(rng, between(1.1, 0.36, intensity), 0.06)
    starts_s = np.arange(rng.uniform(0, period_s), DURATION_S, period_s)
    starts_s = starts_s + rng.normal(0, 0.03, len(starts_s))
    ones = np.ones(len(starts_s))
    length_s = max(0.12, period_s * rng.uniform(0.2, 0.34))
    sizes = np.exp(0.25 * rng.standard_normal(len(starts_s)))
    step = swells(starts_s, length_s * ones, 0.4 * length_s * ones, sizes)
    squeak = swells(starts_s + 0.6 * length_s, length_s * ones, 0.3 * length_s * ones, sizes)
    grain_hz = between(80, 500, intensity)
    crunch = grains(rng, moments(rng, grain_hz), 0.003, (between(900, 250, intensity), rng.uniform(3000, 6000)))
    wave = unit(step * crunch) + db(rng.uniform(-12, -4)) * unit(squeak * noise(rng, 600, 2500))
    wind = noise(rng, 80, about(rng, 350, 0.3), -3) * (0.4 + drift(rng, 1.5))
    return wave + db(rng.uniform(-22, -9)) * wind


def _thunder(rng: np.random.Generator, intensity: float) -> np.ndarray:
    """A rumble; a crack at the start, more claps and higher frequencies with intensity."""
    num = 1 + round(4 * intensity * rng.uniform(0.7, 1.1))
    starts_s = rng.uniform(0.1, 0.8) + np.sort(rng.uniform(0, 2.6, num))
    sizes = np.exp(0.5 * rng.standard_normal(num))
    roll = swells(starts_s, np.full(num, between(0.5, 0.02, intensity)), rng.uniform(0.4, 1.2, num), sizes)
    high_hz = about(rng, between(60, 700, intensity), 0.1)
    rumble = unit(roll * (0.1 + drift(rng, rng.uniform(5, 14))) * noise(rng, 25, high_hz, -2))
    snap = swells(starts_s, np.full(num, 0.004), rng.uniform(0.08, 0.3, num), sizes)
    crack = unit(snap * noise(rng, 200, between(900, 7000, intensity), -3))
    wave = rumble + db(-30 + 30 * intensity + rng.uniform(-2, 2)) * crack
    return wave + db(rng.uniform(-40, -24)) * noise(rng, 300, 8000, -2)


def _waves(rng: np.random.Generator, intensity: float) -> np.ndarray:
    """Swelling and breaking waves; brighter, faster and with quieter pauses with intensity."""
    gap_s = about(rng, between(4, 1.4, intensity), 0.2)
    starts_s = np.arange(rng.uniform(-gap_s, 1), DURATION_S, gap_s)
    num = len(starts_s)
    starts_s = starts_s + rng.normal(0, 0.25 * gap_s, num)
    rise_s = between(1.8, 0.15, intensity) * np.exp(0.15 * rng.standard_normal(num))
    fall_s = between(1.8, 0.6, intensity) * np.exp(0.3 * rng.standard_normal(num))
    swell = swells(starts_s, rise_s, fall_s, np.exp(0.4 * rng.standard_normal(num)))
    swell = swell / (swell.max() + np.float32(1e-6))
    calm = about(rng, between(1, 0.1, intensity), 0.25) * (0.7 + 0.6 * drift(rng, rng.uniform(0.3, 2)))
    high_hz = about(rng, between(300, 4200, intensity), 0.1)
    body = unit((calm + swell) * noise(rng, rng.uniform(80, 350), high_hz, rng.uniform(-4.5, -0.5)))
    foam = noise(rng, rng.uniform(700, 2500), 9000, rng.uniform(-4, -1))
    if rng.random() < 0.6:
        drops = moments(rng, between(30, 400, intensity))
        foam = foam + db(rng.uniform(-6, 4)) * grains(rng, drops, 0.003, (600, 8000))
    late = np.roll(swell, int(rng.uniform(0, 0.4) * SAMPLE_RATE_HZ))
    wave = body + db(-24 + 21 * intensity + rng.uniform(-2, 2)) * unit((calm + late) * foam)
    if rng.random() < 0.4:
        laps = chimes(rng, moments(rng, rng.uniform(5, 40), 1), (250, 4000), rng.uniform(0.004, 0.015), 0.1)
        wave += db(rng.uniform(-10, -4) - 10 * intensity) * laps
    return wave


def _fireworks(rng: np.random.Generator, intensity: float) -> np.ndarray:
    """Whistles, bangs and crackling; more and sharper with intensity."""
    num = max(1, round(about(rng, between(1.2, 12, intensity), 0.1)))
    starts_s = rng.permutation(np.linspace(0.3, 4.6, num)) + rng.uniform(-0.2, 0.2, num)
    sizes = np.exp(0.4 * rng.standard_normal(num))
    boom = swells(starts_s, np.full(num, 0.003), rng.uniform(0.06, 0.25, num), sizes)
    wave = unit(boom * noise(rng, 40, about(rng, between(500, 2500, intensity)), -3))
    sparks = swells(starts_s + rng.uniform(0.05, 0.5, num), np.full(num, 0.1), rng.uniform(0.2, 0.6, num), sizes)
    rate_hz = about(rng, between(40, 250, intensity), 0.2)
    shower = sparks * grains(rng, moments(rng, rate_hz), 0.003, (rng.uniform(1500, 3000), 8000), 0.5)
    wave += db(rng.uniform(-14, -2)) * unit(shower)
    for start_s in starts_s[: rng.integers(1, 4)]:
        length_s = rng.uniform(0.3, 0.9)
        rising = np.clip((TIME_S - start_s + length_s) / length_s, 0, 1)
        pitch_hz = rng.uniform(700, 2200) + rng.uniform(-500, 1800) * rising
        on = (rising > 0) & (rising < 1)
        whistle = on * np.sin(2 * np.pi * np.cumsum(pitch_hz) / SAMPLE_RATE_HZ, dtype=np.float32)
        wave += db(rng.uniform(-16, -4)) * np.float32(1.4) * whistle
    return wave


def _waterfall(rng: np.random.Generator, intensity: float) -> np.ndarray:
    """A steady roar with gurgles; lower, wider and deeper with intensity."""
    low_hz, high_hz = about(rng, between(500, 40, intensity), 0.1), about(rng, between(1200, 6000, intensity), 0.1)
    roar = noise(rng, low_hz, high_hz, rng.uniform(-3, -1.5))
    rumble = noise(rng, 30, 110) * (0.7 + 0.6 * drift(rng, 8))
    pitch_hz = about(rng, between(1300, 200, intensity), 0.1)
    bubbles = moments(rng, about(rng, between(80, 20, intensity), 0.2))
    gurgle = chimes(rng, bubbles, (0.6 * pitch_hz, 2 * pitch_hz), rng.uniform(0.015, 0.04), 0.15)
    wave = roar + db(-22 + 24 * intensity + rng.uniform(-2, 2)) * rumble
    return wave + db(rng.uniform(-3, 3) - 2 * intensity) * gurgle


def _tornado(rng: np.random.Generator, intensity: float) -> np.ndarray:
    """Howling wind; higher and faster modulated with intensity."""
    restless_hz = between(0.8, 4, intensity)
    wave = noise(rng, 30, between(150, 500, intensity), -3) * (0.5 + drift(rng, restless_hz))
    wave *= db(rng.uniform(-8, 0))
    for _ in range(rng.integers(1, 4)):
        centre_hz = about(rng, between(180, 900, intensity), 0.12)
        glide = np.exp2(between(0.4, 1.6, intensity) * (drift(rng, restless_hz) - np.float32(0.5)))
        carrier = np.exp(2j * np.pi * np.cumsum(centre_hz * glide) / SAMPLE_RATE_HZ).astype(np.complex64)
        width_hz = rng.uniform(8, 40)
        flutter = noise(rng, 0.5, width_hz) + 1j * noise(rng, 0.5, width_hz)
        wave += unit((carrier * flutter).real * (0.2 + drift(rng, restless_hz)))
    return wave + db(-26 + 14 * intensity + rng.uniform(-3, 3)) * noise(rng, 800, 7000, -3)


def _helicopter(rng: np.random.Generator, intensity: float) -> np.ndarray:
    """Rotor beats and engine noise; faster, deeper and brighter beats with intensity."""
    rate_hz = about(rng, between(7, 24, intensity), 0.12)
    turn = np.cumsum(rate_hz * (1 + rng.uniform(0, 0.04) * drift(rng, 0.6))) / SAMPLE_RATE_HZ + rng.random()
    sharpness = about(rng, between(0.7, 7, intensity), 0.2)
    beat = np.exp(-sharpness * (1 + np.cos(2 * np.pi * turn, dtype=np.float32)))
    beat *= 1 - rng.uniform(0, 0.4) * (np.floor(turn) % 2).astype(np.float32)
    beat /= beat.mean()
    depth = np.clip(about(rng, between(0.12, 0.9, intensity), 0.1), 0, 1)
    high_hz = about(rng, between(160, 3200, intensity), 0.1)
    throb = noise(rng, rng.uniform(20, 120), high_hz, rng.uniform(-3, 0))
    wave = unit(throb * (1 - depth + depth * beat))
    wave += db(rng.uniform(-10, 2)) * unit(beat * noise(rng, 30, 180))
    air = noise(rng, rng.uniform(60, 400), rng.uniform(2, 4) * high_hz, rng.uniform(-5, -2))
    wave += db(rng.uniform(-12, 0)) * air * (1 - 0.3 * depth + 0.3 * depth * beat)
    wave += db(rng.uniform(-16, 0)) * _engine(rng)
    if rng.random() < 0.4:  # reflection from the ground: a comb filter
        wave += np.float32(rng.uniform(0.3, 0.9)) * np.roll(wave, int(between(4, 80, rng.random())))
    return wave * np.exp(rng.uniform(0, 1.5) * drift(rng, rng.uniform(0.2, 1)))


def _engine(rng: np.random.Generator) -> np.ndarray:
    """Harmonics of the tail rotor and the turbine."""
    tail_hz, whine_hz = rng.uniform(50, 120), between(500, 5500, rng.random())
    pitches_hz = [tail_hz * order for order in range(1, rng.integers(3, 9))]
    pitches_hz += [whine_hz * order for order in range(1, rng.integers(1, 4)) if whine_hz * order < 7500]
    sizes = np.exp(0.7 * rng.standard_normal(len(pitches_hz))) * (tail_hz / np.array(pitches_hz)) ** rng.uniform(0, 0.7)
    sway = np.cumsum(1 + rng.uniform(0, 0.02) * drift(rng, 0.5).astype(np.float64)) / SAMPLE_RATE_HZ
    wave = np.zeros(NUM_SAMPLES, np.float32)
    for pitch_hz, size in zip(pitches_hz, sizes, strict=True):
        wave += np.float32(size) * np.sin(2 * np.pi * np.mod(pitch_hz * sway, 1).astype(np.float32))
    return unit(wave)


def _clock(rng: np.random.Generator, intensity: float) -> np.ndarray:
    """Ticks; faster and sharper with intensity."""
    period_s = about(rng, between(1.2, 0.16, intensity), 0.06)
    starts_s = np.arange(rng.uniform(0, period_s), DURATION_S, period_s)
    lag_s = rng.uniform(0, 0.25) * period_s * (rng.random() < 0.4)  # uneven intervals: tick-tock
    starts_s[1::2] += lag_s
    ticks = np.minimum((starts_s * SAMPLE_RATE_HZ).astype(int), NUM_SAMPLES - 1)
    wave = np.zeros(NUM_SAMPLES, np.float32)
    kinds = [_tick(rng, intensity), _tick(rng, intensity)] if rng.random() < 0.5 else [_tick(rng, intensity)]
    for index, moment in enumerate(ticks):
        tick = kinds[index % len(kinds)][: NUM_SAMPLES - moment]
        wave[moment : moment + len(tick)] += about(rng, 1.0, 0.12) * tick
    return wave


def _tick(rng: np.random.Generator, intensity: float) -> np.ndarray:
    """One or more clicks of the escapement with resonances of the case."""
    length = SAMPLE_RATE_HZ // 3
    time_s = TIME_S[:length]
    decay_s = between(0.015, 0.003, intensity) * about(rng, 1, 0.3)
    click = rng.standard_normal(length).astype(np.float32)
    cut_hz = min(about(rng, between(900, 5000, intensity), 0.25), 7500)
    filters = signal.butter(rng.integers(1, 4), cut_hz, rng.choice(["low", "high"]), fs=SAMPLE_RATE_HZ)
    click = signal.lfilter(*filters, click)
    tick = unit(click * np.exp(-time_s / decay_s))
    if rng.random() < 0.45:
        tick += db(rng.uniform(-16, -2)) * unit(click * np.exp(-time_s / between(0.015, 0.12, rng.random())))
    for _ in range(rng.integers(0, 6)):
        pitch_hz, ring_s = between(250, 7000, rng.random()), between(0.006, 0.08, rng.random())
        ring = np.sin(2 * np.pi * pitch_hz * time_s) * np.exp(-time_s / ring_s)
        tick += db(rng.uniform(-12, 3)) * unit(ring)
    tick[:8] *= np.linspace(0, 1, 8)
    for _ in range(rng.integers(0, 4)):
        gap = rng.integers(80, 1200)
        tick[gap:] += np.float32(rng.uniform(0.2, 0.9)) * tick[:-gap]
    return (tick * np.linspace(1, 0, length)).astype(np.float32)


_SYNTHESISERS: dict[str, Callable[[np.random.Generator, float], np.ndarray]] = {
    voice.__name__.removeprefix("_"): voice
    for voice in (_fire, _rain, _snow, _thunder, _waves, _fireworks, _waterfall, _tornado, _helicopter, _clock)
}
