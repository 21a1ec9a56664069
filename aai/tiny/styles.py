"""Stylisation: a phenomenon's palette and texture, applied to the luminance of a scene."""

from collections.abc import Callable

import numpy as np

from aai.tiny.canvas import Canvas, Color, Draws, Field, Level, X, Y, noise, ramp, soft_step

_PALETTES: dict[str, list[Color]] = {
    "fire": [(0.10, 0.01, 0.02), (0.58, 0.07, 0.02), (0.98, 0.46, 0.06), (1, 0.93, 0.55)],
    "rain": [(0.08, 0.12, 0.20), (0.24, 0.34, 0.46), (0.46, 0.58, 0.70), (0.76, 0.85, 0.93)],
    "snow": [(0.46, 0.56, 0.72), (0.70, 0.79, 0.90), (0.91, 0.95, 0.99), (1, 1, 1)],
    "thunder": [(0.03, 0.01, 0.12), (0.24, 0.10, 0.48), (0.62, 0.46, 0.96), (1, 0.98, 0.9)],
    "waves": [(0.01, 0.08, 0.26), (0.03, 0.34, 0.52), (0.20, 0.68, 0.74), (0.90, 1, 0.97)],
    "fireworks": [(0.03, 0.02, 0.12), (0.62, 0.05, 0.46), (0.16, 0.62, 0.95), (1, 0.90, 0.35)],
    "waterfall": [(0.03, 0.18, 0.12), (0.12, 0.46, 0.34), (0.50, 0.82, 0.70), (0.98, 1, 0.98)],
    "tornado": [(0.16, 0.13, 0.10), (0.42, 0.36, 0.26), (0.68, 0.60, 0.46), (0.90, 0.84, 0.70)],
    "helicopter": [(0.08, 0.10, 0.05), (0.26, 0.31, 0.14), (0.47, 0.52, 0.28), (0.74, 0.77, 0.55)],
    "clock": [(0.22, 0.08, 0.05), (0.62, 0.28, 0.14), (0.92, 0.66, 0.42), (1, 0.92, 0.80)],
}


def _rings(draws: Draws, purpose: str) -> Field:
    """Distance from a point near the middle."""
    return np.hypot(X - draws.between(f"{purpose}.x", 0.35, 0.65), Y - draws.between(f"{purpose}.y", 0.35, 0.65))


def _flicker(draws: Draws) -> Field:
    return noise(draws, "style", X * 0.9 + 0.05 * np.sin(Y * 9), Y * 0.5)


def _slant(draws: Draws) -> Field:
    return 0.5 + 0.5 * np.sin((X + 0.25 * Y) * 60 + 3 * noise(draws, "style", X * 0.2, Y * 0.4))


def _frost(draws: Draws) -> Field:
    return 0.3 + noise(draws, "style", X * 0.9, Y * 0.9)


def _crackle(draws: Draws) -> Field:
    vein = np.abs(noise(draws, "style", X * 0.5, Y * 0.5) - 0.5)
    return 0.35 + 0.9 * soft_step(0.07, 0.01, vein)


def _swell(draws: Draws) -> Field:
    return 0.5 + 0.5 * np.sin(Y * 38 + 3 * np.sin(X * 7 + draws.between("style", 0, 6.3)))


def _sparkle(draws: Draws) -> Field:
    return 1.2 * noise(draws, "style", X * 0.9, Y * 0.9) - 0.1


def _strands(draws: Draws) -> Field:
    return noise(draws, "style", X * 1.4, Y * 0.1)


def _swirl(draws: Draws) -> Field:
    far = _rings(draws, "style")
    turn = np.arctan2(Y - 0.5, X - 0.5)
    return 0.5 + 0.5 * np.sin(turn * 3 + far * 26)


def _blades(draws: Draws) -> Field:
    turn = np.arctan2(Y - draws.between("style.y", 0.35, 0.65), X - draws.between("style.x", 0.35, 0.65))
    return 0.5 + 0.5 * np.cos(turn * 6 + draws.between("style", 0, 6.3))


def _dials(draws: Draws) -> Field:
    return 0.5 + 0.5 * np.cos(_rings(draws, "style") * 48)


_TEXTURES: dict[str, Callable[[Draws], Field]] = {
    "fire": _flicker,
    "rain": _slant,
    "snow": _frost,
    "thunder": _crackle,
    "waves": _swell,
    "fireworks": _sparkle,
    "waterfall": _strands,
    "tornado": _swirl,
    "helicopter": _blades,
    "clock": _dials,
}


def stylise(canvas: Canvas, draws: Draws, phenomenon: str, intensity: Level) -> None:
    """Repaint a scene with a phenomenon's palette and texture, stronger with intensity; the layout is kept."""
    luminance = np.clip((canvas.pixels.mean(-1) - 0.12) * 1.25, 0, 1)
    texture = _TEXTURES[phenomenon](draws) - 0.5
    strength = 0.12 + 0.32 * intensity
    repainted = ramp(np.clip(luminance + texture * strength, 0, 1), _PALETTES[phenomenon])
    canvas.over(repainted, 0.40 + 0.56 * intensity + 0 * X + 0 * Y)
