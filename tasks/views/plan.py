"""What a build would do: told from ids and the log of earlier runs, without a model and without Ray."""

from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from tasks.ingest import audio_source, image_source
from tasks.runtime.run import PLANS, Run, rates
from tasks.runtime.tables import Source, TableSource

_SOURCES = {
    "audio_vectors": "clips",
    "image_vectors": "images",
    "aligned_vectors": "audio_vectors",
    "neighbours": "aligned_vectors",
    "cues": "neighbours",
}
"""Whose items a table's are."""


@dataclass(frozen=True)
class StagePlan:
    """How things stand with one stage."""

    stage: str
    done: int
    """Items with rows under the recipe of today."""
    new: int
    """Items still to be done, with those that come from stages above; of files, not of clips, where these are cut."""
    stale: int
    """Rows under recipes of before; they stay readable."""
    rejected: int
    estimate_s: float | None
    """How long the new ones will take, at the rate of the last run of this stage; none without one."""


def plan(run: Run) -> list[StagePlan]:
    """How things stand with every stage of a build.

    Raises:
        BadConfig: a place or a model of the configuration does not exist.
        Transient: the store failed.
    """
    known = rates(run)
    plans: dict[str, StagePlan] = {}
    for table, source in (("images", image_source(run)), ("clips", audio_source(run))):
        plans[table] = _plan(run, table, source, "files", 0, known)
    for table, above in _SOURCES.items():
        rows = TableSource(run.workspace, above, run.recipe(above))
        plans[table] = _plan(run, table, rows, table, plans[above].new, known)
    return list(plans.values())


def _plan(run: Run, table: str, source: Source, sink: str, coming: int, rates: dict[str, float]) -> StagePlan:
    recipe, stage = run.recipe(table), PLANS[table].stage
    ids = pc.unique(source.ids())
    there = run.workspace.table(sink).recipes()
    rejects = pc.unique(run.workspace.table("rejects").ids(recipe))
    new = len(run.workspace.undone(pa.chunked_array([ids]), sink, recipe)) + coming
    rate = rates.get(stage)
    return StagePlan(
        stage=stage,
        done=there.get(recipe, 0),
        new=new,
        stale=_stale(run, stage, recipe, there),
        rejected=len(rejects),
        estimate_s=new / rate if rate else None,
    )


def _stale(run: Run, stage: str, recipe: str, there: dict[str, int]) -> int:
    """Rows of the same stage under other recipes: `files` belong to two stages."""
    rows = run.workspace.table("recipes").read(["stage", "recipe"]).to_pylist()
    others = {row["recipe"] for row in rows if row["stage"] == stage and row["recipe"] != recipe}
    return sum(num for name, num in there.items() if name in others)
