"""The flow that Prefect's deployments run: bank, pictures, scores and report, and nothing of it twice."""

from contextlib import closing
from datetime import datetime
from uuid import UUID

from prefect import flow, get_run_logger, runtime
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowRunFilter
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.states import Cancelled, State

from aai.jobs.jobfile import load_jobs
from aai.yaml_reader import parse_yaml
from flows.app.report import report
from flows.prefect import as_task, link_report, orchestrate
from flows.steps import build, render, score
from tasks.render import RenderSectionOptions
from tasks.runtime.driver import StageSummary
from tasks.runtime.run import Run
from tasks.stages import open_file


@flow(name="nightly", persist_result=False)
def nightly(config: str, jobs: str = "", changes: str = "{}") -> State | None:
    """Build the cue bank, render a job file, score the pictures, and write the report.

    Args:
        config: the configuration file.
        jobs: the job file; without one no pictures are rendered.
        changes: keys of the configuration that are replaced, as YAML, such as `{fit: {steps: 3}}`.
    """
    if first := _run_at_work():
        return Cancelled(message=f"left out: the run {first.name} is still at work")
    with closing(open_file(config, parse_yaml(changes))) as run:
        done = orchestrate("build", build, run, get_run_logger())
        if jobs and not _is_stopped(done):
            done += _pictures(run, jobs)
        if _is_stopped(done):
            return Cancelled(message="stopped before all was done; the next run does the rest")
        as_task("report", _report, run)
        link_report(run, "nightly-report")
        return None


def _run_at_work() -> FlowRun | None:
    """Another run of this deployment that began before this one and has not ended.

    Prefect's own limit of a deployment does not do: the server keeps its leases in memory, so the run at work crashes a
    few minutes after a restart of the server.
    """
    if not runtime.deployment.id:
        return None
    at_work = {"type": {"any_": [StateType.RUNNING, StateType.CANCELLING]}}
    wanted = FlowRunFilter.model_validate({"deployment_id": {"any_": [runtime.deployment.id]}, "state": at_work})
    with get_client(sync_client=True) as client:
        runs = client.read_flow_runs(flow_run_filter=wanted)
    first = min(runs, key=_order, default=None)
    return first if first and str(first.id) != runtime.flow_run.id else None


def _order(run: FlowRun) -> tuple[datetime, UUID]:
    assert run.state  # by which it was found
    return run.state.timestamp, run.id


def _pictures(run: Run, jobs: str) -> list[StageSummary]:
    loaded = load_jobs(jobs, run.config.options(RenderSectionOptions).of_jobs)
    log = get_run_logger()
    done = orchestrate("render", lambda run, do: render(run, loaded, do), run, log)
    return done if _is_stopped(done) else done + orchestrate("score", score, run, log)


def _report(run: Run) -> StageSummary:
    report(run)
    return StageSummary.nothing("report", "", done=1)


def _is_stopped(done: list[StageSummary]) -> bool:
    return any(summary.stopped for summary in done)
