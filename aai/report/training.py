"""The pages about an aligner: its training, and its evaluation."""

from collections.abc import Sequence
from dataclasses import dataclass

from aai.align.evaluation import Abstention, Figure
from aai.report.charts import HEIGHT, WIDTH, Chart
from aai.report.contents import Sound, Thumb
from aai.report.page import render


@dataclass(frozen=True)
class TrainingPage:
    """Contents of the page about a training."""

    name: str
    charts: Sequence[Chart]
    facts: Sequence[tuple[str, str]]
    options: Sequence[tuple[str, str]]
    notes: Sequence[str]


@dataclass(frozen=True)
class Retrieved:
    """An image that a clip retrieved."""

    thumb: Thumb
    similarity: float
    is_own: bool
    """Whether it is the clip's own image."""
    is_right: bool
    """Whether it has the clip's label."""


@dataclass(frozen=True)
class QueryCard:
    """A clip and what it retrieves."""

    label: str | None
    file: str
    sound: Sound
    own: Thumb | None
    retrieved: Sequence[Retrieved]
    rank: int | None
    """Images that are more similar than its own."""


@dataclass(frozen=True)
class EvaluationPage:
    """Contents of the page about an evaluation."""

    name: str
    created_at: str
    num_clips: int
    num_images: int
    figures: Sequence[Figure]
    abstention: Sequence[Abstention]
    correct: str
    chart: Chart | None
    cards: Sequence[QueryCard]
    notes: Sequence[str]
    other: str = ""
    """The other aligner that the figures are compared with."""


def training_page(contents: TrainingPage) -> str:
    """The page about a training as HTML."""
    return render("training.html", page=contents, chart_width=WIDTH, chart_height=HEIGHT)


def evaluation_page(contents: EvaluationPage) -> str:
    """The page about an evaluation as HTML."""
    return render("evaluation.html", page=contents, chart_width=WIDTH, chart_height=HEIGHT)
