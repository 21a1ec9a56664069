"""Prefect around the stages: a flow of one task per stage, its retries, and what its pages show.

The tables say what is done, so Prefect caches and keeps nothing. It orders, tries again what failed in passing, and
shows; items are Ray's affair. This module and `flows.app.server` alone know Prefect: `docs/decisions/0001` says why.
"""

import os

# Read by Prefect as it is imported; the user's own settings go first.
os.environ.setdefault("DO_NOT_TRACK", "1")  # no reports to Prefect's makers
os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
os.environ.setdefault("PREFECT_LOGGING_EXTRA_LOGGERS", "aai,tasks")  # our log stands with the run's

from collections.abc import Callable, Iterator  # noqa: E402
from contextlib import contextmanager  # noqa: E402
from functools import wraps  # noqa: E402
from typing import Any, cast  # noqa: E402

import httpx  # noqa: E402
from prefect import flow, task  # noqa: E402
from prefect.artifacts import create_markdown_artifact, create_table_artifact  # noqa: E402
from prefect.cache_policies import NO_CACHE  # noqa: E402
from prefect.states import Cancelled, State  # noqa: E402
from prefect.utilities.annotations import quote  # noqa: E402

from aai.errors import Transient  # noqa: E402
from aai.workspace.store import store_errors  # noqa: E402
from flows.progress import ProgressTeller, left_out  # noqa: E402
from flows.steps import Do, Stage, build  # noqa: E402
from tasks.runtime.config import load_config  # noqa: E402
from tasks.runtime.driver import Progress, StageSummary  # noqa: E402
from tasks.runtime.run import Run, open_run  # noqa: E402
from tasks.views.report import REPORT  # noqa: E402

RETRY_DELAYS_S = [1.0, 10.0, 60.0]
"""Pauses before a stage is tried again; the pool has retried its slices before that."""

Steps = Callable[[Run, Do], list[StageSummary]]
"""A flow's steps, as a plain function: `flows.steps.build` is one."""


@flow(name="build", persist_result=False)
def build_bank(config: str, changes: dict[str, Any] | None = None) -> State | None:
    """Make the cue bank of a configuration file; `changes` are keys of it with other values.

    Its parameters are plain, so it can be served:
    `build_bank.serve("nightly", cron="0 2 * * *", parameters={"config": "/data/aai.yaml"})`
    """
    return _ending(_followed("build", build, open_run(load_config(config, changes))))


def orchestrate(name: str, steps: Steps, run: Run) -> list[StageSummary]:
    """Follow some steps as a flow of that name.

    Raises:
        BadConfig: a stage cannot start, or rejected too much.
        Transient: the store or Prefect's server failed, or a slice failed too often.
    """
    done: list[StageSummary] = []

    def follow(workspace: str) -> State | None:
        done.extend(_followed(name, steps, run))
        return _ending(done)

    followed = flow(name=name, persist_result=False)(follow)
    try:
        state = followed(run.workspace.uri, return_state=True)
        if not state.is_cancelled():
            state.result()
    except httpx.HTTPError as error:
        raise Transient(
            f"Prefect's server failed ({type(error).__name__}: {error}): what is finished is committed; look at the "
            "server (PREFECT_API_URL), then run the same command again"
        ) from error
    return done


def as_task(name: str, stage: Stage, run: Run) -> StageSummary:
    """Do a stage as a task of Prefect's, which is tried again after `Transient` alone."""

    @wraps(stage)
    def shown(run: Run) -> StageSummary:
        with _watched(run):
            done = stage(run)
        if done.new or done.rejected:
            with left_out(f"what {name} did"):
                create_table_artifact([_row(done)], f"{_key(name)}-counts", f"What `{name}` did")
        return done

    staged = task(
        name=name,
        retries=len(RETRY_DELAYS_S),
        retry_delay_seconds=RETRY_DELAYS_S,
        retry_condition_fn=_is_transient,
        cache_policy=NO_CACHE,
        persist_result=False,
    )(shown)
    return staged(cast(Run, quote(run)))  # quoted, as Prefect would look for futures in every part of it


def _followed(name: str, steps: Steps, run: Run) -> list[StageSummary]:
    done = steps(run, as_task)
    with left_out(f"what {name} did"):
        create_table_artifact([_row(each) for each in done], f"{_key(name)}-stages", "Counts and rates per stage")
        create_markdown_artifact(_report(run), f"{_key(name)}-report", "The report of the workspace")
    return done


def _ending(done: list[StageSummary]) -> State | None:
    if any(each.stopped for each in done):
        return Cancelled(message="told to stop before all was done; the next run does the rest")
    return None


def _is_transient(task: Any, task_run: Any, state: State) -> bool:
    return isinstance(state.result(raise_on_failure=False), Transient)


@contextmanager
def _watched(run: Run) -> Iterator[None]:
    """Tell Prefect, besides whoever is told already, how far the stage at work is."""
    before, tellers = run.watch, list[ProgressTeller]()

    def watch(stage: str) -> Progress:
        tellers.append(teller := ProgressTeller(stage, f"{_key(stage)}-progress"))
        others = before(stage) if before else None

        def tell(finished: int, total: int, rate: float) -> None:
            teller.tell(finished, total, rate)
            if others:
                others(finished, total, rate)

        return tell

    run.watch = watch
    try:
        yield
    finally:
        run.watch = before
        for each in tellers:
            each.close()


def _row(done: StageSummary) -> dict[str, Any]:
    return {
        "stage": done.stage,
        "before": done.done,
        "new": done.new,
        "rejected": done.rejected,
        "seconds": round(done.took_s, 2),
        "per second": round(done.rate, 1),
    }


def _report(run: Run) -> str:
    store = run.workspace.store
    with store_errors(f"looking for {REPORT}"):
        if store.filesystem.exists(store.path(REPORT)):
            return f"[{REPORT}]({store.uri(REPORT)})"
    return f"There is no report in {store.root} yet: `aai report` writes it."


def _key(name: str) -> str:
    """A name as Prefect allows it for an artifact."""
    return name.replace("_", "-")
