"""Painters of the ten phenomena, which paint over the canvas, and their settings in noun scenes.

A painter takes intensities in [0, 1], scenes x 1 x 1; size, number and brightness all increase with it. Thunder, rain,
snow and fireworks change the light of the whole image; the others leave the pixels outside their mask unchanged.
"""

from collections.abc import Callable

import numpy as np

from aai.tiny.backgrounds import sky
from aai.tiny.canvas import (
    SIZE_PX,
    Canvas,
    Color,
    Draws,
    Field,
    Level,
    Number,
    X,
    Y,
    inside,
    noise,
    per_cell,
    ramp,
    soft_step,
)

_FLAMES = [(0.55, 0.06, 0.01), (0.85, 0.20, 0.02), (1, 0.48, 0.06), (1, 0.78, 0.18), (1, 0.95, 0.58), (1, 1, 0.9)]
_SPARKS = np.array(
    [[1, 0.35, 0.30], [1, 0.80, 0.25], [0.40, 0.95, 0.50], [0.45, 0.72, 1], [0.95, 0.50, 1], [1, 0.95, 0.85]],
    np.float32,
)


def fire(canvas: Canvas, draws: Draws, intensity: Level) -> None:
    """A blaze that rises from the ground; taller, wider and brighter."""
    center, width = draws.between("fire.x", 0.35, 0.65), 0.10 + 0.26 * intensity
    sway = 0.10 * (noise(draws, "fire.sway", X * 0.3, Y * 0.5) - 0.5)
    envelope = np.exp(-(((X + sway - center) / width) ** 2))
    tongues = noise(draws, "fire.tongues", (X + sway) * 1.1, Y * 0.1)
    height = (0.16 + 0.72 * intensity) * envelope * (0.55 + 0.65 * tongues) + 1e-3
    glow = envelope * soft_step(1.5, 0.3, (1 - Y) / (height + 0.12)) * soft_step(0.1, 0.5, envelope)
    canvas.over((0.95, 0.40, 0.10), glow * (0.30 + 0.25 * intensity))
    heat = 1.15 - (1 - Y) / height + 0.5 * (noise(draws, "fire.heat", (X + sway) * 0.8, Y * 0.45) - 0.5)
    heat = np.clip(heat, 0, 1.2) * soft_step(0.05, 0.2, envelope)
    canvas.over(ramp(heat, _FLAMES), soft_step(0.08, 0.35, heat))


def rain(canvas: Canvas, draws: Draws, intensity: Level) -> None:
    """An overcast veil and slanting streaks; darker, denser and longer."""
    veil = draws.tint("rain.veil", (0.34, 0.41, 0.50), 0.03)
    cloud = noise(draws, "rain.cloud", X * 0.35, Y * 0.8)
    canvas.over(veil, 0.30 + 0.35 * intensity + 0 * Y)
    canvas.over(veil * 0.6, soft_step(0.3, 0.7, cloud) * soft_step(0.42, 0.08, Y) * (0.5 + 0.4 * intensity))
    slant = draws.between("rain.slant", 0.05, 0.30)
    for name, columns, rows, strength in (("far", 20, 4.0, 0.55), ("near", 13, 2.6, 0.9)):
        across = (X + slant * Y) * columns + draws.between(f"rain.{name}.x", 0, 9)
        lane = np.floor(across).astype(int)
        fall = Y * rows + per_cell(draws.table(f"rain.{name}.start", 97) * 9, lane)
        drop = np.floor(fall).astype(int)
        wet = per_cell(draws.table(f"rain.{name}", 997), lane * 17 + drop) < 0.10 + 0.85 * intensity
        length = 0.22 + 0.26 * intensity
        streak = soft_step(0.36, 0.10, np.abs(across - lane - 0.5)) * soft_step(
            length, length * 0.6, np.abs(fall - drop - 0.5)
        )
        canvas.over((0.82, 0.89, 0.97), streak * wet * strength)


