"""Scatter plots with intervals and lines as SVG, for pages."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

WIDTH, HEIGHT = 420, 300
_LEFT, _RIGHT, _TOP, _BOTTOM = 52.0, 14.0, 12.0, 40.0
_BOTTOM_OF_NAMES = 84.0
_MARGIN = 0.06
_MAX_TICKS = 8
_MAX_NAME = 14
_MAX_LONG, _LONG = 4, 5
"""Letters of a name at an axis."""

Point = tuple[float, float]
Ticks = Sequence[tuple[float, str]]


@dataclass(frozen=True)
class Series:
    """Points of one name, in the units of the axes; undefined ones are left out."""

    points: Sequence[Point]
    line: tuple[Point, Point] | None = None
    """A line from one point to another."""
    bars: Sequence[tuple[float, float, float]] = ()
    """Vertical intervals: x, low and high."""


@dataclass(frozen=True)
class Drawn:
    """A series in pixels."""

    name: str
    number: int
    points: Sequence[Point]
    line: tuple[Point, Point] | None
    bars: Sequence[tuple[float, float, float]]


@dataclass(frozen=True)
class Plot:
    """Series over common axes."""

    title: str
    x_name: str
    y_name: str
    series: Sequence[Drawn]
    x_ticks: Ticks
    y_ticks: Ticks
    diagonal: tuple[Point, Point] | None = None
    """Where both are equal."""
    has_names: bool = False
    """Whether names stand at the lower axis, and not numbers."""
    bottom: float = _BOTTOM
    width: int = field(default=WIDTH)
    height: int = field(default=HEIGHT)

    @classmethod
    def of(  # noqa: PLR0913
        cls,
        title: str,
        x_name: str,
        y_name: str,
        series: Mapping[str, Series],
        log_x: bool = False,
        square: tuple[float, float] | None = None,
        x_names: Sequence[str] = (),
    ) -> "Plot | None":
        """A plot of some series; none without points.

        `square`: both axes have this range, and a diagonal. `x_names`: what stands at 1, 2 and so on of the lower axis.
        """
        points = [point for own in series.values() for point in own.points if all(map(math.isfinite, point))]
        if not points:
            return None
        ys = [y for _, y in points] + [end for own in series.values() for bar in own.bars for end in bar[1:]]
        x_of = _scale([x for x, _ in points], _LEFT, WIDTH - _RIGHT, log_x, square)
        bottom = _BOTTOM_OF_NAMES if x_names else _BOTTOM
        y_of = _scale([y for y in ys if math.isfinite(y)], HEIGHT - bottom, _TOP, False, square)
        drawn = [_drawn(name, number, own, x_of, y_of, square) for number, (name, own) in enumerate(series.items())]
        diagonal = ((x_of(square[0]), y_of(square[0])), (x_of(square[1]), y_of(square[1]))) if square else None
        xs = sorted({x for x, _ in points})
        are_counts = not square and len(xs) <= _MAX_TICKS and all(x == int(x) for x in xs)
        x_ticks = _apart([(x_of(x), f"{x:.3g}") for x in (xs if are_counts else _ticks(xs, log_x, square))])
        y_ticks = [(y_of(y), f"{y:.3g}") for y in _ticks([y for y in ys if math.isfinite(y)], False, square)]
        if x_names:
            x_ticks = [(x_of(float(number)), _shortened(name)) for number, name in enumerate(x_names, start=1)]
        return cls(title, x_name, y_name, drawn, x_ticks, y_ticks, diagonal, bool(x_names), bottom)


def _apart(ticks: Ticks) -> Ticks:
    """Every second tick of many whose labels are long, so that they do not overlap."""
    is_crowded = len(ticks) > _MAX_LONG and max(len(label) for _, label in ticks) > _LONG
    return ticks[::2] if is_crowded else ticks


def _shortened(name: str) -> str:
    return name if len(name) <= _MAX_NAME else f"{name[: _MAX_NAME - 1]}…"


def _drawn(  # noqa: PLR0913
    name: str,
    number: int,
    own: Series,
    x_of: Callable[[float], float],
    y_of: Callable[[float], float],
    square: tuple[float, float] | None,
) -> Drawn:
    def place(point: Point) -> Point:
        return round(x_of(point[0]), 1), round(y_of(point[1]), 1)

    points = [place(point) for point in own.points if all(map(math.isfinite, point))]
    bars = [
        (round(x_of(x), 1), round(y_of(low), 1), round(y_of(high), 1))
        for x, low, high in own.bars
        if all(map(math.isfinite, (x, low, high)))
    ]
    line = None
    if own.line and all(math.isfinite(value) for point in own.line for value in point):
        start, end = _within(own.line, *square) if square else own.line
        line = place(start), place(end)
    return Drawn(name, number, points, line, bars)


def _within(line: tuple[Point, Point], low: float, high: float) -> tuple[Point, Point]:
    """The part of a line whose heights are in a range; the whole line if it has none."""
    (x0, y0), (x1, y1) = line
    if y0 == y1 or max(y0, y1) < low or min(y0, y1) > high:
        return line
    shares = sorted((bound - y0) / (y1 - y0) for bound in (low, high))
    start, end = max(0.0, shares[0]), min(1.0, shares[1])
    return (x0 + start * (x1 - x0), y0 + start * (y1 - y0)), (x0 + end * (x1 - x0), y0 + end * (y1 - y0))


def _scale(
    values: Sequence[float], start: float, end: float, is_log: bool, fixed: tuple[float, float] | None
) -> Callable[[float], float]:
    """From the units of an axis to pixels."""
    floor = min((value for value in values if value > 0), default=1.0)

    def unit(value: float) -> float:
        return math.log10(max(value, floor / 10)) if is_log else value

    low, high = fixed or (min(map(unit, values)), max(map(unit, values)))
    margin = 0.0 if fixed else _MARGIN * ((high - low) or 1.0)
    low, high = low - margin, high + margin
    return lambda value: start + (end - start) * (unit(value) - low) / (high - low)


def _ticks(values: Sequence[float], is_log: bool, fixed: tuple[float, float] | None) -> list[float]:
    """A few round numbers on an axis."""
    low, high = fixed or (min(values), max(values))
    if is_log:
        positive = [value for value in values if value > 0] or [1.0]
        first, last = math.floor(math.log10(min(positive))), math.ceil(math.log10(max(positive)))
        zero = [0.0] if min(values) <= 0 else []
        return zero + [10.0**power for power in range(first, last + 1) if min(positive) <= 10.0**power <= max(positive)]
    if high <= low:
        return [low]
    step = 10.0 ** math.floor(math.log10(high - low))
    step = next(step * factor for factor in (0.2, 0.5, 1, 2) if (high - low) / (step * factor) <= _MAX_TICKS)
    first = math.ceil(low / step - 1e-9)
    return [round(number * step, 10) for number in range(first, math.floor(high / step + 1e-9) + 1)]
