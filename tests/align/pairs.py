"""Pairs whose images are a rotation of their sounds, with some noise."""

from pathlib import Path

import numpy as np

from aai.align.pair_vectors import HELD_OUT, TRAIN, VALIDATION, PairVectors, PairWriter

AUDIO_DIM, IMAGE_DIM = 12, 16


def unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def make_vectors(num: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Sounds and their images."""
    rng = np.random.default_rng(seed)
    audio = unit(rng.normal(size=(num, AUDIO_DIM)))
    turned = audio @ np.random.default_rng(99).normal(size=(AUDIO_DIM, IMAGE_DIM))
    return audio, unit(turned + 0.2 * rng.normal(size=turned.shape))


def write_pairs(folder: Path, num: int, has_text: bool = False) -> PairVectors:
    """Pairs of which every tenth is held out and every fifth a validation pair; every seventh has no text."""
    audio, image = make_vectors(num)
    dims = {"audio": AUDIO_DIM, "image": IMAGE_DIM} | ({"text": IMAGE_DIM} if has_text else {})
    writer = PairWriter(folder, num, dims)
    writer.arrays["audio"][:], writer.arrays["image"][:] = audio, image
    if has_text:
        writer.arrays["text"][:] = image * (np.arange(num) % 7 > 0)[:, None]
    numbers = np.arange(num)
    parts = np.select([numbers % 10 == 0, numbers % 5 == 1], [HELD_OUT, VALIDATION], TRAIN)
    return writer.finish(np.stack([numbers, numbers, numbers % 3, parts], axis=1), "digest")
