"""Dry run of a build: pending items and estimated time per stage, computed from the tables."""

from dataclasses import dataclass, field

import pyarrow as pa

from tasks import list_files
from tasks.list_files import Listing
from tasks.runtime.run import Run
from tasks.runtime.stage import Stage

_SHARED = "present_audio_ids"
"""A view that several stages read, so it is computed once for all of them."""


@dataclass(frozen=True)
class StagePlan:
    """Counts of one stage."""

    stage: str
    done: int
    """Items with rows under the current recipe."""
    new: int
    """Items still to be processed: pending items, and the new items of the stage before it."""
    stale: int
    """Rows under earlier recipes; they stay readable."""
    rejected: int
    estimate_s: float | None
    """Estimated time for the new items in seconds, at the rate of the last run; None without one."""


@dataclass(frozen=True)
class BuildPlan:
    """Counts of all stages of a build."""

    stages: list[StagePlan]
    notes: list[str] = field(default_factory=list)
    """Sentences about changes of the source folders, and about metadata that matches no file."""

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to do."""
        return not any(stage.new for stage in self.stages)


def plan(run: Run) -> BuildPlan:
    """Plan a build; no model is loaded and Ray is not started.

    Raises:
        BadConfig: a location or a model of the configuration does not exist.
        Transient: the store failed.
    """
    rates, listings = run.rates(), _look(run)
    extra = {f"known_{table}": listing.current for table, listing in listings.items()}
    with run.query(extra=extra) as query:
        extra[_SHARED] = query.table(f"SELECT * FROM {_SHARED}")
    plans: dict[str, StagePlan] = {}
    for stage in run.stages:
        if stage.command != "build" or not stage.is_needed(run.config):
            continue
        if stage.table in listings:
            stage_plan = _plan_listing(stage, listings[stage.table])
        elif stage.rows:
            # What a listing found is among the pending items already.
            upstream = [plans[name].new for name in stage.upstream(run.config)[:1] if name in plans.keys() - listings]
            stage_plan = _plan(run, stage, sum(upstream), rates.get(stage.name), extra)
        else:
            continue
        plans |= dict.fromkeys((stage.table, *stage.also), stage_plan)
    notes = [note for listing in listings.values() for note in listing.notes]
    return BuildPlan(list(dict.fromkeys(plans.values())), notes)


def _look(run: Run) -> dict[str, Listing]:
    names = [stage.table for stage in run.stages if stage.table in ("image_listing", "audio_listing")]
    return {name: list_files.look(run, name) for name in names}


def _plan_listing(stage: Stage, listing: Listing) -> StagePlan:
    return StagePlan(stage.name, listing.num_unchanged, listing.changes.num_rows, 0, 0, None)


def _plan(run: Run, stage: Stage, coming: int, rate: float | None, extra: dict[str, pa.Table]) -> StagePlan:
    pending = run.pending(stage, extra)
    new = pending.num + coming
    return StagePlan(
        stage=stage.name,
        done=pending.total - pending.num - pending.rejected,
        new=new,
        stale=_num_stale(run, stage),
        rejected=pending.rejected,
        estimate_s=new / rate if rate else None,
    )


def _num_stale(run: Run, stage: Stage) -> int:
    """Rows of the stage's table under other recipes."""
    recipes = run.workspace.table(stage.table).recipes()
    return sum(num for recipe, num in recipes.items() if recipe != run.recipe(stage.table))
