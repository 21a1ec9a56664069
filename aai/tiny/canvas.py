"""Drawing primitives: addressable random numbers, smooth noise, soft edges, and a canvas with a coverage mask."""

import zlib
from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float

SIZE_PX = 64

Field = Float[np.ndarray, "scenes height width"]
Level = Float[np.ndarray, "scenes 1 1"]
Number = float | int
Color = tuple[Number, Number, Number]

_MIX = (np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB))
_STEP = np.uint64(0x9E3779B97F4A7C15)
_MIN_ALPHA = 0.02
"""Smaller opacities are treated as 0, so that the coverage mask is exact."""

_axis = (np.arange(SIZE_PX, dtype=np.float32) + 0.5) / SIZE_PX
X, Y = _axis[None, None, :], _axis[None, :, None]
"""Pixel centres in [0, 1], x to the right and y down; they broadcast to scenes x height x width."""


def _hash(values: np.ndarray) -> np.ndarray:
    """splitmix64's finaliser (Steele et al. 2014): every input bit moves every output bit."""
    values = (values ^ (values >> np.uint64(30))) * _MIX[0]
    values = (values ^ (values >> np.uint64(27))) * _MIX[1]
    return values ^ (values >> np.uint64(31))


class Draws:
    """Random numbers of a batch of scenes, addressed by scene seed, purpose and index.

    They depend neither on the other scenes of the batch nor on the order of the calls.
    """

    def __init__(self, seeds: Sequence[int]) -> None:
        self.keys = _hash(np.asarray(seeds, np.uint64) + _STEP)

    def __len__(self) -> int:
        return len(self.keys)

    def table(self, purpose: str, num: int) -> Float[np.ndarray, "scenes num"]:
        """`num` numbers in [0, 1) for each scene."""
        key = _hash(np.asarray([zlib.crc32(purpose.encode())], np.uint64) * _STEP)
        bits = _hash((self.keys ^ key)[:, None] + np.arange(1, num + 1, dtype=np.uint64) * _STEP)
        return (bits >> np.uint64(40)).astype(np.float32) / np.float32(1 << 24)

    def between(self, purpose: str, low: Number, high: Number) -> Float[np.ndarray, "scenes 1 1"]:
        """One number in [low, high) for each scene."""
        return (low + (high - low) * self.table(purpose, 1))[:, :, None]

    def choice(self, purpose: str, num: int) -> np.ndarray:
        """One integer below `num` for each scene."""
        return (self.table(purpose, 1)[:, 0] * num).astype(int)

    def tint(self, purpose: str, color: Color, spread: Number = 0.04) -> Float[np.ndarray, "scenes 1 1 3"]:
        """A random colour near `color` for each scene."""
        jitter = (self.table(purpose, 3) * 2 - 1) * spread
        return np.clip(np.array(color, np.float32) + jitter, 0, 1)[:, None, None, :]


def soft_step(start: Number | np.ndarray, stop: Number | np.ndarray, value: np.ndarray) -> np.ndarray:
    """0 before `start`, 1 after `stop`, smooth between; `start` may lie above `stop`."""
    t = np.clip((value - start) / (stop - start), 0, 1)
    return t * t * (3 - 2 * t)


def inside(distance: np.ndarray) -> np.ndarray:
    """1 where a signed distance is negative, 0 where positive, with an edge about a pixel wide."""
    return soft_step(0.8 / SIZE_PX, -0.8 / SIZE_PX, distance)


def ramp(values: np.ndarray, colors: Sequence[Color]) -> np.ndarray:
    """Interpolate colours of a palette, `values` in [0, 1]."""
    table = np.asarray(colors, np.float32)
    position = np.clip(values, 0, 1) * (len(table) - 1)
    low = np.minimum(position.astype(int), len(table) - 2)
    fraction = (position - low)[..., None].astype(np.float32)
    return table[low] * (1 - fraction) + table[low + 1] * fraction


