"""The page of a comparison: its contents, from figures, sounds and pictures."""

import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from aai.errors import BadItem, Transient
from aai.media import images
from aai.metrics import DEGREES, JUDGE_PHENOMENON, METRICS
from aai.report import Thumb, media
from aai.report.comparison import (
    ClipRow,
    ComparisonPage,
    FigureCell,
    FigureRow,
    MethodPictures,
    Shown,
    comparison_page,
)
from aai.report.plots import Plot, Series
from tasks.evaluate.cells import Cell, Location
from tasks.evaluate.figures import BIAS, RANK, SLOPE, Figure, matrix
from tasks.evaluate.output import Results, picture_bytes
from tasks.evaluate.prompts import Prompt, is_edit, name_of, text_of
from tasks.evaluate.tables import Line, difference_text, lines_of, numbers
from tasks.runtime.run import Run
from tasks.views.clip_cards import Files

_MAX_ROWS = 200
_MAX_PICTURES = 2
"""Pictures of a clip, method and prompt."""

Row = dict[str, Any]


def comparison_html(results: Results, run: Run, clips: pa.Table, cells: Sequence[Cell]) -> str:
    """The page as HTML.

    Raises:
        Transient: the store failed.
    """
    sample, options = results.sample, results.options
    used = [name for name in METRICS if any(name in row for row in sample.rows)]
    seconds = results.mean_seconds
    notes = [*results.notes]
    if clips.num_rows > _MAX_ROWS:
        notes.append(f"the page shows {_MAX_ROWS} of {clips.num_rows:,} clips; cells.parquet has all")
    with ThreadPoolExecutor() as threads:  # decoding and encoding release Python's interpreter lock
        gathered = _Gathered(results, run, cells)
        rows = list(threads.map(gathered.row, clips.to_pylist()[:_MAX_ROWS]))
    return comparison_page(
        ComparisonPage(
            name=Path(options.output).name,
            created_at=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
            reference=options.compared_with,
            methods=[
                (method.name, method.description, f"{seconds[method.name]:.3g}" if method.name in seconds else "")
                for method in options.methods
            ],
            tables=_tables(results),
            plots=plots_of(results),
            rows=rows,
            num_clips=clips.num_rows,
            metrics=[(name, METRICS[name].label) for name in used],
            notes=notes,
        )
    )


def plots_of(results: Results) -> list[Plot]:
    """Rank correlation, intensity heard against seen, and quality against seconds; those that can be drawn."""
    plots = [plot for name in DEGREES for plot in _degree_plots(results, name)]
    return [plot for plot in [*plots, _quality(results)] if plot]


def _tables(results: Results) -> list[tuple[str, list[FigureRow]]]:
    sample, methods = results.sample, list(results.sample.methods)
    several = len(sample.prompts) > 1
    prompts: list[str | None] = [None, *(sample.prompts if several else ())]
    return [
        (
            ("all prompts" if several else sample.prompts[0]) if prompt is None else prompt,
            [_figure_row(line) for line in lines_of(results.figures, methods, prompt)],
        )
        for prompt in prompts
    ]


def _figure_row(line: Line) -> FigureRow:
    known = [figure for figure in line.figures if figure and not math.isnan(figure.value)]
    best = min((_distance(figure) for figure in known), default=math.nan)
    return FigureRow(
        line.title, line.help, line.is_independent, [_figure_cell(figure, best) for figure in line.figures]
    )


def _distance(figure: Figure) -> float:
    """How far a figure is from the best value."""
    if figure.part in (RANK, SLOPE):
        return abs(1 - figure.value)
    if figure.part == BIAS:
        return abs(figure.value)
    return figure.value if METRICS[figure.metric].direction == "down" else -figure.value


def _figure_cell(figure: Figure | None, best: float) -> FigureCell | None:
    if figure is None or math.isnan(figure.value):
        return None
    value, low, high = numbers(figure.value, figure.low, figure.high)
    interval = f"{low} to {high}" if low else ""
    difference = "" if figure.difference is None or math.isnan(figure.difference) else difference_text(figure)
    return FigureCell(value, interval, difference, figure.is_significant, _distance(figure) == best)


def _degree_plots(results: Results, name: str) -> list[Plot | None]:
    """The rank correlations of a degree, and each clip's own degree against the judged one."""
    degree = str(METRICS[name].truth)
    own = {f.method: f for f in results.figures if (f.metric, f.part, f.prompt) == (name, RANK, None)}
    if not own:
        return []
    ranks = {
        method: Series([(float(index), f.value)], bars=[(float(index), f.low, f.high)])
        for index, (method, f) in enumerate(own.items(), start=1)
    }
    sample, values = results.sample, matrix(results.sample, name, None)
    assert values is not None, "it has figures"
    truth = sample.truths[degree]
    seen = {
        method: _seen(truth, values[:, index], results, name, method)
        for index, method in enumerate(sample.methods)
        if method in own
    }
    title = f"{degree.capitalize()} heard against seen, with lines of slope and bias"
    return [
        Plot.of(
            f"Rank correlation of {degree}, within labels, with 95 % intervals",
            "method",
            "Spearman",
            ranks,
            x_names=list(own),
        ),
        Plot.of(title, f"{degree} of the clip", f"judged {degree}", seen, square=(0.0, 1.0)),
    ]


def _seen(truth: np.ndarray, judged: np.ndarray, results: Results, name: str, method: str) -> Series:
    parts = {f.part: f.value for f in results.figures if (f.metric, f.method, f.prompt) == (name, method, None)}
    is_known = ~(np.isnan(truth) | np.isnan(judged))
    middle = float(truth[is_known].mean()) if is_known.any() else math.nan
    line = tuple((x, middle + parts[BIAS] + parts[SLOPE] * (x - middle)) for x in (0.0, 1.0))
    return Series(list(zip(truth.tolist(), judged.tolist(), strict=True)), line=(line[0], line[1]))


