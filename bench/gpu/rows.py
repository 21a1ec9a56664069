"""The rows of the table, what was measured for them, and how that is written as JSON and as Markdown."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median


@dataclass(frozen=True)
class Row:
    """A row of the table: what is measured, and how much is wanted of one H100 or H200 with 16 cores."""

    name: str
    part: str
    what: str
    goal: float | None
    unit: str
    is_time: bool = False
    """Whether less is better."""


ROWS = (
    Row("placed", "placement", "workers on two nodes of 4 GPUs and 64 CPUs", 8, "workers"),
    Row("embed_images", "embed", "embed images, JPEG 512 x 512 in a tar, end to end", 1_500, "images/s"),
    Row("embed_audio", "embed", "embed audio, WAV of 10 s at 48 kHz, end to end", 1_000, "clips/s"),
    Row("fit", "fit", "fit, SD 1.5, 64 clips of 4 rows", 160, "rows/s"),
    Row("fit_16gb", "fit", "the same with 16 GB of GPU memory", None, "rows/s"),
    Row("render", "render", "render, SD 1.5, 512 x 512, 20 steps, guidance 7.5, into shards", 10, "pictures/s"),
    Row("render_interval", "render", "the same with guidance in an interval", 12.5, "pictures/s"),
    Row("edit_photos", "render", "edits of photos of 512 x 512, 20 steps", 6, "pictures/s"),
    Row("sdxl", "sdxl", "render, SDXL, 1024 x 1024, 20 steps", 1.5, "pictures/s"),
    Row("search", "search", "exact top 10 of 1,000,000 x 768 on the GPU", 20_000, "queries/s"),
    Row("next_stage", "next", "the next stage on the same model, until its first result", 2, "s", is_time=True),
)


@dataclass
class Measured:
    """What was measured for a row."""

    row: str
    values: list[float] = field(default_factory=list)
    """One for each repetition, in the unit of the row."""
    num_items: int = 0
    """Items of a repetition."""
    peer: float | None = None
    """The same by the libraries alone, as a good user writes it."""
    peer_is: str = ""
    alone: float | None = None
    """The model without everything around it: the most that can be reached."""
    alone_is: str = ""
    busy: float | None = None
    """Share of the time in which the GPU had work, in percent, as the driver library of NVIDIA counts it."""
    peak_gib: float | None = None
    notes: list[str] = field(default_factory=list)
    error: str = ""
    """Why there is no value."""

    @property
    def value(self) -> float | None:
        """The median."""
        return median(self.values) if self.values else None


def complete(measured: Iterable[Measured], parts: Sequence[str], errors: Mapping[str, str]) -> list[Measured]:
    """The last measurement of every row of the chosen parts; where there is none, one with the error of its part."""
    found = {each.row: each for each in measured}
    return [
        found.get(row.name) or Measured(row.name, error=errors.get(row.part) or "the part ended without it")
        for row in ROWS
        if row.part in parts
    ]


def write(path: Path, machine: Mapping[str, object], measured: Sequence[Measured]) -> None:
    """Write `path` as JSON, and the table beside it as Markdown."""
    rows = {row.name: row for row in ROWS}
    listed = [asdict(rows[each.row]) | {"value": each.value} | asdict(each) for each in measured]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"machine": machine, "rows": listed}, indent=1) + "\n")
    path.with_suffix(".md").write_text(markdown(machine, measured))


def markdown(machine: Mapping[str, object], measured: Sequence[Measured]) -> str:
    """The table for docs/PERFORMANCE.md."""
    facts = ", ".join(f"{name} {value}" for name, value in machine.items())
    lines = [
        f"`make bench-gpu`: {facts}.",
        "",
        "| what | goal | measured | of | repetitions | library alone | model alone | GPU busy | peak memory |",
        "|---|---|---|---|---|---|---|---|---|",
        *map(_line, measured),
    ]
    notes = [f"- {_row(each).what}: {note}." for each in measured for note in each.notes]
    return "\n".join([*lines, "", *notes]) + "\n"


def _line(each: Measured) -> str:
    row = _row(each)
    cells = [
        row.what,
        "" if row.goal is None else f"{row.goal:,g} {row.unit}",
        _result(each, row),
        f"{each.num_items:,}" if each.values else "",
        " / ".join(map(_number, each.values)),
        _beside(each.peer, each.peer_is),
        _beside(each.alone, each.alone_is),
        "" if each.busy is None else f"{each.busy:.0f} %",
        "" if each.peak_gib is None else f"{each.peak_gib:.1f} GiB",
    ]
    return f"| {' | '.join(cells)} |"


def _result(each: Measured, row: Row) -> str:
    if each.value is None:
        return f"not measured: {each.error}".replace("|", "/")
    is_missed = row.goal is not None and (each.value > row.goal if row.is_time else each.value < row.goal)
    return f"{_number(each.value)} {row.unit}{', **missed**' if is_missed else ''}"


def _beside(value: float | None, name: str) -> str:
    return "" if value is None else f"{_number(value)} ({name})"


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _row(each: Measured) -> Row:
    return next(row for row in ROWS if row.name == each.row)
