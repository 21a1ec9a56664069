"""The sounds, texts and models of the comparison; both environments import this module."""

import numpy as np

RATE_HZ = 48_000
DURATIONS_S = (10.0, 0.4, 1.7, 3.0, 5.0, 5.01, 6.0, 9.99)
NUM = 24
TEXTS = ("fire", "the sound of rain", "a dog barks", "waves at night", "this is a sound of a helicopter")
MODELS = {
    "tiny": ("HTSAT-tiny", False),
    "tiny-fused": ("HTSAT-tiny", True),
    "base": ("HTSAT-base", False),
    "base-fused": ("HTSAT-base", True),
}
"""Audio encoder, and whether it has feature fusion; `base` is the architecture of the music and speech checkpoints."""


def sound(number: int, rate_hz: int = RATE_HZ) -> np.ndarray:
    """Gated chirps and noise, from quiet to loud, of at most 10 s: longer ones are cropped at random by the package.

    Their values are those that the package's rounding to 16 bits leaves as they are.
    """
    rng = np.random.default_rng(number)
    time_s = np.arange(round(DURATIONS_S[number % len(DURATIONS_S)] * rate_hz)) / rate_hz
    tone = np.sin(2 * np.pi * (100 * 1.2**number + 300 * time_s) * time_s) * (np.sin((2 + number) * time_s) > 0)
    noise = rng.standard_normal(len(time_s)) * rng.random()
    level = 10 ** -(number % 4 / 2)
    levels = np.rint(32_767 * 0.3 * level * (tone + noise) / max(1, np.abs(tone + noise).max()))
    wave = (levels / 32_767).astype(np.float32)
    return np.where((wave * np.float32(32_767)).astype(np.int16) == levels, wave, np.nextafter(wave, 2 * wave))


def file_rate_hz(number: int) -> int:
    """Some files need another rate; not those of 5 and 10 s, which librosa makes one sample too long."""
    return 44_100 if DURATIONS_S[number % len(DURATIONS_S)] in (1.7, 3.0, 6.0) else RATE_HZ
