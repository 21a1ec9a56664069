"""Line charts as SVG, for pages."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

WIDTH, HEIGHT = 560, 200
_LEFT, _RIGHT, _TOP, _BOTTOM = 48.0, 12.0, 10.0, 24.0

Points = Sequence[tuple[float, float]]


@dataclass(frozen=True)
class Line:
    """A named line as the points of a polyline."""

    name: str
    points: str
    number: int
    """Of its colour."""


@dataclass(frozen=True)
class Chart:
    """Lines over a common axis."""

    title: str
    x_name: str
    lines: Sequence[Line]
    x_ticks: Sequence[tuple[float, str]]
    """Positions and labels."""
    y_ticks: Sequence[tuple[float, str]]

    @classmethod
    def of(cls, title: str, lines: Mapping[str, Points], x_name: str) -> "Chart | None":
        """A chart of some lines; none without points."""
        points = [point for own in lines.values() for point in own]
        if not points:
            return None
        xs, ys = ([point[axis] for point in points] for axis in (0, 1))
        x_of, y_of = _scale(xs, _LEFT, WIDTH - _RIGHT), _scale(ys, HEIGHT - _BOTTOM, _TOP)
        drawn = [
            Line(name, " ".join(f"{x_of(x):.1f},{y_of(y):.1f}" for x, y in own), number)
            for number, (name, own) in enumerate(lines.items())
        ]
        return cls(
            title,
            x_name,
            drawn,
            [(x_of(x), f"{x:,.4g}") for x in sorted({min(xs), max(xs)})],
            [(y_of(y), f"{y:.3g}") for y in sorted({min(ys), max(ys)})],
        )


def _scale(values: Sequence[float], start: float, end: float) -> Callable[[float], float]:
    low, high = min(values), max(values)
    return lambda value: start + (end - start) * ((value - low) / (high - low) if high > low else 0.5)
