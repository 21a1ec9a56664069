"""Sweeps: quality against steps of refinement, rows, neighbours, training clips and candidates, from comparisons.

Each value of a setting is a method of a comparison: everything that exists is used, and a second call does nothing new.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow.parquet as pq
from pydantic import Field, StrictInt, field_validator, model_validator

from aai.cues.options import FitOptions, TrainMapperOptions
from aai.errors import BadConfig
from aai.evaluate.curves import Curve, curve_of
from aai.evaluate.intervals import Draws
from aai.jobs.job import MAX_CANDIDATES, Measure
from aai.metrics import AIS_COSINE, CLIP_SCORE, DEGREES, JUDGE_PHENOMENON, KEPT_PSNR, METRICS
from aai.yaml_reader import read_yaml
from tasks.choice import default_measure
from tasks.evaluate.compare import Opened, open_comparison
from tasks.evaluate.figures import MEAN, RANK, plain_data, title_of
from tasks.evaluate.options import ComparisonOptions, Method, PictureOptions, check_kind, in_folder
from tasks.evaluate.output import CELLS, Comparison
from tasks.evaluate.prompts import resolved
from tasks.runtime.config import Config, read_options

Setting = Literal["steps", "rows", "neighbours", "clips", "candidates"]

SETTINGS: dict[Setting, str] = {
    "steps": "refinement steps per clip (fit.steps, of fit.method: adapter)",
    "rows": "token vectors per cue (train_mapper.num_tokens, of a mapper that the bank learns)",
    "neighbours": "retrieved images per clip (retrieve.num_neighbours)",
    "clips": "clips that the mapper is trained on (train_mapper.num_clips, of a mapper that the bank learns)",
    "candidates": "candidates per picture, of which the best is kept (candidates, in jobs)",
}
"""What can be varied, and what it is."""

KEYS: dict[Setting, tuple[str, dict[str, Any]]] = {
    "steps": ("fit.steps", {"fit.method": "adapter"}),
    "rows": ("train_mapper.num_tokens", {"train_mapper.method": "learned"}),
    "neighbours": ("retrieve.num_neighbours", {}),
    "clips": ("train_mapper.num_clips", {"train_mapper.method": "learned"}),
}
"""The key of the configuration of each setting, and what it presupposes."""

_CHOSEN_BY: dict[Measure, frozenset[str]] = {
    "judge": frozenset(name for name, metric in METRICS.items() if metric.role == "judge"),
    "audio_judge": frozenset(name for name, metric in METRICS.items() if metric.role == "sounds"),
    "clip_score": frozenset([CLIP_SCORE]),
}
"""The metrics of the model that chose the candidates."""

_WITNESS: dict[Measure, str] = {"judge": CLIP_SCORE, "audio_judge": CLIP_SCORE, "clip_score": AIS_COSINE}
"""What tells a gain of candidates where all that is read by default is of the model that chose them."""

_MIN_CLIPS = 2
_ONE_CLIP = "one clip shows no difference: choose several"
_WHERE = "docs/EVALUATE.md lists all there are"


class SweepOptions(PictureOptions):
    """Everything that can be configured about a sweep."""

    config: str = "aai.yaml"
    """Configuration of the bank."""

    output: str = "sweep"
    """Folder to write to: sweep.json, sweep.md, index.html, recommended.yaml, and a comparison for each setting."""

    vary: dict[Setting, tuple[StrictInt, ...]] = Field(min_length=1)
    """Values of each setting that is varied, such as `steps: [0, 8, 24]`."""

    set: dict[str, Any] = {}
    """Keys of the configuration that all have in common, such as `fit.method: inversion`."""

    metrics: tuple[str, ...] = ()
    """Metrics of quality; of a degree its rank correlation. By default what the judge reads, else CLIPScore; of edits
    also the kept PSNR, and of candidates a metric of another model than the one that chooses."""

    chosen_by: Measure | None = None
    """Measure of the best candidate; as in jobs."""

    @field_validator("vary")
    @classmethod
    def _are_values(cls, vary: dict[Setting, tuple[int, ...]]) -> dict[Setting, tuple[int, ...]]:
        for name, values in vary.items():
            if len(set(values)) < 2 or len(set(values)) < len(values):
                raise ValueError(f"{name}: give at least two values, each once")
            least, most = 0 if name == "steps" else 1, MAX_CANDIDATES if name == "candidates" else 10_000_000
            if not all(least <= value <= most for value in values):
                raise ValueError(f"{name}: values are from {least} to {most:,}")
        return vary

    @field_validator("metrics")
    @classmethod
    def _are_known(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        for name in names:
            if name not in METRICS or METRICS[name].of_set:
                known = ", ".join(name for name, metric in METRICS.items() if not metric.of_set)
                raise ValueError(f"there is no metric {name!r} of single pictures: choose from {known}")
            if names.count(name) > 1:
                raise ValueError(f"{name} is listed twice: leave one out")
        return names

    @model_validator(mode="after")
    def _has_effect(self) -> "SweepOptions":
        if self.chosen_by and "candidates" not in self.vary:
            raise ValueError("`chosen_by` is of candidates, which are not varied: leave it out")
        given = Method(name="all", set=self.set).changes
        for setting in self.vary:
            section, _, key = KEYS[setting][0].partition(".") if setting in KEYS else ("", "", "")
            if key in given.get(section, {}):
                raise ValueError(f"`{section}.{key}` of `set` is what `{setting}` varies: leave one of them out")
        return self

    def comparison(self, setting: Setting) -> ComparisonOptions:
        """The comparison of a setting's values."""
        values = sorted(self.vary[setting])
        return ComparisonOptions(
            config=self.config,
            output=str(Path(self.output) / setting),
            methods=tuple(self._method(setting, value) for value in values),
            prompts=self.prompts,
            photos_per_clip=self.photos_per_clip,
            clips=self.clips,
            seeds=self.seeds,
        )

    def _method(self, setting: Setting, value: int) -> Method:
        if setting == "candidates":
            measure = {"chosen_by": self.chosen_by} if self.chosen_by and value > 1 else {}
            return Method(name=method_of(setting, value), set=self.set, job={"candidates": value} | measure)
        key, presupposed = KEYS[setting]
        return Method(name=method_of(setting, value), set=presupposed | self.set | {key: value})