def snow(canvas: Canvas, draws: Draws, intensity: Level) -> None:
    """A white veil, flakes and a white ground; whiter, denser and deeper."""
    canvas.over(draws.tint("snow.veil", (0.76, 0.82, 0.90), 0.02), 0.16 + 0.28 * intensity + 0 * Y)
    drift = 0.04 * np.sin(X * draws.between("snow.drift", 4, 8) + draws.between("snow.drift.x", 0, 6.3))
    depth = 0.96 - 0.32 * intensity + drift
    light = 0.92 + 0.10 * noise(draws, "snow.ground", X * 0.4, Y * 0.6)
    canvas.over(np.array([0.95, 0.97, 1.0], np.float32) * light[..., None], inside(depth - Y) * 0.95)
    for name, cells, radius in (("far", 13, 0.26), ("middle", 9, 0.26), ("near", 6, 0.24)):
        flakes = _dots(draws, f"snow.{name}", cells, radius, 0.08 + 0.80 * intensity)
        canvas.over((1, 1, 1), flakes * 0.95)


def _dots(draws: Draws, purpose: str, cells: int, radius: Number, share: Number | Level) -> Field:
    """Soft dots on a jittered grid of `cells` a side, `radius` in cells, on the given share of the cells."""
    across = X * cells + draws.between(f"{purpose}.x", 0, 9)
    down = Y * cells + draws.between(f"{purpose}.y", 0, 9)
    col, row = np.floor(across).astype(int), np.floor(down).astype(int)
    cell = col * 37 + row
    at_x = 0.3 + 0.4 * per_cell(draws.table(f"{purpose}.jitter.x", 1009), cell)
    at_y = 0.3 + 0.4 * per_cell(draws.table(f"{purpose}.jitter.y", 1009), cell)
    size = radius * (0.75 + 0.5 * per_cell(draws.table(f"{purpose}.size", 1009), cell))
    is_present = per_cell(draws.table(purpose, 1009), cell) < share
    return soft_step(size * 1.3, size * 0.5, np.hypot(across - col - at_x, down - row - at_y)) * is_present


def thunder(canvas: Canvas, draws: Draws, intensity: Level) -> None:
    """A violet night with lightning; more bolts, thicker and brighter, and a lit sky."""
    canvas.over(draws.tint("thunder.veil", (0.17, 0.12, 0.30), 0.03), 0.74 - 0.20 * intensity + 0 * Y)
    cloud = noise(draws, "thunder.cloud", X * 0.35, Y * 0.8)
    lit = np.array([0.28, 0.24, 0.44], np.float32) + np.array([0.40, 0.34, 0.42], np.float32) * intensity[..., None]
    canvas.over(lit, soft_step(0.35, 0.75, cloud) * soft_step(0.45, 0.10, Y) * 0.9)
    for num in range(5):
        presence = np.clip(1 + 4.2 * intensity - num, 0, 1)
        distance = _bolt(draws, f"bolt.{num}")
        canvas.over((0.66, 0.52, 0.98), np.exp(-distance * (22 - 10 * intensity)) * presence * (0.35 + 0.5 * intensity))
        thick = 0.012 + 0.022 * intensity
        canvas.over((1, 0.98, 0.94), soft_step(thick * 1.5, thick * 0.5, distance) * presence)


def _bolt(draws: Draws, purpose: str) -> Field:
    """Horizontal distance from a jagged line that falls from the top; large below its end."""
    steps = np.repeat(draws.table(f"{purpose}.zigzag", 11) * 2 - 1, 6, axis=1)[:, :SIZE_PX] * 0.030
    drift = (draws.table(f"{purpose}.drift", 1) - 0.5) * 0.006
    path = draws.table(f"{purpose}.x", 1) * 0.8 + 0.1 + np.cumsum(steps + drift, axis=1)
    below = Y - draws.between(f"{purpose}.end", 0.65, 0.95)
    return np.abs(X - path[:, :, None]) + np.clip(below, 0, None) * 3


