"""Report: the contents of the HTML page, from tables, source files and shards.

The page shows what is missing, such as a deleted file or a stage that has not run.
"""

import json
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from aai.format import without_secrets
from aai.report import Origin, RejectKind, Report, ScoreLine, StageTime
from tasks.runtime.run import Run
from tasks.runtime.stage import Stage
from tasks.views.candidates import chosen_otherwise
from tasks.views.clip_cards import cards
from tasks.views.confidence import doubts
from tasks.views.independence import scored_dependently
from tasks.views.left_out import left_out
from tasks.views.results import Result, generations, results

_PACKAGES = (
    "aai",
    "torch",
    "diffusers",
    "transformers",
    "ray",
    "prefect",
    "pyarrow",
    "deltalake",
    "soundfile",
    "pillow",
)
REPORT = "report.html"
"""Default name of the page, in the workspace."""

_MAX_EXAMPLES = 20
_VARYING = r"""'[^']*'|"[^"]*"|-?\d[\d.,]*"""
"""DuckDB regular expression for names and numbers, which differ between sentences about the same fault."""


def gather(run: Run, num_clips: int) -> Report:
    """The contents of a report with up to `num_clips` clips.

    Raises:
        BadConfig: a model of the configuration does not exist.
        Transient: the store failed.
    """
    shown_generations = generations(run)
    clip_ids = sample(run, num_clips)
    rejects = _rejects(run)
    with ThreadPoolExecutor() as threads:  # decoding and encoding release Python's interpreter lock
        shown_cards = cards(run, clip_ids, shown_generations, threads)
    return Report(
        workspace=run.workspace.uri,
        created_at=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        totals=_totals(run, rejects),
        num_clips=run.workspace.table("clips").recipes().get(run.recipe("clips"), 0),
        cards=shown_cards,
        lines=[_line(result) for result in results(run, shown_generations)],
        rejects=rejects,
        stages=_stage_times(run),
        origins=_origins(run),
        versions=_versions(),
        profile=run.config.profile,
        dependent=scored_dependently(run),
    )


def sample(run: Run, num: int) -> list[str]:
    """Ids of up to `num` clips, sampled evenly over the labels: those with the smallest ids."""
    with run.query() as query:
        rows = query.table(
            "SELECT clip_id FROM known_clips "
            "ORDER BY row_number() OVER (PARTITION BY label ORDER BY clip_id), label NULLS LAST "
            f"LIMIT {num}"
        )
    ids: list[str] = rows["clip_id"].to_pylist()
    return ids


def _line(result: Result) -> ScoreLine:
    generation, scores = result.generation, result.scores
    job = result.job if result.has_cue else f"{result.job} (no cue)"
    degrees = (scores.intensity, scores.tone)
    return ScoreLine(generation.name, generation.is_current, job, scores.num, scores.means, *degrees)


def _totals(run: Run, rejects: Sequence[RejectKind]) -> list[tuple[str, int, str]]:
    totals = []
    for stage in run.stages:
        if not (stage.label and stage.is_needed(run.config)):
            continue
        table = stage.also[0] if stage.also else stage.table
        rows = run.workspace.table(table).recipes()
        num = rows.get(run.recipe(table), 0)
        earlier = sum(rows.values()) - num
        remarks = [f"{earlier:,} of earlier configurations"] if earlier else []
        if table == "renders":
            remarks += chosen_otherwise(run)
        if table == "clips":
            remarks += [*left_out(run), *doubts(run, has_remedy=False)]
        totals.append((stage.label, num, "; ".join(remarks)))
    return [*totals, ("rejects", sum(kind.num for kind in rejects), "")]


def _rejects(run: Run) -> list[RejectKind]:
    """Current rejects by stage and reason, the most frequent first."""
    kinds: list[RejectKind] = []
    for stage in run.stages:
        if stage.table in run.workspace.schemas and stage.is_needed(run.config):
            kinds += _rejects_of(run, stage)
    return sorted(kinds, key=lambda kind: (-kind.num, kind.stage, kind.reason))


def _rejects_of(run: Run, stage: Stage) -> list[RejectKind]:
    """Rejects of a stage by reason: items that are upstream and have no row, and parts of finished items."""
    key, items = run.workspace.schemas[stage.table].id, stage.items or stage.rows
    upstream = f"SEMI JOIN ({items}) u ON coalesce(r.part_of, r.id) = u.{key}" if items else ""
    latest = (
        f"SELECT r.* FROM rejects r {upstream} "
        f"WHERE part_of IS NOT NULL OR id NOT IN (SELECT {key} FROM {stage.table}) "
        "QUALIFY row_number() OVER (PARTITION BY id ORDER BY rejected_at DESC) = 1"
    )
    with run.query({"rejects": run.recipe(stage.table)}) as query:
        rows = query.table(
            f"SELECT regexp_replace(sentence, $${_VARYING}$$, '…', 'g') AS reason, count(*) AS num, "
            "arg_min({'what': coalesce(uri, id), 'sentence': sentence}, coalesce(uri, id), "
            f"{_MAX_EXAMPLES}) AS examples FROM ({latest}) GROUP BY reason"
        ).to_pylist()
    return [
        RejectKind(
            stage.name if items else f"{stage.name}, by the last run of each job file",
            row["reason"],
            row["num"],
            [(without_secrets(example["what"]), example["sentence"]) for example in row["examples"]],
        )
        for row in rows
    ]


def _stage_times(run: Run) -> list[StageTime]:
    """The time of each stage, in the order of the stages."""
    runs: dict[str, list[dict[str, Any]]] = {stage.name: [] for stage in run.stages}
    for row in sorted(run.workspace.table("runs").read().to_pylist(), key=lambda row: row["started_at"]):
        runs.setdefault(row["stage"], []).append(row)
    total_s = sum(row["took_s"] for rows in runs.values() for row in rows) or 1.0
    return [_stage_time(stage, rows, total_s) for stage, rows in runs.items() if rows]


def _stage_time(stage: str, runs: list[dict[str, Any]], total_s: float) -> StageTime:
    last, took_s = runs[-1], sum(row["took_s"] for row in runs)
    return StageTime(
        stage=stage,
        num_runs=len(runs),
        new=sum(row["new"] for row in runs),
        rejected=sum(row["rejected"] for row in runs),
        took_s=took_s,
        share=took_s / total_s,
        last_rate=(last["new"] + last["rejected"]) / last["took_s"] if last["took_s"] else 0.0,
        last_started=last["started_at"].replace("T", " ").removesuffix("+00:00"),
        stopped=last["stopped"],
    )


def _origins(run: Run) -> list[Origin]:
    origins = []
    for name, recipe in run.recipes.items():
        rows = run.workspace.table(name).recipes() if name in run.workspace.schemas else None
        origins.append(
            Origin(
                name=name,
                stage=recipe.stage,
                recipe=recipe.name,
                num=None if rows is None else rows.get(recipe.name, 0),
                num_earlier=0 if rows is None else sum(rows.values()) - rows.get(recipe.name, 0),
                options=json.dumps(recipe.options, sort_keys=True, indent=1) if recipe.options else "",
                models=sorted(recipe.models.items()),
            )
        )
    return origins


def _versions() -> list[tuple[str, str]]:
    versions = [("Python", sys.version.split()[0])]
    for name in _PACKAGES:
        try:
            versions.append((name, version(name)))
        except PackageNotFoundError:
            versions.append((name, "not installed"))
    return versions