@dataclass(frozen=True)
class SweptCurve:
    """How a quality depends on a setting."""

    setting: Setting
    metric: str
    part: str
    curve: Curve
    is_independent: bool
    """Whether the metric is of another model than the one that chose the candidates."""

    @property
    def title(self) -> str:
        """The name of the quality."""
        return title_of(self.metric, self.part)


@dataclass(frozen=True)
class Sweep:
    """All curves, and which value of each setting is enough for all of its qualities."""

    curves: list[SweptCurve]
    enough: dict[Setting, int]
    seconds: dict[Setting, dict[int, float]]
    """Seconds per clip for the cue, by value."""
    num_clips: int
    notes: list[str]
    given: Mapping[str, Any] = field(default_factory=dict)
    """Keys of the configuration that all values had in common, with dots."""

    @property
    def recommended(self) -> dict[str, Any]:
        """The keys of the configuration with these values, nested."""
        nested: dict[str, Any] = {}
        for setting, value in self.enough.items():
            if setting != "candidates":
                section, key = KEYS[setting][0].split(".")
                nested.setdefault(section, {})[key] = value
        return nested

    def as_json(self) -> dict[str, Any]:
        """Plain data, without NaN."""
        seconds = {setting: {str(at): s for at, s in own.items()} for setting, own in self.seconds.items()}
        return {
            "curves": [
                {"setting": own.setting, "metric": own.metric, "part": own.part, "is_independent": own.is_independent}
                | plain_data(asdict(own.curve))
                for own in self.curves
            ],
            "enough": self.enough,
            "seconds_per_clip": seconds,
            "num_clips": self.num_clips,
            "notes": self.notes,
        }