def _noise_tiles(num: int = 24, size: int = 128) -> Float[np.ndarray, "tiles size size"]:
    """Smooth periodic noise in [0, 1], with a low-passed power-law spectrum."""
    rng = np.random.default_rng(0)
    frequency = np.fft.fftfreq(size)
    radius = np.hypot(frequency[:, None], frequency[None])
    radius[0, 0] = 1
    spectrum = np.fft.fft2(rng.standard_normal((num, size, size))) * radius**-1.6 * np.exp(-((radius * 2.6) ** 2))
    waves = np.fft.ifft2(spectrum).real
    waves = (waves - waves.mean((1, 2), keepdims=True)) / waves.std((1, 2), keepdims=True)
    return (1 / (1 + np.exp(-1.7 * waves))).astype(np.float32)


_TILES = _noise_tiles()


def noise(draws: Draws, purpose: str, x: np.ndarray, y: np.ndarray) -> Field:
    """Smooth noise in [0, 1] at coordinates in periods, with a random tile and shift for each scene and purpose."""
    size = _TILES.shape[1]
    random = draws.table(purpose, 3)
    tile = (random[:, 0] * len(_TILES)).astype(int)[:, None, None]
    shape = (len(draws), SIZE_PX, SIZE_PX)
    col = (np.broadcast_to(x, shape) + random[:, 1, None, None]) * size
    row = (np.broadcast_to(y, shape) + random[:, 2, None, None]) * size
    left, top = np.floor(col).astype(np.int32), np.floor(row).astype(np.int32)
    across, down = (col - left).astype(np.float32), (row - top).astype(np.float32)
    left, top = left % size, top % size
    right, below = (left + 1) % size, (top + 1) % size
    upper = _TILES[tile, top, left] * (1 - across) + _TILES[tile, top, right] * across
    lower = _TILES[tile, below, left] * (1 - across) + _TILES[tile, below, right] * across
    return upper * (1 - down) + lower * down


def per_cell(table: Float[np.ndarray, "scenes cells"], cell: np.ndarray) -> Field:
    """Look up each pixel's cell; cell indices wrap around."""
    return table[np.arange(len(table))[:, None, None], cell % table.shape[1]]


_RED, _BLUE = (1.35, 0.72, 0.55), (0.55, 0.85, 1.45)
"""Factors of red, green and blue in the light of the extreme tones."""


class Canvas:
    """A batch of images in [0, 1], and a mask of the pixels painted since the last `reset`."""

    def __init__(self, num: int) -> None:
        self.pixels = np.zeros((num, SIZE_PX, SIZE_PX, 3), np.float32)
        self.cover: Bool[np.ndarray, "scenes height width"] = np.zeros((num, SIZE_PX, SIZE_PX), bool)
        self._light: np.ndarray | None = None

    def over(self, color: np.ndarray | Color, alpha: np.ndarray | Number = 1) -> None:
        """Alpha-blend a colour, with opacities in [0, 1]; those below 0.02 are treated as 0."""
        alpha = np.broadcast_to(np.asarray(alpha, np.float32), self.cover.shape)
        alpha = np.where(alpha < _MIN_ALPHA, 0, np.clip(alpha, 0, 1)).astype(np.float32)
        self.cover |= alpha > 0
        color = np.asarray(color, np.float32)
        if self._light is not None:
            color = color * self._light
        self.pixels += (np.clip(color, 0, 1) - self.pixels) * alpha[..., None]

    def lit(self, tone: Level) -> None:
        """Paint from now on in the light of a tone in [0, 1]: 0 is red, 0.5 white, 1 blue."""
        side = (2 * np.asarray(tone, np.float32) - 1)[..., None]
        gains = np.where(side < 0, np.array(_RED, np.float32), np.array(_BLUE, np.float32))
        self._light = gains ** np.abs(side)

    def reset(self) -> None:
        """Clear the coverage mask."""
        self.cover[:] = False
