"""The page about a sweep: quality against each setting, with intervals, and which value is enough."""

from collections.abc import Sequence
from dataclasses import dataclass

from aai.report.page import render
from aai.report.plots import Plot


@dataclass(frozen=True)
class SweepRow:
    """A value of a setting."""

    value: str
    cells: Sequence[tuple[str, str, str, bool]]
    """Of each quality: the figure, its interval, the gap to the best with its interval, and whether it is below it."""
    seconds: str


@dataclass(frozen=True)
class SweepPart:
    """A setting that was varied."""

    name: str
    what: str
    enough: str
    qualities: Sequence[tuple[str, str, bool]]
    """Title, explanation, and whether it is independent."""
    rows: Sequence[SweepRow]
    gains: Sequence[str]
    """What a doubling of the setting changes, where that is of interest."""
    plots: Sequence[Plot]


@dataclass(frozen=True)
class SweepPage:
    """Contents of the page."""

    name: str
    created_at: str
    num_clips: int
    parts: Sequence[SweepPart]
    notes: Sequence[str]


def sweep_page(contents: SweepPage) -> str:
    """The page as HTML."""
    return render("sweep.html", page=contents)
