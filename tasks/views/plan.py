"""Dry run of a build: pending items and estimated time per stage, computed from the tables."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace

import pyarrow as pa

from aai.errors import BadConfig
from tasks import describe_members, list_files
from tasks.describe_members import MemberListing
from tasks.list_files import Listing
from tasks.runtime.estimates import Estimate
from tasks.runtime.run import Run
from tasks.runtime.stage import Stage
from tasks.views.confidence import doubts
from tasks.views.earlier_images import earlier_images
from tasks.views.left_out import left_out
from tasks.views.made_by import explain_stale
from tasks.views.metadata import disputed_contents
from tasks.views.placement import placements
from tasks.views.times import estimate_all

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
    estimate: Estimate = Estimate()
    """The time for the new items, on the workers that the stage would get."""


@dataclass(frozen=True)
class BuildPlan:
    """Counts of all stages of a build."""

    stages: list[StagePlan]
    notes: list[str] = field(default_factory=list)
    """Sentences about changes of the source folders, and about metadata that matches no file."""
    placement: list[str] = field(default_factory=list)
    """Where the stages would work, if there is something to do."""
    times: list[str] = field(default_factory=list)
    """Sentences on the time of all stages together, and on what the estimates follow from."""

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to do."""
        return not any(stage.new for stage in self.stages)


def plan(run: Run) -> BuildPlan:
    """Plan a build; no model is loaded and Ray is not started.

    Raises:
        BadConfig: a location or a model of the configuration does not exist, or a model is damaged.
        Transient: the store failed.
    """
    run.check_models()
    listings = _look(run)
    extra = {f"known_{table}": listing.current for table, listing in listings.items()}
    with run.query(extra=extra) as query:
        extra[_SHARED] = query.table(f"SELECT * FROM {_SHARED}")
    members = _look_at_members(run, listings)
    plans: dict[str, StagePlan] = {}
    for stage in run.stages:
        if stage.command != "build" or not stage.is_needed(run.config):
            continue
        if stage.table in listings:
            stage_plan = _plan_listing(stage, listings[stage.table])
        elif found := members.get(stage.table):
            num_new = found.changes.num_rows
            stage_plan = StagePlan(stage.name, found.num - num_new, num_new, 0, 0)
        elif stage.rows:
            # What a listing found is among the pending items already.
            upstream = [name for name in stage.upstream(run.config)[:1] if name in plans.keys() - listings]
            coming = sum(plans[name].new for name in upstream)
            stage_plan = _plan(run, stage, coming, extra)
            kept = [plans[name].done for name in upstream if run.stage_of(name).outdated_ids(run.config)]
            stage_plan = replace(stage_plan, done=min([stage_plan.done, *kept]))
        else:
            continue
        plans |= dict.fromkeys((stage.table, *stage.also), stage_plan)
    looks: list[Listing | MemberListing] = [*listings.values(), *members.values()]
    notes = [note for one in looks for note in one.notes]
    notes += [*disputed_contents(run, extra), *left_out(run, extra), *_more_notes(run, plans, listings)]
    notes += _notes_on_clips(run, plans, extra)
    planned = BuildPlan(list(dict.fromkeys(plans.values())), notes)
    return planned if planned.is_empty else _with_times(run, planned, plans.keys() - listings)


def _with_times(run: Run, planned: BuildPlan, tables: Collection[str]) -> BuildPlan:
    """A plan with the places and times of its stages; `tables` are those of its stages but the listings."""
    by_name = {stage.name: stage for stage in run.stages}
    work = [(by_name[each.stage], each.new) for each in planned.stages if each.new]
    others = _not_counted(run) if any(stage.table in tables for stage, _ in work) else []
    found, sentences = estimate_all(run, work, others)
    stages = [replace(each, estimate=found.get(each.stage, each.estimate)) for each in planned.stages]
    return replace(planned, stages=stages, placement=_placement(run), times=sentences)


