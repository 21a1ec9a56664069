"""Painters of the five backgrounds."""

from collections.abc import Callable

import numpy as np

from aai.tiny.canvas import Canvas, Color, Draws, Number, X, Y, inside, noise, per_cell, ramp, soft_step

_SKIES = np.array(
    [
        [[0.30, 0.55, 0.92], [0.80, 0.90, 0.98]],
        [[0.24, 0.42, 0.78], [0.98, 0.80, 0.60]],
        [[0.44, 0.66, 0.94], [0.93, 0.95, 0.98]],
        [[0.36, 0.34, 0.62], [0.97, 0.68, 0.52]],
    ],
    np.float32,
)


def sky(canvas: Canvas, draws: Draws) -> None:
    """A gradient from one of four palettes, with soft clouds."""
    top, bottom = (_SKIES[draws.choice("sky", len(_SKIES))][:, i, None, None] for i in (0, 1))
    height = soft_step(0, 0.7, Y)[..., None]
    canvas.over(top + (bottom - top) * height)
    cloud = noise(draws, "sky.cloud", X * 0.3, Y * 0.7)
    canvas.over((1, 1, 1), soft_step(0.58, 0.85, cloud) * 0.7 * (1 - soft_step(0.35, 0.62, Y)))


def city(canvas: Canvas, draws: Draws) -> None:
    """Two rows of buildings, the front one with lit windows, and a road."""
    sky(canvas, draws)
    _buildings(canvas, draws, "far", (0.58, 0.64, 0.75), (0.42, 0.78))
    _buildings(canvas, draws, "near", (0.27, 0.31, 0.42), (0.22, 0.58))
    canvas.over((0.20, 0.20, 0.23), inside(0.91 - Y))


def _buildings(canvas: Canvas, draws: Draws, row: str, color: Color, heights: tuple[float, float]) -> None:
    across = X * (6 if row == "near" else 8) + draws.between(f"{row}.shift", 0, 4)
    cell = np.floor(across).astype(int)
    part = across - cell
    low, high = heights
    top = 1 - per_cell(low + (high - low) * draws.table(f"{row}.heights", 16), cell)
    shade = per_cell(0.8 + 0.4 * draws.table(f"{row}.shades", 16), cell)
    wall = inside(top - Y) * soft_step(0, 0.1, part) * soft_step(1, 0.9, part)
    canvas.over(draws.tint(f"{row}.color", color) * shade[..., None], wall)
    if row == "far":
        return
    column, line = part * 3, Y * 10
    window = _bump(column % 1, 0.5, 0.3) * _bump(line % 1, 0.5, 0.3) * (Y > top + 0.04)
    lit = per_cell(
        draws.table("windows", 997), cell * 31 + np.floor(column).astype(int) * 7 + np.floor(line).astype(int)
    )
    glow = ramp((lit > 0.4).astype(np.float32), [(0.40, 0.46, 0.58), (1, 0.86, 0.48)])
    canvas.over(glow, window * wall * 0.9)


def _bump(value: np.ndarray, middle: Number, width: Number) -> np.ndarray:
    """1 within 0.7 `width` of the middle, 0 beyond 1.5 `width`."""
    return soft_step(width * 1.5, width * 0.7, np.abs(value - middle))


def forest(canvas: Canvas, draws: Draws) -> None:
    """Three rows of pines, the front ones darker."""
    sky(canvas, draws)
    rows = [
        (0.70, 0.34, (0.46, 0.62, 0.54), 8.0),
        (0.84, 0.44, (0.22, 0.44, 0.29), 6.0),
        (1.0, 0.5, (0.08, 0.27, 0.15), 4.5),
    ]
    for num, (base, height, color, density) in enumerate(rows):
        for turn in (0.0, 0.5):
            across = X * density + draws.between(f"pines.{num}.{turn}", 0, 8) + turn
            cell = np.floor(across).astype(int)
            side = across - cell - 0.5
            tall = height * per_cell(0.65 + 0.4 * draws.table(f"pines.{num}.{turn}.heights", 16), cell)
            down = (Y - base + tall) / tall
            tier = np.clip(down, 0, 1) * 4 % 1
            width = np.clip(down, 0, 1) * (0.28 + 0.14 * tier)
            tree = soft_step(0.06, -0.06, np.abs(side) - width) * (down > 0)
            light = 0.85 + 0.25 * soft_step(-0.3, 0.3, -side)
            canvas.over(draws.tint(f"pines.{num}", color, 0.02) * light[..., None], tree)
        canvas.over(draws.tint(f"pines.{num}", color, 0.02) * 0.92, inside(base - 0.03 - Y))