def waves(canvas: Canvas, draws: Draws, intensity: Level) -> None:
    """A sea before the scene; higher, steeper and whiter with foam."""
    level = 0.72 - 0.17 * intensity
    crest = 0.006 + 0.10 * intensity
    colors = [(0.16, 0.46, 0.64), (0.11, 0.42, 0.60), (0.07, 0.35, 0.54), (0.04, 0.27, 0.46)]
    for num, color in enumerate(colors):
        base = level + num * (1.0 - level) / 4
        phase = X * draws.between(f"wave.{num}.length", 7, 11) * (1.1 - 0.12 * num) + draws.between(
            f"wave.{num}", 0, 6.3
        )
        peak = 1 - np.abs(np.sin(phase * 0.5 + 0.4 * np.sin(phase * 0.5)))
        below = Y - (base - crest * (0.7 + 0.25 * num) * peak * 1.4)
        water = (
            draws.tint(f"wave.{num}", color, 0.02)
            + np.array([0.10, 0.22, 0.20], np.float32) * np.exp(-np.clip(below, 0, 1) * 16)[..., None]
        )
        canvas.over(water, inside(-below))
        foam = (
            soft_step(0.022 + 0.05 * intensity, 0, below)
            * inside(-below)
            * (0.30 + 0.65 * intensity * soft_step(0.15, 0.6, peak) + 0.15 * intensity)
        )
        canvas.over((0.96, 0.99, 1), foam)


def fireworks(canvas: Canvas, draws: Draws, intensity: Level) -> None:
    """Night, and bursts of coloured rays in the sky; more of them, larger and brighter."""
    canvas.over(draws.tint("night", (0.04, 0.04, 0.16), 0.02), 0.80 + 0 * X + 0 * Y)
    for num in range(6):
        presence = np.clip(1 + 5 * intensity - num, 0, 1)
        x, y = X - draws.between(f"burst.{num}.x", 0.15, 0.85), Y - draws.between(f"burst.{num}.y", 0.15, 0.50)
        radius = (0.10 + 0.14 * intensity) * draws.between(f"burst.{num}.size", 0.9, 1.2)
        far = np.hypot(x, y) / radius
        rays = np.floor(draws.between(f"burst.{num}.rays", 7, 10))
        ray = np.clip(np.cos(np.arctan2(y, x) * rays + draws.between(f"burst.{num}.turn", 0, 6.3)), 0, 1) ** 1.5
        color = _SPARKS[draws.choice(f"burst.{num}.color", len(_SPARKS))][:, None, None]
        canvas.over(
            color, ray * soft_step(1.05, 0.85, far) * soft_step(0.05, 0.2, far) * presence * (0.75 + 0.25 * intensity)
        )
        canvas.over((1, 1, 0.92), np.exp(-((far / 0.28) ** 2)) * presence)


def waterfall(canvas: Canvas, draws: Draws, intensity: Level) -> None:
    """A rock with water falling from it into a pool; wider, whiter and with more mist."""
    center, half = draws.between("fall.x", 0.38, 0.62), 0.035 + 0.185 * intensity
    top = draws.between("fall.top", 0.20, 0.30)
    away = np.abs(X - center)
    rock = noise(draws, "fall.rock", X * 0.7, Y * 0.35)
    edge = half + 0.09 + 0.05 * (noise(draws, "fall.edge", Y * 0.8, Y * 0.5) - 0.5)
    cliff = inside(away - edge) * inside(top + 0.03 * (rock - 0.5) - Y)
    canvas.over(ramp(0.1 + 0.8 * rock, [(0.20, 0.20, 0.19), (0.36, 0.34, 0.31), (0.50, 0.47, 0.41)]), cliff)
    pool = inside(((X - center) / (edge + 0.05)) ** 2 + ((Y - 0.90) / 0.07) ** 2 - 1)
    canvas.over(draws.tint("fall.pool", (0.14, 0.46, 0.58), 0.02), pool)
    strand = noise(draws, "fall.strands", X * 1.3, Y * 0.1)
    water = ramp(0.1 + 0.9 * strand, [(0.52, 0.74, 0.87), (0.80, 0.91, 0.97), (1, 1, 1)])
    canvas.over(water, inside(away - half * (1 + 0.15 * Y)) * inside(top - Y) * inside(Y - 0.91))
    mist = np.exp(-(((X - center) / (half * 1.2 + 0.05)) ** 2) - ((Y - 0.89) / (0.05 + 0.08 * intensity)) ** 2)
    canvas.over((0.97, 0.99, 1), np.where(mist > 0.1, mist, 0) * (0.45 + 0.5 * intensity))


