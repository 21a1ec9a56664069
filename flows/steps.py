"""The steps of a run, in order: build a cue bank, render its jobs, score the pictures."""

from collections.abc import Callable, Sequence

from aai.errors import BadConfig
from aai.jobs.job import Job
from tasks import index
from tasks import render as render_stage
from tasks import score as score_stage
from tasks.align import align
from tasks.embed import embed_audio, embed_images
from tasks.fit import fit
from tasks.ingest import ingest_audio, ingest_images
from tasks.retrieve import retrieve_images
from tasks.runtime.driver import StageSummary
from tasks.runtime.run import Run
from tasks.train_mapper import learn

Stage = Callable[[Run], StageSummary]
"""Does all of one stage that is not done yet."""

Do = Callable[[str, Stage, Run], StageSummary]
"""Has a stage, given with its name, done for a run: at once, or as a task of Prefect's."""

STAGES: dict[str, Stage] = {
    "ingest_images": ingest_images,
    "ingest_audio": ingest_audio,
    "embed_images": embed_images,
    "embed_audio": embed_audio,
    "index": index.build,
    "align": align,
    "retrieve": retrieve_images,
    "learn": learn,
    "fit": fit,
}
"""In order; each reads the tables of those before it."""


def at_once(name: str, stage: Stage, run: Run) -> StageSummary:
    """Do a stage here and now, which needs no Prefect."""
    return stage(run)


def build(run: Run, do: Do = at_once) -> list[StageSummary]:
    """Do all that is not done yet; a second call does nothing.

    Raises:
        BadConfig: a stage cannot start, or rejected too much.
        Transient: the store failed, or a slice failed too often.
    """
    for key in ("audio", "images"):
        if not getattr(run.config, key):
            raise BadConfig(f"{key}: no place is named: name folders, globs or tars")
    done = []
    for name, stage in STAGES.items():
        done.append(do(name, stage, run))
        if done[-1].stopped:
            break
    return done


def render(run: Run, jobs: Sequence[Job], do: Do = at_once) -> list[StageSummary]:
    """Make all pictures that jobs ask for and that are not there; a second call does nothing.

    Raises:
        BadConfig: there are no cues, a job's condition cannot be used, or too much was rejected.
        Transient: the store failed, or a slice failed too often.
    """

    def those(run: Run) -> StageSummary:
        return render_stage.render(run, jobs)

    return [do("render", those, run)]


def score(run: Run, do: Do = at_once) -> list[StageSummary]:
    """Measure all pictures of the configuration that have no scores; a second call does nothing.

    Raises:
        BadConfig: a model cannot be loaded, or too much was rejected.
        Transient: the store failed, or a slice failed too often.
    """
    return [do("score", score_stage.score, run)]