def field(canvas: Canvas, draws: Draws) -> None:
    """Green furrows running to a low horizon, with a hill and a few round trees on it."""
    sky(canvas, draws)
    horizon = draws.between("field.horizon", 0.52, 0.6)
    hill = horizon - 0.05 * soft_step(0.4, 0.9, noise(draws, "field.hill", X * 0.25, 0 * Y))
    canvas.over(draws.tint("field.hill", (0.42, 0.62, 0.42)), inside(hill - Y))
    for num in range(3):
        center, size = (
            draws.between(f"field.tree.{num}", 0.05, 0.95),
            draws.between(f"field.tree.{num}.size", 0.04, 0.07),
        )
        crown = np.hypot(X - center, Y - horizon + size * 0.7) - size
        canvas.over(draws.tint(f"field.tree.{num}", (0.20, 0.42, 0.20)), inside(crown))
    depth = np.clip((Y - horizon) / (1 - horizon), 1e-3, 1)
    furrow = np.sin((X - draws.between("field.middle", 0.3, 0.7)) / (depth + 0.16) * 13)
    light = 0.95 + 0.12 * furrow * soft_step(0.02, 0.3, depth)
    near, far = draws.tint("field.near", (0.30, 0.60, 0.16)), draws.tint("field.far", (0.66, 0.80, 0.32))
    canvas.over((far + (near - far) * depth[..., None]) * light[..., None], inside(horizon - Y))


def mountains(canvas: Canvas, draws: Draws) -> None:
    """Two mountain ranges with snowy peaks, behind a dark green ridge."""
    sky(canvas, draws)
    ranges = [(0.52, 0.36, (0.62, 0.69, 0.83), 0.14), (0.68, 0.42, (0.38, 0.46, 0.63), 0.15)]
    for num, (base, height, color, snow) in enumerate(ranges):
        across = X * draws.between(f"peaks.{num}.density", 1.5, 2.3) + draws.between(f"peaks.{num}", 0, 4)
        cell = np.floor(across).astype(int)
        side = across - cell - 0.5
        peak = per_cell(0.65 + 0.4 * draws.table(f"peaks.{num}.heights", 8), cell)
        crag = noise(draws, f"peaks.{num}.crag", X * 0.5, Y * 0.3) - 0.5
        below = Y - (base - height * peak * (1 - 2 * np.abs(side)) + 0.07 * crag)
        light = 0.84 + 0.3 * soft_step(0.15, -0.15, side + 0.3 * crag)
        rock = draws.tint(f"peaks.{num}", color, 0.03)
        canvas.over(rock * light[..., None], inside(-below))
        depth = snow * peak + 0.10 * (noise(draws, f"peaks.{num}.snow", X * 0.9, Y * 0.2) - 0.5) - 0.2 * np.abs(side)
        white = np.array([0.97, 0.98, 1.0], np.float32) * np.clip(light, 0.84, 1)[..., None]
        canvas.over(white, inside(-below) * inside(below - depth))
    ridge = 0.80 + 0.10 * (noise(draws, "ridge", X * 0.4, 0 * Y) - 0.5)
    canvas.over(draws.tint("ridge", (0.20, 0.36, 0.30)), inside(ridge - Y))


def desert(canvas: Canvas, draws: Draws) -> None:
    """A sun over three dunes, and a cactus."""
    sky(canvas, draws)
    canvas.over((0.99, 0.85, 0.62), 0.55 * soft_step(0, 0.6, Y))
    sun = np.hypot(X - draws.between("sun.x", 0.15, 0.85), Y - draws.between("sun.y", 0.12, 0.28))
    canvas.over((1, 0.97, 0.80), np.maximum(inside(sun - 0.08), 0.5 * np.exp(-sun * 9)))
    dunes = [(0.52, (0.92, 0.70, 0.44)), (0.66, (0.94, 0.62, 0.32)), (0.84, (0.82, 0.48, 0.22))]
    for num, (base, color) in enumerate(dunes):
        phase = X * draws.between(f"dune.{num}.width", 3, 6) + draws.between(f"dune.{num}", 0, 6.3)
        below = Y - base - 0.06 * np.sin(phase)
        light = 0.84 + 0.26 * soft_step(-0.7, 0.7, np.cos(phase + below * 6))
        canvas.over(draws.tint(f"dune.{num}", color, 0.03) * light[..., None], inside(-below))
        if num == 1:
            _cactus(canvas, draws)


def _cactus(canvas: Canvas, draws: Draws) -> None:
    center, foot = draws.between("cactus.x", 0.12, 0.88), draws.between("cactus.y", 0.80, 0.86)
    trunk = _capsule(X - center, Y - foot, -0.26, 0.0, 0.028)
    for side, height in ((-1, -0.11), (1, -0.15)):
        arm = _capsule(X - center - side * 0.07, Y - foot, height - 0.07, height + 0.02, 0.02)
        joint = _capsule(Y - foot - height - 0.02, side * (X - center), 0.0, 0.07, 0.018)
        trunk = np.minimum(trunk, np.minimum(arm, joint))
    canvas.over(draws.tint("cactus", (0.20, 0.44, 0.24)), inside(trunk))


def _capsule(across: np.ndarray, along: np.ndarray, start: Number, stop: Number, radius: Number) -> np.ndarray:
    """Signed distance from a capsule along the second axis."""
    return np.hypot(across, along - np.clip(along, start, stop)) - radius


BACKGROUND_PAINTERS: dict[str, Callable[[Canvas, Draws], None]] = {
    "city": city,
    "forest": forest,
    "field": field,
    "mountains": mountains,
    "desert": desert,
}
"""Functions that paint a background on a blank canvas, by name."""