def tornado(canvas: Canvas, draws: Draws, intensity: Level) -> None:
    """A funnel from a dark cloud to the ground; wider, with more dust."""
    half = 0.05 + 0.30 * intensity
    sway = 0.035 * np.sin(Y * 7 + draws.between("funnel.sway", 0, 6.3))
    center = draws.between("funnel.x", 0.36, 0.64) + draws.between("funnel.lean", -0.15, 0.15) * (Y - 0.5) + sway
    width = half * (0.10 + 0.90 * soft_step(1.05, 0, Y) ** 1.3) + 0.012
    offset = (X - center) / width
    texture = noise(draws, "funnel", offset * 0.14 + Y * 0.25, Y * 1.2 + offset * 0.12)
    cloud = np.exp(-((offset / 2.2) ** 2) - (Y / 0.13) ** 2)
    canvas.over((0.30, 0.31, 0.33), np.where(cloud > 0.15, cloud, 0))
    funnel = soft_step(1.1, 0.85, np.abs(offset) + 0.2 * (texture - 0.5)) * soft_step(0.95, 0.90, Y)
    greys = [(0.20, 0.20, 0.21), (0.42, 0.41, 0.40), (0.66, 0.63, 0.58), (0.80, 0.77, 0.70)]
    canvas.over(ramp(0.15 + 0.75 * texture - 0.15 * offset, greys), funnel)
    dust = np.exp(-(((X - center) / (0.06 + 0.22 * intensity)) ** 2) - ((Y - 0.91) / (0.035 + 0.06 * intensity)) ** 2)
    canvas.over(draws.tint("dust", (0.60, 0.50, 0.36), 0.03), np.where(dust > 0.12, dust, 0) * 0.9)


def helicopter(canvas: Canvas, draws: Draws, intensity: Level) -> None:
    """A helicopter in the sky; larger, as if nearer."""
    size = 0.10 + 0.26 * intensity
    side = np.sign(draws.between("heli.side", -1, 1))
    x = (X - draws.between("heli.x", 0.42, 0.58)) / size * side
    y = (Y - draws.between("heli.y", 0.30, 0.44)) / size
    paint = _SPARKS[draws.choice("heli.color", 4)][:, None, None] * 0.55 + np.array([0.12, 0.05, 0.05], np.float32)
    pixel = 1 / SIZE_PX / size
    dark = (0.10, 0.11, 0.14)
    boom = np.hypot(x + 0.9 - np.clip(x + 0.9, -0.55, 0.5), y - 0.02) - 0.09
    canvas.over(paint, soft_step(pixel, -pixel, boom))
    fin = np.maximum(np.abs(x + 1.42) - 0.09, np.abs(y + 0.12) - 0.26)
    canvas.over(paint * 0.8, soft_step(pixel, -pixel, fin))
    canvas.over(paint, soft_step(1 + 2.5 * pixel, 1 - 2.5 * pixel, np.hypot(x / 0.62, (y - 0.05) / 0.42)))
    glass = np.maximum(np.hypot((x - 0.18) / 0.40, (y - 0.0) / 0.30) - 1, 0.12 - x)
    canvas.over((0.72, 0.88, 0.97), soft_step(2.5 * pixel, -2.5 * pixel, glass))
    mast = np.maximum(np.abs(x) - 0.06, np.abs(y + 0.46) - 0.14)
    skid = np.hypot(x - np.clip(x, -0.5, 0.55), y - 0.66) - 0.055
    legs = np.maximum(np.abs(np.abs(x) - 0.28) - 0.05, np.abs(y - 0.54) - 0.12)
    canvas.over(dark, soft_step(pixel, -pixel, np.minimum(mast, np.minimum(skid, legs))))
    sweep = draws.between("heli.rotor", 0.75, 1.25)
    rotor = np.maximum(np.abs(x) - sweep, np.abs(y + 0.58) - np.maximum(0.06, 0.9 * pixel))
    canvas.over(dark, soft_step(pixel, -pixel, rotor) * 0.9)


