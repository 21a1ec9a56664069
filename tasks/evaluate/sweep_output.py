"""The folder that a sweep writes: sweep.json, sweep.md, index.html and recommended.yaml."""

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from aai.errors import BadConfig
from aai.evaluate.curves import Point
from aai.evaluate.intervals import Interval
from aai.metrics import METRICS
from aai.report.plots import Plot, Series
from aai.report.sweep import SweepPage, SweepPart, SweepRow, sweep_page
from aai.workspace.store import write_whole
from tasks.evaluate.figures import MEAN, PARTS
from tasks.evaluate.folder import alone_in
from tasks.evaluate.recommended import RECOMMENDED, recommended_text
from tasks.evaluate.sweep import SETTINGS, Setting, Sweep, SweptCurve
from tasks.evaluate.tables import numbers

JSON, MARKDOWN, PAGE = "sweep.json", "sweep.md", "index.html"
OURS = {JSON: b'"curves"', MARKDOWN: b"# Sweep on ", PAGE: b"<title>AAI sweep", RECOMMENDED: b"# The smallest values"}
"""What the files of a sweep have in them."""


def write_sweep(folder: Path, sweep: Sweep) -> None:
    """Write the folder.

    Raises:
        BadConfig: it cannot be written to.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with alone_in(folder):
            write_whole(folder / MARKDOWN, markdown(sweep).encode())
            write_whole(folder / PAGE, _html(folder.name, sweep).encode())
            write_whole(folder / RECOMMENDED, recommended_text(sweep).encode())
            write_whole(folder / JSON, (json.dumps(sweep.as_json(), indent=1) + "\n").encode())
    except OSError as error:
        raise BadConfig(f"it cannot be written to ({error.strerror})", key="output", uri=str(folder)) from error


def markdown(sweep: Sweep) -> str:
    """A table for each setting."""
    parts = [f"# Sweep on {sweep.num_clips:,} clips", ""]
    for setting in sweep.enough:
        part = _part(sweep, setting)
        titles = [title if independent else f"{title} †" for title, _, independent in part.qualities]
        parts += [f"## {setting}: {part.enough} is enough", "", part.what, ""]
        parts += [f"| {setting} | " + " | ".join(titles) + " | seconds per clip |", "|---" * (len(titles) + 2) + "|"]
        for row in part.rows:
            cells = [
                (f"{value} ({interval})" if interval else value) + (f"; {gap}" if gap else "") + " *" * below
                for value, interval, gap, below in row.cells
            ]
            parts.append(f"| {row.value} | " + " | ".join([*cells, row.seconds]) + " |")
        parts += ["", *(f"- {gain}" for gain in part.gains), *([""] if part.gains else [])]
    parts += ["In parentheses 95 % intervals over clips; then how far it is below the best value, paired by clip."]
    parts += ["*: that interval lies above 0. †: not independent, the candidates were chosen by the same model."]
    parts += ["", *(f"- {note}" for note in sweep.notes)]
    return "\n".join(parts).rstrip() + "\n"


def _html(name: str, sweep: Sweep) -> str:
    created_at = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    parts = [_part(sweep, setting) for setting in sweep.enough]
    return sweep_page(SweepPage(name, created_at, sweep.num_clips, parts, sweep.notes))


def _part(sweep: Sweep, setting: Setting) -> SweepPart:
    own = [curve for curve in sweep.curves if curve.setting == setting]
    seconds = sweep.seconds.get(setting, {})
    values = sorted({point.value for each in own for point in each.curve.points})
    rows = [SweepRow(str(at), [_cell(each, at) for each in own], _seconds(seconds.get(at))) for at in values]
    qualities = [(each.title, _help(each), each.is_independent) for each in own]
    return SweepPart(
        setting,
        SETTINGS[setting],
        str(sweep.enough[setting]),
        qualities,
        rows,
        gains_of(sweep, setting),
        _plots(setting, own, seconds),
    )


def gains_of(sweep: Sweep, setting: Setting) -> list[str]:
    """A sentence for each quality on what a doubling of the candidates changes."""
    own = [curve for curve in sweep.curves if curve.setting == setting] if setting == "candidates" else []
    return [_gain(each, each.curve.per_doubling) for each in own if each.curve.per_doubling]


def _gain(own: SweptCurve, change: Interval) -> str:
    values = (f"{value:+.4f}" for value in (change.value, change.low, change.high))
    value, low, high = ("undefined" if text == "+nan" else text for text in values)
    chosen = "" if own.is_independent else " (not independent: this model chose)"
    return f"{own.title}, per doubling: {value} ({low} to {high}){chosen}"


def _help(own: SweptCurve) -> str:
    return METRICS[own.metric].help if own.part == MEAN else PARTS[own.part]


def _cell(own: SweptCurve, value: int) -> tuple[str, str, str, bool]:
    point = next((point for point in own.curve.points if point.value == value), None)
    if point is None:
        return "–", "", "", False
    shown, low, high = numbers(point.quality.value, point.quality.low, point.quality.high)
    return shown, f"{low} to {high}" if low else "", _gap(own, point), point.is_below


def _gap(own: SweptCurve, point: Point) -> str:
    if point.value == own.curve.best:
        return "best"
    value, low, high = numbers(point.gap.value, point.gap.low, point.gap.high)
    return f"{value} below" + (f" ({low} to {high})" if low else "")


def _seconds(value: float | None) -> str:
    return "" if value is None else f"{value:.3g}"


def _plots(setting: Setting, own: Sequence[SweptCurve], seconds: dict[int, float]) -> list[Plot]:
    """Each quality against the setting, and against the seconds where these differ."""
    plots = []
    for each in own:
        points = each.curve.points
        places: list[tuple[str, dict[int, float]]] = [(setting, {point.value: float(point.value) for point in points})]
        if len(set(seconds.values())) > 1:
            places.append(("seconds per clip", seconds))
        for x_name, x_of in places:
            known = [point for point in points if point.value in x_of]
            bars = [(x_of[point.value], point.quality.low, point.quality.high) for point in known]
            dots = [(x_of[point.value], point.quality.value) for point in known]
            plots.append(
                Plot.of(f"{each.title} against {x_name}", x_name, each.title, {each.title: Series(dots, bars=bars)})
            )
    return [plot for plot in plots if plot]