def _placement(run: Run) -> list[str]:
    """Where the stages of a build would work, or why that is not known: a plan needs no cluster."""
    try:
        return placements(run, "build")
    except BadConfig as error:
        return [f"where stages would work is not known: {error}"]


def _more_notes(run: Run, plans: Mapping[str, StagePlan], listings: Mapping[str, Listing]) -> list[str]:
    """Sentences about what the counts leave out, and who made stale rows."""
    unread = sum(plans[table].new for table in ("image_members", "audio_members") if table in plans)
    notes = [f"tars to be read: {unread:,}; each counts as one item until then"] if unread else []
    if any(plans[table].new for table in plans.keys() - listings):
        notes.append(f"not counted: {', '.join(stage.name for stage in _not_counted(run))}")
    return notes + _who_made_stale(run, {each.stage for each in plans.values() if each.stale})


def _notes_on_clips(run: Run, plans: Mapping[str, StagePlan], extra: Mapping[str, pa.Table]) -> list[str]:
    """Sentences about the images of clips, and their confidence."""
    num_coming = plans["image_vectors"].new if "image_vectors" in plans else 0
    return earlier_images(run, num_coming, extra) + doubts(run, extra)


def _not_counted(run: Run) -> list[Stage]:
    """The stages of artifacts, which have no items."""
    return [stage for stage in run.stages if stage.is_needed(run.config) and not stage.schemas]


def metadata_notes(run: Run) -> tuple[list[str], list[str]]:
    """Sentences on metadata that has no effect, or is contradictory; and on one source that corrects another.

    Raises:
        BadConfig: a location of the configuration does not exist, or a metadata table cannot be read.
        Transient: the store failed.
    """
    listings = _look(run)
    members = _look_at_members(run, listings)
    extra = {f"known_{table}": listing.current for table, listing in listings.items()}
    looks: list[Listing | MemberListing] = [*listings.values(), *members.values()]
    warnings = [note for one in looks for note in one.warnings] + disputed_contents(run, extra)
    return warnings, [note for one in looks for note in one.corrections]


def _look(run: Run) -> dict[str, Listing]:
    names = [stage.table for stage in run.stages if stage.table in ("image_listing", "audio_listing")]
    listings: dict[str, Listing] = {}
    for name in sorted(names, reverse=True):  # that of images first
        images = listings.get("image_listing")
        listings[name] = list_files.look(run, name, images.current if images else None)
    return listings


def _look_at_members(run: Run, listings: dict[str, Listing]) -> dict[str, MemberListing]:
    """What is known of the members of tars that were read, where there are any."""
    found = {
        f"{kind}_member_metadata": describe_members.look(run, kind, listings[f"{kind}_listing"].current)
        for kind in ("image", "audio")
        if f"{kind}_listing" in listings
    }
    return {table: listing for table, listing in found.items() if listing.num}


def _plan_listing(stage: Stage, listing: Listing) -> StagePlan:
    return StagePlan(stage.name, listing.num_unchanged, listing.num_to_note, 0, 0)


def _plan(run: Run, stage: Stage, coming: int, extra: dict[str, pa.Table]) -> StagePlan:
    pending = run.pending(stage, extra)
    return StagePlan(
        stage=stage.name,
        done=pending.total - pending.num - pending.rejected,
        new=pending.num + coming,
        stale=sum(_stale(run, stage).values()),
        rejected=pending.rejected,
    )


def _who_made_stale(run: Run, names: set[str]) -> list[str]:
    """Sentences on who made the stale rows of some stages."""
    stale = {stage.name: _stale(run, stage) for stage in run.stages if stage.name in names}
    return explain_stale(run, stale) if stale else []


def _stale(run: Run, stage: Stage) -> dict[str, int]:
    """The number of rows of the stage's table under each other recipe."""
    recipes = run.workspace.table(stage.table).recipes()
    return {recipe: num for recipe, num in recipes.items() if num and recipe != run.recipe(stage.table)}
