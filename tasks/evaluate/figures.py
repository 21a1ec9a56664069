"""The figures of a comparison: each metric of each method, with intervals, and its difference from the reference."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from aai.evaluate.intervals import Draws, Interval, jackknife
from aai.evaluate.sets import SetDistance, compared
from aai.metrics import DEGREES, METRICS, Metric

SECONDS = "seconds"
"""Column with the time that a clip's cue took."""

MEAN, RANK, BIAS, SLOPE = "mean", "rank", "bias", "slope"
PARTS = {
    RANK: "Spearman's rank correlation with the clips' own, within labels; 1 is best",
    BIAS: "mean of judged minus the clips' own; 0 is best",
    SLOPE: "slope of judged on the clips' own, within labels; 1 is best",
}
"""What is said of a degree."""


@dataclass(frozen=True)
class Figure:
    """A metric of a method, for one prompt or for all."""

    metric: str
    part: str
    """`mean`; of a degree `rank`, `bias` and `slope`."""
    prompt: str | None
    """None for all prompts together."""
    method: str
    value: float
    low: float
    high: float
    num: int
    """Clips."""
    difference: float | None = None
    """From the reference method, paired by clip; none for the reference itself."""
    difference_low: float | None = None
    difference_high: float | None = None
    is_independent: bool = True

    @property
    def is_significant(self) -> bool:
        """Whether the difference's interval excludes zero."""
        low, high = self.difference_low, self.difference_high
        return low is not None and high is not None and (low > 0 or high < 0)

    def as_json(self) -> dict[str, Any]:
        """Plain data, without NaN."""
        return dict(plain_data(asdict(self)))


@dataclass(frozen=True)
class Sample:
    """What figures are computed from: rows of cells by metric, and vectors for distances of sets."""

    clip_ids: Sequence[str]
    labels: Sequence[str | None]
    truths: Mapping[str, np.ndarray]
    """The clips' own degrees, by the column of their metadata; NaN where unknown."""
    methods: Sequence[str]
    reference: str
    prompts: Sequence[str]
    rows: Sequence[Mapping[str, Any]]
    """A row per cell: clip_id, method, prompt, and metrics."""
    vectors: Mapping[tuple[str, str], tuple[np.ndarray, np.ndarray]]
    """By method and prompt: embeddings of the pictures in the space of the index, and the numbers of their clips."""
    images: np.ndarray
    """Embeddings of images of the collection."""
    dependent: frozenset[str]
    """Metrics whose model also retrieved."""


def figures_of(sample: Sample, seed: int = 0) -> list[Figure]:
    """All figures, in the order of the metrics."""
    draws = Draws(sample.labels, seed=seed)
    parts: list[str | None] = [None, *(sample.prompts if len(sample.prompts) > 1 else ())]
    found: list[Figure] = []
    for metric in METRICS.values():
        for prompt in parts:
            if metric.of_set:
                found += _of_sets(sample, metric, prompt)
            elif (values := matrix(sample, metric.name, prompt)) is not None:
                found += _of_values(sample, draws, metric, prompt, values)
    return found


def matrix(sample: Sample, name: str, prompt: str | None) -> np.ndarray | None:
    """A metric's mean over seeds and prompts, clips x methods; NaN where it is missing, none if it is everywhere.

    Over all prompts a method is missing that lacks one of those that others have: means over other prompts than theirs
    would be no comparison.
    """
    clips = {clip_id: number for number, clip_id in enumerate(sample.clip_ids)}
    methods = {method: number for number, method in enumerate(sample.methods)}
    prompts = {text: number for number, text in enumerate(sample.prompts)}
    total, num = (np.zeros((len(prompts), len(clips), len(methods))) for _ in range(2))
    for row in sample.rows:
        value = row.get(name)
        if value is not None and prompt in (None, row["prompt"]):
            place = prompts[row["prompt"]], clips[row["clip_id"]], methods[row["method"]]
            total[place] += value
            num[place] += 1
    if not num.any():
        return None
    by_prompt = np.divide(total, num, out=np.zeros_like(total), where=num > 0)
    is_there: np.ndarray = num.sum(axis=1) > 0  # prompts x methods
    lacks_one = (is_there.any(axis=1, keepdims=True) & ~is_there).any(axis=0)
    has = np.where(lacks_one, 0, (num > 0).sum(axis=0))
    return np.divide(by_prompt.sum(axis=0), has, out=np.full(has.shape, math.nan), where=has > 0)


def _of_values(sample: Sample, draws: Draws, metric: Metric, prompt: str | None, values: np.ndarray) -> list[Figure]:
    truth = sample.truths.get(metric.truth) if metric.truth else None
    if metric.truth and (truth is None or np.isnan(truth).all()):
        return []
    if truth is not None:
        values = np.where(np.isnan(truth)[:, None], math.nan, values)
    own = _statistics(draws, truth, values)
    shared = _of_shared_clips(draws, truth, values, list(sample.methods).index(sample.reference), own)
    num = (~np.isnan(values)).sum(axis=0)
    return [
        figure
        for part in own
        for figure in _with_differences(sample, metric, part, prompt, num, own[part], shared[part])
    ]


Statistics = dict[str, tuple[np.ndarray, np.ndarray]]
"""By part: of the clips, and of resamples of them; each resamples x methods."""


