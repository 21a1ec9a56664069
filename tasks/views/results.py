"""Results: the pictures of a workspace, generation by generation, and what their scores come to.

A generation is what was rendered under one recipe. Earlier ones stay, so that methods can be compared. Nothing here
loads a model or starts Ray.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from aai.metrics import Aggregate, aggregate
from aai.workspace import RECIPE, Workspace
from tasks.runtime.run import Run


@dataclass(frozen=True)
class Generation:
    """The pictures under one recipe."""

    name: str
    """The method of their cues; where several have the same, with their recipe."""
    method: str
    renders: str
    """The recipe of the pictures."""
    cues: str
    """The recipe of the cues in them."""
    scores: str | None
    """The recipe of their scores; none without any."""
    is_current: bool
    """Whether it is what the configuration of today makes."""


@dataclass(frozen=True)
class Result:
    """What the scores of a generation's pictures come to, of one job or of all."""

    generation: Generation
    job: str | None
    """None for all jobs together."""
    num_pictures: int
    scores: Aggregate


def generations(run: Run) -> list[Generation]:
    """All generations with pictures: the present one first, the others in the order of their methods."""
    lineage = _Lineage(run.workspace)
    found = []
    for recipe in run.workspace.table("renders").recipes():
        cues = lineage.upstream(recipe).get("cues", "")
        method = lineage.options(cues).get("method", "unknown")
        current = recipe == run.recipe("renders")
        found.append(Generation(method, method, recipe, cues, lineage.scores_of(recipe, run), current))
    methods = [each.method for each in found]
    found = [each if methods.count(each.method) == 1 else _with_recipe(each) for each in found]
    return sorted(found, key=lambda each: (not each.is_current, each.name))


def results(run: Run, among: Sequence[Generation]) -> list[Result]:
    """What scores come to: per generation those of all jobs, then job by job."""
    clips = _described_clips(run.workspace)
    found: list[Result] = []
    for generation in among:
        if generation.scores:
            found += _results_of(run.workspace, generation, generation.scores, clips)
    return found


def intensity_of(attributes: str | None) -> float:
    """The true intensity that the metadata gave a clip; NaN where it gave none, or no number."""
    said = json.loads(attributes).get("intensity") if attributes else None
    try:
        return float("nan" if said is None else said)
    except (TypeError, ValueError):
        return float("nan")


class _Lineage:
    """Which recipe was read under which: the table `recipes`."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        self._rows = {row[RECIPE]: row for row in workspace.table("recipes").read().to_pylist()}

    def upstream(self, recipe: str) -> dict[str, str]:
        return self._json(recipe, "upstream")

    def options(self, recipe: str) -> dict[str, Any]:
        return self._json(recipe, "options")

    def scores_of(self, renders: str, run: Run) -> str | None:
        """The recipe of a generation's scores: the configuration's, else the last that was worked under."""
        made = [name for name in self._scored if self.upstream(name).get("renders") == renders]
        if run.recipe("scores") in made:
            return run.recipe("scores")
        return max(made, key=lambda name: self._last_run.get(name, ""), default=None)

    def _json(self, recipe: str, column: str) -> dict[str, Any]:
        return json.loads(self._rows[recipe][column]) if recipe in self._rows else {}

    @cached_property
    def _scored(self) -> list[str]:
        return list(self._workspace.table("scores").recipes())

    @cached_property
    def _last_run(self) -> dict[str, str]:
        runs = self._workspace.table("runs").read([RECIPE, "started_at"])
        last = runs.group_by(RECIPE).aggregate([("started_at", "max")])
        return dict(zip(last[RECIPE].to_pylist(), last["started_at_max"].to_pylist(), strict=True))


def _with_recipe(generation: Generation) -> Generation:
    return Generation(**vars(generation) | {"name": f"{generation.method} ({generation.renders})"})


def _described_clips(workspace: Workspace) -> pa.Table:
    """Label and intensity of every clip, of whichever recipe."""
    clips = workspace.table("clips").read(["clip_id", "label", "attributes"])
    intensities = [intensity_of(each) for each in clips["attributes"].to_pylist()]
    return clips.drop_columns("attributes").append_column("intensity", pa.array(intensities, pa.float64()))


def _results_of(workspace: Workspace, generation: Generation, recipe: str, clips: pa.Table) -> list[Result]:
    renders = workspace.table("renders").read(["render_id", "clip_ids", "job"], generation.renders)
    scores = workspace.table("scores").read(["render_id", "metric", "value"], recipe)
    columns = {name: _column(renders, scores, name) for name in scores["metric"].unique().to_pylist()}
    places = pc.index_in(_only_clip(renders["clip_ids"]), value_set=clips["clip_id"])
    labels, jobs = clips["label"].take(places).to_pylist(), np.array(renders["job"].to_pylist(), object)
    alike = np.array([label and f"{label} {job}" for label, job in zip(labels, jobs, strict=True)], object)
    intensities = clips["intensity"].take(places).to_numpy().astype(float)
    found = []
    for job in (None, *dict.fromkeys(sorted(jobs))):
        chosen = np.full(len(jobs), True) if job is None else jobs == job
        part = {name: values[chosen] for name, values in columns.items()}
        summed = aggregate(part, alike[chosen].tolist(), intensities[chosen])
        found.append(Result(generation, job, int(chosen.sum()), summed))
    return found


def _column(renders: pa.Table, scores: pa.Table, metric: str) -> np.ndarray:
    """A metric per picture, NaN where there is none."""
    mine = scores.filter(pc.field("metric") == metric)
    places = pc.index_in(renders["render_id"], value_set=mine["render_id"])
    return mine["value"].take(places).to_numpy().astype(float)


def _only_clip(clip_ids: pa.ChunkedArray) -> pa.Array:
    """The clip of each picture; none for a picture of several, which has no intensity of its own."""
    return pa.array([each[0] if len(each) == 1 else None for each in clip_ids.to_pylist()], pa.string())
