"""What stands on the page, in the order of the page. Texts are as they were found: the page escapes them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Thumb:
    """A small picture, or the reason why there is none."""

    alt: str
    src: str | None = None
    problem: str | None = None


@dataclass(frozen=True)
class Sound:
    """A clip to be heard and seen, or the reason why it cannot."""

    src: str | None = None
    spectrogram: str | None = None
    top_hz: int = 0
    """The highest pitch in the spectrogram."""
    shown_s: float = 0
    """How much of the clip there is: of a long one the beginning."""
    problem: str | None = None


@dataclass(frozen=True)
class Neighbour:
    """An image that was retrieved for a clip."""

    thumb: Thumb
    similarity: float


@dataclass(frozen=True)
class Curve:
    """A loss curve as the points of a polyline, in a box of `curve.WIDTH` by `curve.HEIGHT`."""

    points: str
    last_x: float
    last_y: float
    num_looks: int


@dataclass(frozen=True)
class Cue:
    """How a clip's cue was made."""

    method: str
    steps: int
    stop_reason: str | None
    loss_before: float | None
    loss_after: float | None
    curve: Curve | None

    @property
    def gain(self) -> float | None:
        """The share of its loss that the fit took away; none where there was no fit."""
        if not self.loss_before or self.loss_after is None:
            return None
        return 1 - self.loss_after / self.loss_before


@dataclass(frozen=True)
class Picture:
    """A rendered picture and its scores, by metric."""

    thumb: Thumb
    seed: int
    scores: Mapping[str, float]


@dataclass(frozen=True)
class Shown:
    """Pictures of a clip that one job made under one prompt."""

    generation: str
    job: str
    prompt: str
    pictures: Sequence[Picture]
    num_more: int
    """Those that are not on the page."""


@dataclass(frozen=True)
class Card:
    """A clip and all that became of it."""

    clip_id: str
    label: str | None
    caption: str | None
    licence: str | None
    uri: str
    start_s: float
    duration_s: float
    level_dbfs: float
    intensity: float | None
    """The true one, where the metadata says it."""
    sound: Sound
    neighbours: Sequence[Neighbour]
    num_more_neighbours: int
    cue: Cue | None
    shown: Sequence[Shown]
    scores: Mapping[str, Mapping[str, float]]
    """Per generation, and under an empty name for all, the mean of each metric."""

    @property
    def file(self) -> str:
        """The last part of its file's address."""
        return self.uri.rsplit("/", 1)[-1]

    @property
    def methods(self) -> list[str]:
        """The generations of its pictures; without pictures the method of its cue."""
        named = [each.generation for each in self.shown] or ([self.cue.method] if self.cue else [])
        return list(dict.fromkeys(named))


@dataclass(frozen=True)
class ScoreLine:
    """What the scores of a method's pictures come to, of one job or of all."""

    generation: str
    is_current: bool
    job: str | None
    num: int
    means: Mapping[str, float]
    intensity: float | None
    """Spearman's correlation of clips' and judged intensity, within labels and jobs."""


@dataclass(frozen=True)
class StageTime:
    """What the runs of a stage took."""

    stage: str
    num_runs: int
    new: int
    rejected: int
    took_s: float
    share: float
    """Of the time of all stages."""
    last_rate: float
    """Items per second in the last run."""
    last_started: str
    stopped: bool
    """Whether the last run was told to stop before all was done."""


@dataclass(frozen=True)
class RejectKind:
    """Rejects of a stage for the same reason."""

    stage: str
    reason: str
    num: int
    examples: Sequence[tuple[str, str]]
    """Of some: what was rejected, and the sentence."""


@dataclass(frozen=True)
class Made:
    """A table or artifact under the configuration of today."""

    name: str
    stage: str
    recipe: str
    num: int | None
    """Its rows; none for an artifact."""
    num_earlier: int
    """Rows under other recipes."""
    options: str
    models: Sequence[tuple[str, str]]


@dataclass(frozen=True)
class Report:
    """The page."""

    workspace: str
    made_at: str
    totals: Sequence[tuple[str, int, str]]
    """Name, number, and a word on it."""
    num_clips: int
    cards: Sequence[Card]
    lines: Sequence[ScoreLine]
    rejects: Sequence[RejectKind]
    stages: Sequence[StageTime]
    made: Sequence[Made]
    versions: Sequence[tuple[str, str]]
    profile: str
    names: Mapping[str, str] = field(default_factory=dict)
    """Short names of metrics."""
    meanings: Mapping[str, str] = field(default_factory=dict)
    """What metrics say."""
    yes_or_no: Sequence[str] = ()
    """The metrics that are 1 or 0 of a picture: whether something is right."""

    @property
    def metrics(self) -> list[str]:
        """Every metric that a line has, known ones first."""
        found = {name for line in self.lines for name in line.means}
        return [*(name for name in self.meanings if name in found), *sorted(found - self.meanings.keys())]

    @property
    def labels(self) -> list[str]:
        """The labels of the clips on the page."""
        return sorted({card.label for card in self.cards if card.label})

    @property
    def methods(self) -> list[str]:
        """The methods of the clips on the page."""
        return list(dict.fromkeys(method for card in self.cards for method in card.methods))