def load_sweep(path: Path, given: Mapping[str, Any]) -> SweepOptions:
    """The sweep that a YAML file describes, with some keys replaced; paths are resolved against its folder.

    Raises:
        BadConfig: there is no such file, it is not YAML, or a key is wrong; `key` names it.
    """
    keys = read_yaml(path, "write one as in docs/EVALUATE.md")
    if not isinstance(keys, dict):
        raise BadConfig("it holds no keys: write `vary` and below it for example `steps: [0, 8, 24]`", uri=str(path))
    check_kind(keys, "vary", str(path))
    keys = {"config": SweepOptions.model_fields["config"].default, "output": "sweep"} | keys
    for name in ("config", "output"):
        keys[name] = in_folder(keys[name], path.parent)
    if "prompts" in keys:
        keys["prompts"] = resolved(keys["prompts"], path.parent)
    return read_options(SweepOptions, keys | dict(given), _WHERE, str(path))


def open_sweep(options: SweepOptions, changes: Mapping[str, Any]) -> dict[Setting, Opened]:
    """A comparison for each setting that is varied.

    Raises:
        BadConfig: a configuration is wrong; `key` names it.
    """
    if options.clips.limit == 1:
        raise BadConfig(_ONE_CLIP, key="clips.limit")
    opened = {setting: open_comparison(options.comparison(setting), changes) for setting in options.vary}
    for setting, comparison in opened.items():
        if any(not _counts(setting, run.config) for run in comparison.runs.values()):
            sentence = (
                f"{setting} has no effect on cues of fit.method and train_mapper.method as they are: leave it out"
            )
            raise BadConfig(f"{sentence}, or change them by `set`", key="vary")
    return opened


def _counts(setting: Setting, config: Config) -> bool:
    """Whether a setting has an effect on cues or pictures."""
    fit, is_learned = config.options(FitOptions).method, config.options(TrainMapperOptions).method == "learned"
    is_mapped = is_learned and fit in ("mapper", "adapter")
    of_images = fit in ("adapter", "inversion")
    return {"steps": of_images, "neighbours": of_images or is_mapped}.get(setting, setting == "candidates" or is_mapped)


def chooser_of(opened: Mapping[Setting, Opened]) -> Measure:
    """What chooses the candidates of a sweep, unless it says so itself."""
    *_, run = next(iter(opened.values())).runs.values()
    return default_measure(run.config) or "clip_score"


def swept(options: SweepOptions, comparisons: Mapping[Setting, Comparison], chooser: Measure = "judge") -> Sweep:
    """The curves of comparisons that were run.

    Args:
        options: the sweep.
        comparisons: its comparisons, by setting.
        chooser: what chose the candidates, unless the sweep says so.

    Raises:
        BadConfig: none has a metric of the sweep, or there is one clip only.
    """
    chooser, num_clips = options.chosen_by or chooser, 0
    curves: list[SweptCurve] = []
    notes: list[str] = []
    for setting, comparison in comparisons.items():
        rows = pq.read_table(comparison.folder / CELLS).to_pylist()
        names = _qualities(options, setting, rows, chooser)
        own = [curve for name in names if (curve := _curve(options, setting, name, rows, chooser))]
        unmeasured = [name for name in options.metrics if name not in {curve.metric for curve in own}]
        notes += [f"{setting}: no picture has the metric {name}" for name in unmeasured]
        if not own:
            usable = [
                name for name in METRICS if not METRICS[name].of_set and _curve(options, setting, name, rows, chooser)
            ]
            raise _unmeasured(usable, comparison.notes)
        notes += [note for note in comparison.notes if note not in notes]
        if all(point.gap.value == 0 for each in own for point in each.curve.points):
            notes.append(f"{setting}: all values give the same quality: no effect, or too few clips to show one")
        num_clips = max(num_clips, len({row["clip_id"] for row in rows}))
        curves += own
    if num_clips < _MIN_CLIPS:
        raise BadConfig(_ONE_CLIP, key="clips")
    enough = {setting: _enough([own for own in curves if own.setting == setting]) for setting in comparisons}
    seconds = {setting: _seconds(options, setting, comparison) for setting, comparison in comparisons.items()}
    return Sweep(curves, enough, seconds, num_clips, notes, dict(_dotted(Method(name="all", set=options.set).changes)))