def _quality(results: Results) -> Plot | None:
    """The share of pictures in which the judge recognises the label, else CLIPScore, against the time of a cue."""
    for name in (JUDGE_PHENOMENON, "image_reward", "aic", "clip_score"):
        own = [f for f in results.figures if (f.metric, f.prompt) == (name, None)]
        if own:
            break
    else:
        return None
    seconds = results.mean_seconds
    series = {
        f.method: Series([(seconds[f.method], f.value)], bars=[(seconds[f.method], f.low, f.high)])
        for f in own
        if f.method in seconds
    }
    label = METRICS[name].label
    return Plot.of(f"Quality against time: {label}", "seconds for a clip's cue", label, series, log_x=True)


class _Gathered:
    """Makes the rows of the page."""

    def __init__(self, results: Results, run: Run, cells: Sequence[Cell]) -> None:
        self._results, self._run, self._files = results, run, Files(run)
        self._by_clip: dict[str, list[tuple[Cell, Row]]] = {}
        for cell, row in zip(cells, results.sample.rows, strict=True):
            self._by_clip.setdefault(cell.clip_id, []).append((cell, dict(row)))
        self._positions = {clip_id: index for index, clip_id in enumerate(results.sample.clip_ids)}

    def row(self, clip: Row) -> ClipRow:
        """A clip with its pictures."""
        sample, own = self._results.sample, self._by_clip.get(clip["clip_id"], [])
        degrees = [
            (name, f"{values[self._positions[clip['clip_id']]]:.2f}")
            for name, values in sample.truths.items()
            if not math.isnan(values[self._positions[clip["clip_id"]]])
        ]
        prompts = [
            (_title(prompt), self._sources(name_of(prompt), own) + self._by_method(clip, prompt, own))
            for prompt in self._results.options.prompts
        ]
        name = clip["uri"].rsplit("/", 1)[-1]
        values = {method: _means([row for cell, row in own if cell.method == method]) for method in sample.methods}
        return ClipRow(clip["clip_id"], clip["label"], name, degrees, self._files.sound(clip), prompts, values)

    def _by_method(self, clip: Row, prompt: Prompt, own: Sequence[tuple[Cell, Row]]) -> list[MethodPictures]:
        """The pictures of all methods; those that edit nothing are left out of edits."""
        methods = [each for each in self._results.options.methods if each.pictures == "rendered" or not is_edit(prompt)]
        return [self._pictures(clip, method.name, name_of(prompt), own) for method in methods]

    def _pictures(self, clip: Row, method: str, prompt: str, own: Sequence[tuple[Cell, Row]]) -> MethodPictures:
        mine = [(cell, row) for cell, row in own if (cell.method, cell.prompt) == (method, prompt) and cell.location]
        shown = [
            Shown(self._thumb(cell.location, cell.picture_id, f"{clip['label'] or 'clip'} by {method}"), _scores(row))
            for cell, row in mine[:_MAX_PICTURES]
        ]
        return MethodPictures(method, shown, max(0, len(mine) - _MAX_PICTURES))

    def _sources(self, prompt: str, own: Sequence[tuple[Cell, Row]]) -> list[MethodPictures]:
        """What the edits of a clip that are shown are made from; the methods are named where their sources differ."""
        edits = [cell for cell, _ in own if cell.prompt == prompt and cell.source and cell.location]
        methods: dict[str, list[str]] = {}
        for method in self._results.sample.methods:
            for cell in [each for each in edits if each.method == method][:_MAX_PICTURES]:
                methods.setdefault(cell.source.id if cell.source else "", []).append(method)
        sources = {cell.source.id: cell.source for cell in edits if cell.source}
        all_share = len(set(map(tuple, methods.values()))) <= 1
        shown = [
            Shown(
                self._thumb(sources[key].location, key, f"source: {sources[key].name}"),
                [("photo" if sources[key].is_photo else "prompt", sources[key].name)]
                + ([] if all_share else [("of", ", ".join(dict.fromkeys(names)))]),
            )
            for key, names in methods.items()
        ]
        return [MethodPictures("source", shown, 0)] if shown else []

    def _thumb(self, location: Location | None, name: str, alt: str) -> Thumb:
        try:
            data = picture_bytes(self._run, location or {})
            pixels = images.decode(data, name, images.RENDERED).pixels
        except (BadItem, Transient) as error:
            return Thumb(alt, problem=error.sentence)
        return Thumb(alt, media.data_uri("image/webp", media.thumbnail(pixels)))


def _title(prompt: Prompt) -> str:
    name, text = name_of(prompt), text_of(prompt)
    return name if name == text else f"{name}: {text}"


def _scores(row: Row) -> list[tuple[str, str]]:
    found = []
    for name, metric in METRICS.items():
        if (value := row.get(name)) is not None and not metric.of_set:
            text = ("right" if value >= 0.5 else "wrong") if metric.is_share else _short(value)
            found.append((metric.label, text))
    return found


def _short(value: float) -> str:
    return f"{value:.2f}" if abs(value) >= 0.1 or value == 0 else f"{value:.2g}"


def _means(rows: Sequence[Row]) -> dict[str, float]:
    """Mean of each metric of some pictures."""
    return {
        name: sum(own) / len(own)
        for name in METRICS
        if (own := [row[name] for row in rows if row.get(name) is not None and math.isfinite(row[name])])
    }
