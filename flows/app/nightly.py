"""The flow that Prefect's deployments run: bank, pictures, scores and report, and nothing of it twice."""

from contextlib import closing

from prefect import flow
from prefect.states import Cancelled, State

from aai.jobs.jobfile import load_jobs
from aai.yaml_reader import parse_yaml
from flows.app.report import report
from flows.prefect import as_task, orchestrate
from flows.steps import build, render, score
from tasks.render import RenderSectionOptions
from tasks.runtime.driver import StageSummary
from tasks.runtime.run import Run
from tasks.stages import load_config, open_run


@flow(name="nightly", persist_result=False)
def nightly(config: str, jobs: str = "", changes: str = "{}") -> State | None:
    """Build the cue bank, render a job file, score the pictures, and write the report.

    Args:
        config: the configuration file.
        jobs: the job file; without one no pictures are rendered.
        changes: keys of the configuration that are replaced, as YAML, such as `{fit: {steps: 3}}`.
    """
    with closing(open_run(load_config(config, parse_yaml(changes)))) as run:
        done = orchestrate("build", build, run)
        if jobs and not _is_stopped(done):
            done += _pictures(run, jobs)
        if _is_stopped(done):
            return Cancelled(message="stopped before all was done; the next run does the rest")
        as_task("report", _report, run)
        return None


def _pictures(run: Run, jobs: str) -> list[StageSummary]:
    loaded = load_jobs(jobs, run.config.options(RenderSectionOptions).of_jobs)
    done = orchestrate("render", lambda run, do: render(run, loaded, do), run)
    return done if _is_stopped(done) else done + orchestrate("score", score, run)


def _report(run: Run) -> StageSummary:
    report(run)
    return StageSummary.nothing("report", "", done=1)


def _is_stopped(done: list[StageSummary]) -> bool:
    return any(summary.stopped for summary in done)
