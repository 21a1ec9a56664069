"""The steps of a run, in order: build a cue bank, render its jobs, score the pictures."""

import logging
from collections.abc import Callable, Sequence

from aai.errors import BadConfig
from aai.jobs.job import Job
from tasks import render as render_stage
from tasks import score as score_stage
from tasks.index import INDEX
from tasks.render_source import RenderSource
from tasks.runtime.driver import StageSummary
from tasks.runtime.run import Run
from tasks.runtime.stage import Stage
from tasks.views.earlier_images import earlier_images
from tasks.views.left_out import left_out
from tasks.views.metadata import disputed_contents

_log = logging.getLogger(__name__)

Step = Callable[[Run], StageSummary]
"""Does all of one stage that is not done yet."""

Do = Callable[[str, Step, Run], StageSummary]
"""Runs a step, given with its name: at once, or as a Prefect task."""


def at_once(name: str, step: Step, run: Run) -> StageSummary:
    """Run a step here and now, without Prefect."""
    return step(run)


def check_sources(run: Run) -> None:
    """Check that the configuration names recordings and images.

    Raises:
        BadConfig: it does not.
    """
    for key in ("audio", "images"):
        if not getattr(run.config, key):
            raise BadConfig("no location is named: name folders, globs or tars", key=key)


def build(run: Run, do: Do = at_once) -> list[StageSummary]:
    """Build the cue bank: everything that is not done yet; a second call does nothing.

    Raises:
        BadConfig: a stage cannot start, or rejected too much.
        Transient: the store failed, or a slice failed too often.
    """
    check_sources(run)
    done = []
    for stage in run.stages:
        if stage.command == "build" and stage.is_needed(run.config):
            done.append(do(stage.name, _step(stage), run))
            if done[-1].stopped:
                break
    has_new_images = any(summary.stage == INDEX.name and summary.new for summary in done)
    for note in [*disputed_contents(run), *left_out(run), *(earlier_images(run) if has_new_images else ())]:
        _log.warning(note)
    return done


def _step(stage: Stage) -> Step:
    return lambda run: run.do(stage)


def render(run: Run, jobs: Sequence[Job], do: Do = at_once, source: RenderSource | None = None) -> list[StageSummary]:
    """Render all pictures that jobs ask for and that are not there; a second call does nothing.

    Raises:
        BadConfig: there are no cues, a job's condition cannot be used, or too much was rejected.
        Transient: the store failed, or a slice failed too often.
    """
    return [do("render", lambda run: render_stage.render(run, jobs, source), run)]


def score(run: Run, do: Do = at_once) -> list[StageSummary]:
    """Measure all pictures of the configuration that have no scores; a second call does nothing.

    Raises:
        BadConfig: a model cannot be loaded, or too much was rejected.
        Transient: the store failed, or a slice failed too often.
    """
    return [do("score", score_stage.score, run)]