def _unmeasured(usable: Sequence[str], notes: Sequence[str]) -> BadConfig:
    """No picture has a metric of the sweep."""
    if usable:
        return BadConfig(f"no picture has one of these metrics: choose from {', '.join(usable)}", key="metrics")
    return BadConfig("; ".join(["there is no picture to measure", *notes]))


def _enough(curves: Sequence[SweptCurve]) -> int:
    """The value that is enough for all qualities: for those that are independent, if there are any."""
    independent = [own for own in curves if own.is_independent]
    return max(own.curve.enough for own in independent or curves)


def method_of(setting: Setting, value: int) -> str:
    """The name of the method with a value of a setting."""
    return f"{setting} {value}"


def _seconds(options: SweepOptions, setting: Setting, comparison: Comparison) -> dict[int, float]:
    names = {value: method_of(setting, value) for value in sorted(options.vary[setting])}
    return {
        value: comparison.seconds[name] for value, name in names.items() if comparison.seconds.get(name) is not None
    }


def _qualities(
    options: SweepOptions, setting: Setting, rows: Sequence[Mapping[str, Any]], chooser: Measure
) -> list[str]:
    """The metrics of a sweep: what the judge reads, where it does, else CLIPScore; and what edits keep.

    Of candidates there is one that did not choose them.
    """
    if options.metrics:
        return list(options.metrics)
    judged = [JUDGE_PHENOMENON, *DEGREES]
    has_judge = any(row.get(name) is not None for row in rows for name in judged)
    found = judged if has_judge else [CLIP_SCORE]
    has_witness = setting != "candidates" or not _CHOSEN_BY[chooser].issuperset(found)
    return [*found, *([] if has_witness else [_WITNESS[chooser]]), KEPT_PSNR]


def _curve(
    options: SweepOptions, setting: Setting, name: str, rows: Sequence[Mapping[str, Any]], chooser: Measure
) -> SweptCurve | None:
    values = sorted(options.vary[setting])
    clip_ids = sorted({row["clip_id"] for row in rows})
    matrix = _paired(_matrix(rows, name, clip_ids, [method_of(setting, value) for value in values]))
    metric, first = METRICS[name], {row["clip_id"]: row for row in rows}
    draws = Draws([first[clip_id]["label"] for clip_id in clip_ids])
    nums, is_higher_better = (~np.isnan(matrix)).sum(axis=0), metric.direction != "down"
    if metric.truth:
        truth = np.array([_number(first[clip_id].get(f"own_{metric.truth}")) for clip_id in clip_ids])
        one, resampled = draws.one.degrees(truth, matrix).rank, draws.degrees(truth, matrix).rank
    else:
        one, resampled = draws.one.means(matrix), draws.means(matrix)
    curve = curve_of(values, one[0], resampled, nums.tolist(), is_higher_better)
    if curve is None:
        return None
    is_independent = setting != "candidates" or name not in _CHOSEN_BY[chooser]
    return SweptCurve(setting, name, RANK if metric.truth else MEAN, curve, is_independent)


def _matrix(
    rows: Sequence[Mapping[str, Any]], name: str, clip_ids: Sequence[str], methods: Sequence[str]
) -> np.ndarray:
    """A metric's mean over prompts and seeds, clips x methods; NaN where it is missing."""
    found: dict[tuple[str, str], list[float]] = {}
    for row in rows:
        if row.get(name) is not None:
            found.setdefault((row["clip_id"], row["method"]), []).append(row[name])
    return np.array(
        [
            [np.mean(found[clip, method]) if (clip, method) in found else np.nan for method in methods]
            for clip in clip_ids
        ]
    )


def _paired(matrix: np.ndarray) -> np.ndarray:
    """Without the clips that one of the values lacks; a value that lacks all is no value of the curve."""
    is_missing = np.isnan(matrix)
    lacks_one = is_missing[:, ~is_missing.all(axis=0)].any(axis=1)
    return np.where(lacks_one[:, None], np.nan, matrix)


def _dotted(keys: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in keys.items():
        if isinstance(value, Mapping):
            yield from _dotted(value, f"{before}{name}.")
        else:
            yield before + name, value


def _number(value: float | None) -> float:
    return np.nan if value is None else value
