"""Aggregated scores of the pictures, per generation and job.

A generation here is the pictures that were made under one configuration, thus one recipe. Earlier generations are kept,
so that methods can be compared.
"""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from aai.metrics import JUDGE_INTENSITY, JUDGE_TONE, Aggregate, Agreement, agreement
from aai.options import PLACEHOLDER
from aai.workspace import RECIPE, Workspace
from tasks.runtime.run import Run
from tasks.views.made_by import makers


@dataclass(frozen=True)
class Generation:
    """The pictures under one recipe."""

    name: str
    """The method of the cues; if several generations have the same, with the configuration file that made the pictures,
    or with their recipe where the file is not known or made several of them."""
    method: str
    renders: str
    """Recipe of the pictures."""
    cues: str
    """Recipe of their cues."""
    scores: str | None
    """Recipe of their scores; None without scores."""
    is_current: bool
    """Whether it is the generation of the current configuration."""


@dataclass(frozen=True)
class Result:
    """Aggregated scores of a generation's pictures, of one job or of all."""

    generation: Generation
    job: str | None
    """None for all pictures with a cue together."""
    has_cue: bool
    """Whether the pictures have cues; those of prompts without `*` are of the plain model."""
    num_pictures: int
    scores: Aggregate


def generations(run: Run) -> list[Generation]:
    """All generations with pictures: the current one first, the others sorted by name."""
    lineage = _Lineage(run.workspace)
    unnamed = []
    for recipe in run.workspace.table("renders").recipes():
        cues = lineage.upstream(recipe).get("cues", "")
        method = lineage.options(cues).get("method", "unknown")
        is_current = recipe == run.recipe("renders")
        unnamed.append(Generation(method, method, recipe, cues, lineage.scores_of(recipe, run), is_current))
    return sorted(_named(run, unnamed), key=lambda generation: (not generation.is_current, generation.name))


def results(run: Run, shown: Sequence[Generation]) -> list[Result]:
    """Aggregated scores of some generations: of all pictures with a cue, then of each job.

    A job whose prompts have a cue only in part comes twice.
    """
    aggregated: list[Result] = []
    for generation in shown:
        if generation.scores:
            aggregated += _results_of(run, generation, generation.scores)
    return aggregated


def intensity_of(attributes: str | None) -> float:
    """The true intensity in a clip's metadata; NaN if there is none."""
    value = json.loads(attributes).get("intensity") if attributes else None
    try:
        return float("nan" if value is None else value)
    except (TypeError, ValueError):
        return float("nan")


class _Lineage:
    """Upstream recipes and options of each recipe, from the table `recipes`."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        self._rows = {row[RECIPE]: row for row in workspace.table("recipes").read().to_pylist()}

    def upstream(self, recipe: str) -> dict[str, str]:
        return self._json(recipe, "upstream")

    def options(self, recipe: str) -> dict[str, Any]:
        return self._json(recipe, "options")

    def scores_of(self, renders: str, run: Run) -> str | None:
        """The recipe of a generation's scores: the current configuration's, else the one that ran last."""
        candidates = [name for name in self._scored if self.upstream(name).get("renders") == renders]
        if run.recipe("scores") in candidates:
            return run.recipe("scores")
        return max(candidates, key=lambda name: self._last_run.get(name, ""), default=None)

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


def _named(run: Run, unnamed: Sequence[Generation]) -> list[Generation]:
    """Generations whose names differ."""
    known = makers(run.workspace)
    methods = Counter(generation.method for generation in unnamed)
    files = Counter((each.method, known[each.renders].file) for each in unnamed if each.renders in known)
    named = []
    for each in unnamed:
        file = known[each.renders].file if each.renders in known else ""
        of = file if files[each.method, file] == 1 else each.renders
        named.append(each if methods[each.method] == 1 else replace(each, name=f"{each.method} ({of})"))
    return named


_HAS_CUE = f"contains(r.prompt, '{PLACEHOLDER}') AS has_cue"
_MEANS = f"""
    SELECT r.job, {_HAS_CUE}, s.metric, sum(s.value) AS total, count(*) AS num
    FROM scores s JOIN renders r ON s.render_id = r.render_id GROUP BY ALL
"""
_COUNTS = f"""
    SELECT r.job, {_HAS_CUE}, count(*) AS num, count(s.render_id) AS num_scored
    FROM renders r LEFT JOIN (SELECT DISTINCT render_id FROM scores) s ON r.render_id = s.render_id GROUP BY ALL
"""
_TRUTH = f"CASE s.metric WHEN '{JUDGE_TONE}' THEN c.attributes ->> '$.tone' ELSE c.attributes ->> '$.intensity' END"
_JUDGED = f"""
    SELECT r.job, {_HAS_CUE}, c.label, s.metric, s.value, try_cast({_TRUTH} AS DOUBLE) AS truth
    FROM scores s JOIN renders r ON s.render_id = r.render_id JOIN known_clips c ON r.clip_ids[1] = c.clip_id
    WHERE s.metric IN ('{JUDGE_INTENSITY}', '{JUDGE_TONE}') AND len(r.clip_ids) = 1 AND c.label IS NOT NULL
        AND truth IS NOT NULL AND NOT isnan(s.value) AND NOT isnan(truth)
"""


def _results_of(run: Run, generation: Generation, recipe: str) -> list[Result]:
    with run.query({"renders": generation.renders, "scores": recipe}) as query:
        means, counts = query.table(_MEANS).to_pylist(), query.table(_COUNTS).to_pylist()
        judged = query.table(_JUDGED)
    groups = [(None, True)] if any(row["has_cue"] for row in counts) else []
    groups += sorted({(row["job"], row["has_cue"]) for row in counts})
    aggregated = []
    for job, has_cue in groups:

        def is_own(row: dict[str, Any], job: str | None = job, has_cue: bool = has_cue) -> bool:
            return row["has_cue"] == has_cue and job in (None, row["job"])

        own = judged.filter(
            pa.array([is_own(row) for row in judged.select(["job", "has_cue"]).to_pylist()], pa.bool_())
        )
        num, num_scored = (sum(row[name] for row in counts if is_own(row)) for name in ("num", "num_scored"))
        figures = _means([row for row in means if is_own(row)])
        degrees = (_agreement(own, metric) for metric in (JUDGE_INTENSITY, JUDGE_TONE))
        aggregated.append(Result(generation, job, has_cue, num, Aggregate(num_scored, figures, *degrees)))
    return aggregated


def _means(rows: Sequence[dict[str, Any]]) -> dict[str, float]:
    """The mean of each metric over some jobs."""
    totals: dict[str, tuple[float, int]] = {}
    for row in rows:
        total, num = totals.get(row["metric"], (0.0, 0))
        totals[row["metric"]] = (total + row["total"], num + row["num"])
    return {name: total / num for name, (total, num) in sorted(totals.items())}


def _agreement(judged: pa.Table, metric: str) -> Agreement:
    """How the judged intensity or tone agrees with the clips', within labels and jobs."""
    judged = judged.filter(pc.equal(judged["metric"], metric))
    groups = pc.binary_join_element_wise(judged["label"], judged["job"], "\n").to_pylist()
    return agreement(groups, judged["truth"].to_numpy(), judged["value"].to_numpy())
