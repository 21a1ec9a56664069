"""A cue bank and jobs -> pictures in shards."""

from collections.abc import Sequence

from aai.jobs import Job
from flows.build import Do, at_once
from tasks import render as stage
from tasks.run import Run
from tasks.stage import StageSummary


def render(run: Run, jobs: Sequence[Job], do: Do = at_once) -> list[StageSummary]:
    """Make all pictures that jobs ask for and that are not there; a second call does nothing.

    Raises:
        BadConfig: there are no cues, a job's condition cannot be used, or too much was rejected.
        Transient: the store failed, or a slice failed too often.
    """

    def those(run: Run) -> StageSummary:
        return stage.render(run, jobs)

    return [do("render", those, run)]