def _statistics(draws: Draws, truth: np.ndarray | None, values: np.ndarray) -> Statistics:
    if truth is None:
        return {MEAN: (draws.one.means(values), draws.means(values))}
    own, resampled = draws.one.degrees(truth, values), draws.degrees(truth, values)
    return {part: (getattr(own, part), getattr(resampled, part)) for part in PARTS}


def _of_shared_clips(
    draws: Draws, truth: np.ndarray | None, values: np.ndarray, reference: int, own: Statistics
) -> Statistics:
    """The difference of each method from the reference, both of the clips that both have: others are no pairs."""
    is_missing = np.isnan(values)
    lacks = is_missing | is_missing[:, [reference]]
    left, right = own, {part: (one[:, [reference]], many[:, [reference]]) for part, (one, many) in own.items()}
    if (lacks != is_missing[:, [reference]]).any() or (lacks != is_missing).any():
        left = _statistics(draws, truth, np.where(lacks, math.nan, values))
        right = _statistics(draws, truth, np.where(lacks, math.nan, values[:, [reference]]))
    return {part: (left[part][0] - right[part][0], left[part][1] - right[part][1]) for part in own}


def _with_differences(  # noqa: PLR0913
    sample: Sample,
    metric: Metric,
    part: str,
    prompt: str | None,
    num: np.ndarray,
    own: tuple[np.ndarray, np.ndarray],
    shared: tuple[np.ndarray, np.ndarray],
) -> list[Figure]:
    """A figure per method from a statistic and its difference from the reference, of the clips and of resamples."""
    reference, found = list(sample.methods).index(sample.reference), []
    for number, method in enumerate(sample.methods):
        if not num[number]:
            continue
        interval, difference = (Interval.of(float(one[0, number]), many[:, number]) for one, many in (own, shared))
        is_compared = number != reference and num[reference] > 0
        found.append(
            _figure(
                sample, metric, part, prompt, method, int(num[number]), interval, difference if is_compared else None
            )
        )
    return found


def _of_sets(sample: Sample, metric: Metric, prompt: str | None) -> list[Figure]:
    """Distances of all pictures of a method; intervals are jackknives over the clips."""
    if len(sample.images) < 2:
        return []
    distances, pictures, shown = {}, {}, {text for _, text in sample.vectors}
    for method in sample.methods:
        prompts = sample.prompts if prompt is None else [prompt]
        own = [sample.vectors[method, text] for text in prompts if (method, text) in sample.vectors]
        if len(own) < len(shown.intersection(prompts)):
            continue
        if own and sum(len(vectors) for vectors, _ in own) > 1:
            vectors, clips = (np.concatenate(parts) for parts in zip(*own, strict=True))
            pictures[method] = vectors, clips
            distances[method] = SetDistance(vectors, clips, sample.images, metric.name)
    found = []
    for method, distance in distances.items():
        without = distance.without()
        interval = jackknife(distance.value, np.array(list(without.values())))
        difference = None
        if method != sample.reference and sample.reference in distances:
            both = np.intersect1d(pictures[method][1], pictures[sample.reference][1])
            pair = (_of_clips(distances[name], pictures[name], both, sample) for name in (method, sample.reference))
            difference = compared(*pair)
        found.append(_figure(sample, metric, MEAN, prompt, method, len(without), interval, difference))
    return found


def _of_clips(
    distance: SetDistance, pictures: tuple[np.ndarray, np.ndarray], clips: np.ndarray, sample: Sample
) -> SetDistance:
    """The distance of the pictures of some clips."""
    vectors, own = pictures
    is_chosen = np.isin(own, clips)
    return (
        distance if is_chosen.all() else SetDistance(vectors[is_chosen], own[is_chosen], sample.images, distance.kind)
    )


def _figure(  # noqa: PLR0913
    sample: Sample,
    metric: Metric,
    part: str,
    prompt: str | None,
    method: str,
    num: int,
    own: Interval,
    difference: Interval | None,
) -> Figure:
    found = Figure(metric.name, part, prompt, method, own.value, own.low, own.high, num)
    found = replace(found, is_independent=metric.name not in sample.dependent)
    if difference is None:
        return found
    low, high = difference.low, difference.high
    return replace(found, difference=difference.value, difference_low=low, difference_high=high)


def undefined(figures: Sequence[Figure]) -> list[str]:
    """What is undefined for all methods, and why."""
    known = {(figure.metric, figure.part) for figure in figures if not math.isnan(figure.value)}
    degrees = {figure.metric: str(DEGREES[figure.metric].truth) for figure in figures if figure.part == RANK}
    asked = {RANK: "rank correlation, which needs three clips", SLOPE: "slope, which needs two clips"}
    return [
        f"{truth}: there is no {needed} of one label whose {truth} differs"
        for metric, truth in degrees.items()
        for part, needed in asked.items()
        if (metric, part) not in known
    ]


def title_of(metric: str, part: str) -> str:
    """The name of a figure, for headers."""
    if part == MEAN:
        return METRICS[metric].label
    return f"{DEGREES[metric].truth} {part}"


def plain_data(value: Any) -> Any:
    """Nested data with null for what is undefined, as JSON has no NaN."""
    if isinstance(value, Mapping):
        return {name: plain_data(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [plain_data(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