def clock(canvas: Canvas, draws: Draws, intensity: Level) -> None:
    """A clock face; larger."""
    radius = 0.11 + 0.27 * intensity
    x, y = X - draws.between("clock.x", 0.42, 0.58), Y - draws.between("clock.y", 0.42, 0.56)
    far, pixel = np.hypot(x, y) / radius, 1 / SIZE_PX / radius
    rim = draws.tint("clock.rim", (0.62, 0.42, 0.16), 0.06)
    canvas.over(rim, soft_step(1 + pixel, 1 - pixel, far))
    canvas.over(draws.tint("clock.face", (0.97, 0.94, 0.84), 0.02), soft_step(0.82 + pixel, 0.82 - pixel, far))
    turn = np.arctan2(y, x)
    hour = np.abs(turn / (2 * np.pi) * 12 - np.round(turn / (2 * np.pi) * 12)) / 12 * 2 * np.pi * far
    marks = soft_step(0.045 + pixel, 0.045 - pixel, hour) * soft_step(0.09 + pixel, 0.09 - pixel, np.abs(far - 0.70))
    canvas.over((0.16, 0.12, 0.10), marks)
    for name, length, width in (("hour", 0.42, 0.075), ("minute", 0.64, 0.055)):
        angle = draws.between(f"clock.{name}", 0, 2 * np.pi)
        along = (x * np.cos(angle) + y * np.sin(angle)) / radius
        across = (y * np.cos(angle) - x * np.sin(angle)) / radius
        hand = np.hypot(along - np.clip(along, 0, length), across) - np.maximum(width, 0.7 * pixel)
        canvas.over((0.16, 0.12, 0.10), soft_step(pixel, -pixel, hand))


PHENOMENON_PAINTERS: dict[str, Callable[[Canvas, Draws, Level], None]] = {
    "fire": fire,
    "rain": rain,
    "snow": snow,
    "thunder": thunder,
    "waves": waves,
    "fireworks": fireworks,
    "waterfall": waterfall,
    "tornado": tornado,
    "helicopter": helicopter,
    "clock": clock,
}

_SETTINGS: dict[str, tuple[Color, Color]] = {
    "fire": ((0.06, 0.03, 0.06), (0.20, 0.08, 0.05)),
    "rain": ((0.40, 0.46, 0.54), (0.56, 0.62, 0.68)),
    "snow": ((0.46, 0.56, 0.72), (0.70, 0.78, 0.88)),
    "thunder": ((0.12, 0.09, 0.24), (0.30, 0.22, 0.46)),
    "fireworks": ((0.03, 0.03, 0.12), (0.14, 0.10, 0.28)),
    "waterfall": ((0.30, 0.48, 0.26), (0.16, 0.34, 0.16)),
    "tornado": ((0.56, 0.60, 0.58), (0.76, 0.76, 0.64)),
    "clock": ((0.44, 0.28, 0.26), (0.34, 0.20, 0.20)),
}
"""Top and bottom colours of the setting; the other phenomena have the sky."""

_GROUNDS = {"thunder": (0.05, 0.04, 0.09), "fireworks": (0.02, 0.02, 0.06), "tornado": (0.44, 0.42, 0.24)}


def setting(canvas: Canvas, draws: Draws, phenomenon: str) -> None:
    """Paint the setting of a phenomenon in a noun scene."""
    if phenomenon not in _SETTINGS:
        sky(canvas, draws)
        return
    top, bottom = (draws.tint(f"setting.{i}", color, 0.03) for i, color in enumerate(_SETTINGS[phenomenon]))
    light = 0.90 + 0.20 * noise(draws, "setting", X * 0.4, Y * 0.5)
    canvas.over((top + (bottom - top) * Y[..., None]) * light[..., None])
    if phenomenon in _GROUNDS:
        line = 0.88 + 0.06 * (noise(draws, "setting.ground", X * 0.5, 0 * Y) - 0.5)
        canvas.over(draws.tint("setting.ground", _GROUNDS[phenomenon], 0.02), inside(line - Y))
