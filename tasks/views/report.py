"""Report: the tables, the files behind them and the shards become the contents of a page.

Nothing here loads a model or starts Ray. What is missing stands on the page as missing: a deleted file, a stage that
did not run.
"""

import json
import re
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from itertools import chain, zip_longest
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from aai.metrics import MEANINGS, SHORT, YES_OR_NO
from aai.report import Made, RejectKind, Report, ScoreLine, StageTime
from aai.workspace import RECIPE, SCHEMAS
from tasks.runtime.run import Run
from tasks.views.clip_cards import cards
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
"""Where the page is unless told otherwise, in the workspace."""

_MOST_EXAMPLES = 20
_VARYING = re.compile(r"'[^']*'|\"[^\"]*\"|-?\d[\d.,]*")
"""What differs between sentences about the same fault: names and numbers."""

_TOTALS = {"clips": "clips", "images": "images", "cues": "cues", "renders": "pictures"}


def gather(run: Run, num_clips: int) -> Report:
    """All that a report shows, with so many clips.

    Raises:
        BadConfig: a model of the configuration is not named rightly.
        Transient: the store failed.
    """
    there = generations(run)
    chosen = sample(run, num_clips)
    rejects = _rejects(run)
    with ThreadPoolExecutor() as threads:  # decoding and encoding leave Python to others
        shown = cards(run, chosen, there, threads)
    return Report(
        workspace=run.workspace.uri,
        made_at=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        totals=_totals(run, rejects),
        num_clips=_num_rows(run, "clips"),
        cards=shown,
        lines=[_line(result) for result in results(run, there)],
        rejects=rejects,
        stages=_stage_times(run),
        made=_made(run),
        versions=_versions(),
        profile=run.config.profile,
        names=SHORT,
        meanings=MEANINGS,
        yes_or_no=YES_OR_NO,
    )


def sample(run: Run, num: int) -> list[str]:
    """Ids of at most so many clips: as many of each label as there are, up to the same number, smallest ids first."""
    clips = run.workspace.table("clips").read(["clip_id", "label"], run.recipe("clips")).sort_by("clip_id")
    by_label: dict[str | None, list[str]] = {}
    for clip_id, label in zip(clips["clip_id"].to_pylist(), clips["label"].to_pylist(), strict=True):
        by_label.setdefault(label, []).append(clip_id)
    turns = zip_longest(*(by_label[label] for label in sorted(by_label, key=lambda name: (name is None, name or ""))))
    return [clip_id for clip_id in chain.from_iterable(turns) if clip_id is not None][:num]


def _line(result: Result) -> ScoreLine:
    generation, scores = result.generation, result.scores
    return ScoreLine(generation.name, generation.is_current, result.job, scores.num, scores.means, scores.intensity)


def _num_rows(run: Run, name: str) -> int:
    return run.workspace.table(name).recipes().get(run.recipe(name), 0)


def _totals(run: Run, rejects: Sequence[RejectKind]) -> list[tuple[str, int, str]]:
    found = []
    for name, word in _TOTALS.items():
        num = _num_rows(run, name)
        earlier = sum(run.workspace.table(name).recipes().values()) - num
        found.append((word, num, f"{earlier:,} of earlier configurations" if earlier else ""))
    return [*found, ("rejects", sum(kind.num for kind in rejects), "")]


def _rejects(run: Run) -> list[RejectKind]:
    """Rejects under the configuration of today by stage and reason, the most frequent first."""
    recipes = pa.array(sorted({run.recipe(name) for name in run.recipes}))
    rows = run.workspace.table("rejects").read(filter=pc.field(RECIPE).isin(recipes)).to_pylist()
    kinds: dict[tuple[str, str], list[tuple[str, str]]] = {}
    for row in rows:
        what, sentence = row["uri"] or row["id"], row["sentence"]
        bare = sentence.removeprefix(what).removeprefix(": ")
        kinds.setdefault((row["stage"], reason_of(bare)), []).append((what, bare))
    found = [
        RejectKind(stage, reason, len(examples), sorted(examples)[:_MOST_EXAMPLES])
        for (stage, reason), examples in kinds.items()
    ]
    return sorted(found, key=lambda kind: (-kind.num, kind.stage, kind.reason))


def reason_of(sentence: str) -> str:
    """A sentence without the names and numbers in it, so that those about the same fault are the same."""
    return _VARYING.sub("…", sentence)


def _stage_times(run: Run) -> list[StageTime]:
    """What stages took, in the order in which they first ran."""
    runs: dict[str, list[dict[str, Any]]] = {}
    for row in sorted(run.workspace.table("runs").read().to_pylist(), key=lambda row: row["started_at"]):
        runs.setdefault(row["stage"], []).append(row)
    whole = sum(row["took_s"] for each in runs.values() for row in each) or 1.0
    return [_stage_time(stage, each, whole) for stage, each in runs.items()]


def _stage_time(stage: str, runs: list[dict[str, Any]], whole_s: float) -> StageTime:
    last, took_s = runs[-1], sum(row["took_s"] for row in runs)
    return StageTime(
        stage=stage,
        num_runs=len(runs),
        new=sum(row["new"] for row in runs),
        rejected=sum(row["rejected"] for row in runs),
        took_s=took_s,
        share=took_s / whole_s,
        last_rate=(last["new"] + last["rejected"]) / last["took_s"] if last["took_s"] else 0.0,
        last_started=last["started_at"].replace("T", " ").removesuffix("+00:00"),
        stopped=last["stopped"],
    )


def _made(run: Run) -> list[Made]:
    found = []
    for name, recipe in run.recipes.items():
        rows = run.workspace.table(name).recipes() if name in SCHEMAS else None
        found.append(
            Made(
                name=name,
                stage=recipe.stage,
                recipe=recipe.name,
                num=None if rows is None else rows.get(recipe.name, 0),
                num_earlier=0 if rows is None else sum(rows.values()) - rows.get(recipe.name, 0),
                options=json.dumps(recipe.options, sort_keys=True, indent=1) if recipe.options else "",
                models=sorted(recipe.models.items()),
            )
        )
    return found


def _versions() -> list[tuple[str, str]]:
    found = [("Python", sys.version.split()[0])]
    for name in _PACKAGES:
        try:
            found.append((name, version(name)))
        except PackageNotFoundError:
            found.append((name, "not installed"))
    return found
