"""The page about a comparison of methods: figures, plots, and a row per clip with the methods side by side."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from aai.report.contents import Sound, Thumb
from aai.report.page import render
from aai.report.plots import Plot


@dataclass(frozen=True)
class Shown:
    """A picture of a method with the prompt's metrics."""

    thumb: Thumb
    scores: Sequence[tuple[str, str]]
    """Names and values."""


@dataclass(frozen=True)
class MethodPictures:
    """The pictures of a clip by one method."""

    method: str
    pictures: Sequence[Shown]
    num_more: int


@dataclass(frozen=True)
class ClipRow:
    """A clip with the pictures of all methods."""

    clip_id: str
    label: str | None
    file: str
    own: Sequence[tuple[str, str]]
    """The clip's own degrees, by name."""
    sound: Sound
    prompts: Sequence[tuple[str, Sequence[MethodPictures]]]
    values: Mapping[str, Mapping[str, float]]
    """Mean of each metric, by method."""


@dataclass(frozen=True)
class FigureCell:
    """A figure of a method in a table."""

    value: str
    interval: str
    difference: str
    is_significant: bool
    is_best: bool


@dataclass(frozen=True)
class FigureRow:
    """A figure of all methods."""

    title: str
    help: str
    is_independent: bool
    cells: Sequence[FigureCell | None]


@dataclass(frozen=True)
class ComparisonPage:
    """Contents of the page."""

    name: str
    created_at: str
    reference: str
    methods: Sequence[tuple[str, str, str]]
    """Name, what it is, and seconds per clip."""
    tables: Sequence[tuple[str, Sequence[FigureRow]]]
    """By prompt."""
    plots: Sequence[Plot]
    rows: Sequence[ClipRow]
    num_clips: int
    metrics: Sequence[tuple[str, str]]
    """Name and label of those that rows can be sorted by."""
    notes: Sequence[str]

    @property
    def first_other(self) -> str:
        """The first method that is not the reference."""
        others = [name for name, _, _ in self.methods if name != self.reference]
        return others[0] if others else self.reference

    @property
    def labels(self) -> list[str]:
        """Labels of the clips."""
        return sorted({row.label for row in self.rows if row.label})


def comparison_page(contents: ComparisonPage) -> str:
    """The page as HTML."""
    return render("comparison.html", "comparison.js", page=contents)
