"""Contents of the report page, in page order. Texts are not escaped here; the page escapes them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from aai.metrics import METRICS, Agreement, Metric


@dataclass(frozen=True)
class Thumb:
    """A thumbnail, or the reason why it is missing."""

    alt: str
    src: str | None = None
    problem: str | None = None


@dataclass(frozen=True)
class Sound:
    """A clip's audio and spectrogram, or the reason why they are missing."""

    src: str | None = None
    spectrogram: str | None = None
    top_hz: int = 0
    """Highest frequency of the spectrogram."""
    excerpt_s: float = 0
    """Duration of the excerpt, which is the beginning of a long clip."""
    problem: str | None = None


@dataclass(frozen=True)
class Neighbour:
    """An image retrieved for a clip."""

    thumb: Thumb
    similarity: float


@dataclass(frozen=True)
class Curve:
    """A loss curve as the points of an SVG polyline, in a box of `media.CURVE_WIDTH` by `media.CURVE_HEIGHT`."""

    points: str
    last_x: float
    last_y: float
    num_points: int


@dataclass(frozen=True)
class Cue:
    """How a clip's cue was predicted and refined."""

    method: str
    steps: int
    stop_reason: str | None
    loss_before: float | None
    loss_after: float | None
    curve: Curve | None

    @property
    def gain(self) -> float | None:
        """Relative decrease of the loss by refinement; None without refinement."""
        if not self.loss_before or self.loss_after is None:
            return None
        return 1 - self.loss_after / self.loss_before


@dataclass(frozen=True)
class Picture:
    """A rendered image and its scores, by metric."""

    thumb: Thumb
    seed: int
    scores: Mapping[str, float]
    candidate: tuple[int, int] | None = None
    """Which candidate it is, counted from 1, and their number; None for a single candidate."""
    photo: Thumb | None = None
    """The photo that was edited or stylised; None without one."""


@dataclass(frozen=True)
class JobPictures:
    """A clip's rendered images of one job and prompt."""

    generation: str
    job: str
    prompt: str
    pictures: Sequence[Picture]
    num_more: int
    """Images left out of the page."""


@dataclass(frozen=True)
class Card:
    """A clip with everything derived from it."""

    clip_id: str
    label: str | None
    caption: str | None
    licence: str | None
    uri: str
    start_s: float
    duration_s: float
    level_dbfs: float
    intensity: float | None
    """True intensity, if the metadata has it."""
    sound: Sound
    neighbours: Sequence[Neighbour]
    num_more_neighbours: int
    cue: Cue | None
    jobs: Sequence[JobPictures]
    scores: Mapping[str, Mapping[str, float]]
    """Mean of each metric per generation, and over all generations under the empty name."""
    confidence: float | None = None
    """How sure the encoders are of it, 0 to 1; None if that was not measured."""
    is_unsure: bool = False
    """Whether the confidence is low."""

    @property
    def file(self) -> str:
        """File name, without the folder."""
        return self.uri.rsplit("/", 1)[-1]

    @property
    def methods(self) -> list[str]:
        """Generations of its images; without images the method of its cue."""
        named = [job.generation for job in self.jobs] or ([self.cue.method] if self.cue else [])
        return list(dict.fromkeys(named))


@dataclass(frozen=True)
class ScoreLine:
    """Aggregated scores of a method, for one job or for all jobs."""

    generation: str
    is_current: bool
    job: str | None
    num: int
    means: Mapping[str, float]
    intensity: Agreement
    """Of the true and the judged intensity, within labels and jobs."""

    tone: Agreement = Agreement()
    """The same of the tone."""


@dataclass(frozen=True)
class StageTime:
    """Run times of a stage."""

    stage: str
    num_runs: int
    new: int
    rejected: int
    took_s: float
    share: float
    """Fraction of the time of all stages."""
    last_rate: float
    """Items per second in the last run."""
    last_started: str
    stopped: bool
    """Whether the last run was stopped early."""


@dataclass(frozen=True)
class RejectKind:
    """Rejects of a stage with the same reason."""

    stage: str
    reason: str
    num: int
    examples: Sequence[tuple[str, str]]
    """File or id, and error sentence, of some of them."""


@dataclass(frozen=True)
class Origin:
    """Provenance of a table or artifact under the current configuration."""

    name: str
    stage: str
    recipe: str
    num: int | None
    """Number of rows; None for an artifact."""
    num_earlier: int
    """Number of rows under other recipes."""
    options: str
    models: Sequence[tuple[str, str]]


@dataclass(frozen=True)
class Report:
    """All contents of the page."""

    workspace: str
    created_at: str
    totals: Sequence[tuple[str, int, str]]
    """Name, number and remark."""
    num_clips: int
    cards: Sequence[Card]
    lines: Sequence[ScoreLine]
    rejects: Sequence[RejectKind]
    stages: Sequence[StageTime]
    origins: Sequence[Origin]
    versions: Sequence[tuple[str, str]]
    profile: str
    dependent: frozenset[str] = frozenset()
    """Metrics by the encoder that retrieved the images, which agrees with itself."""

    @property
    def metrics(self) -> list[Metric]:
        """All metrics with a score, registered ones first."""
        names = {name for line in self.lines for name in line.means}
        unknown = [Metric(name, name, "no description") for name in sorted(names - METRICS.keys())]
        return [*(metric for name, metric in METRICS.items() if name in names), *unknown]

    @property
    def labels(self) -> list[str]:
        """Labels of the clips on the page."""
        return sorted({card.label for card in self.cards if card.label})

    @property
    def methods(self) -> list[str]:
        """Methods of the clips on the page."""
        return list(dict.fromkeys(method for card in self.cards for method in card.methods))
