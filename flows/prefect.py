"""Prefect around the steps: a flow with one task per stage, retries, and what the Prefect pages show.

The tables decide what is done, so Prefect caches and persists nothing. It orders stages, retries transient failures and
shows progress; items are Ray's business. This module alone imports Prefect (docs/decisions/0001).
"""

import logging
import os

# Prefect reads these when it is imported; settings of the user have precedence.
os.environ.setdefault("DO_NOT_TRACK", "1")  # no usage reports
os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
os.environ.setdefault("PREFECT_LOGGING_EXTRA_LOGGERS", "aai,tasks")  # our log messages belong to the flow run

from collections.abc import Callable, Iterator  # noqa: E402
from contextlib import closing, contextmanager  # noqa: E402
from contextvars import copy_context  # noqa: E402
from threading import Event, Thread  # noqa: E402
from typing import Any, cast  # noqa: E402
from uuid import UUID  # noqa: E402

import httpx  # noqa: E402
from prefect import flow, get_run_logger, task  # noqa: E402
from prefect.artifacts import (  # noqa: E402
    create_markdown_artifact,
    create_progress_artifact,
    create_table_artifact,
    update_progress_artifact,
)
from prefect.cache_policies import NO_CACHE  # noqa: E402
from prefect.client.orchestration import get_client  # noqa: E402
from prefect.settings import PREFECT_API_URL  # noqa: E402
from prefect.states import Cancelled, State  # noqa: E402
from prefect.utilities.annotations import quote  # noqa: E402

from aai.errors import BadConfig, Transient  # noqa: E402
from aai.format import without_secrets  # noqa: E402
from aai.store_errors import store_errors  # noqa: E402
from flows.steps import Do, Step, build  # noqa: E402
from tasks.runtime.driver import Progress, StageSummary  # noqa: E402
from tasks.runtime.run import Run  # noqa: E402
from tasks.stages import open_file  # noqa: E402
from tasks.views.report import REPORT  # noqa: E402

RETRY_DELAYS_S = [1.0, 10.0, 60.0]
"""Pauses before a stage is retried; its slices have been retried by the pool before that."""

_PROGRESS_S = 1.0
_HEALTH_S = 10.0

_log = logging.getLogger(__name__)

Log = logging.Logger | logging.LoggerAdapter[logging.Logger]
"""The log of a flow run, which its page shows."""

Steps = Callable[[Run, Do], list[StageSummary]]
"""The steps of a flow as a plain function, such as `flows.steps.build`."""


@flow(name="build", persist_result=False)
def build_bank(config: str, changes: dict[str, Any] | None = None) -> State | None:
    """Build the cue bank of a configuration file; `changes` replace keys of it.

    Its parameters are plain values, so it can be served on a schedule:
    `build_bank.serve("nightly", cron="0 2 * * *", parameters={"config": "/data/aai.yaml"})`
    """
    with closing(open_file(config, changes)) as run:
        done = _followed("build", build, run, get_run_logger())
        link_report(run, "build-report")
        return _final_state(done)


def check_server() -> None:
    """Fail early if the configured Prefect server does not answer, or wants another password.

    Raises:
        BadConfig: it does not answer, or refuses us.
    """
    url = PREFECT_API_URL.value()
    try:
        httpx.get(f"{url}/health", timeout=_HEALTH_S).raise_for_status()
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise BadConfig(
            f"nothing answers at {url} ({type(error).__name__}): start `prefect server start` there, or unset it",
            key="PREFECT_API_URL",
        ) from error
    try:
        with get_client(sync_client=True) as client:
            client.api_version()
    except httpx.HTTPStatusError as error:
        if error.response.status_code != httpx.codes.UNAUTHORIZED:
            raise
        raise BadConfig(
            f"the server at {url} wants a password: set it, as `user:password`",
            key="PREFECT_API_AUTH_STRING",
        ) from error


def orchestrate(name: str, steps: Steps, run: Run, log: Log | None = None) -> list[StageSummary]:
    """Run some steps as a flow of that name.

    Args:
        name: the name of the flow.
        steps: what it does.
        run: the run of the configuration.
        log: the log of the flow around it: it gets the counts of the stages, and that flow links the report.

    Raises:
        BadConfig: a stage cannot start, or rejected too much.
        Transient: the store or the Prefect server failed, or a slice failed too often.
    """
    done: list[StageSummary] = []

    def follow(workspace: str) -> State | None:
        done.extend(_followed(name, steps, run, log or get_run_logger()))
        if log is None:
            link_report(run, f"{_key(name)}-report")
        return _final_state(done)

    followed = flow(name=name, persist_result=False)(follow)
    try:
        state = followed(run.workspace.uri, return_state=True)
        if not state.is_cancelled():
            state.result()
    except httpx.HTTPError as error:
        raise Transient(
            f"the Prefect server failed ({_described(error)}): finished work is committed; look at the "
            "server (PREFECT_API_URL), then run the same command again"
        ) from error
    return done


def as_task(name: str, step: Step, run: Run) -> StageSummary:
    """Run a step as a Prefect task, which is retried after `Transient` only."""

    def shown(run: Run) -> StageSummary:
        with _watched(run):
            summary = step(run)
        if summary.new or summary.rejected:
            with _optional(f"what {name} did"):
                create_table_artifact([_row(summary)], f"{_key(name)}-counts", f"What `{name}` did")
        return summary

    staged = task(
        name=name,
        retries=len(RETRY_DELAYS_S),
        retry_delay_seconds=RETRY_DELAYS_S,
        retry_condition_fn=_is_transient,
        cache_policy=NO_CACHE,
        persist_result=False,
    )(shown)
    return staged(cast(Run, quote(run)))  # quoted, because Prefect would look for futures inside it


def link_report(run: Run, key: str) -> None:
    """Show on the page of the flow run at work where the report of the workspace is, as the artifact `key`."""
    with _optional("the report"):
        create_markdown_artifact(_report(run), key, "The report of the workspace")


def _followed(name: str, steps: Steps, run: Run, log: Log) -> list[StageSummary]:
    def logged(stage: str, step: Step, run: Run) -> StageSummary:
        summary = as_task(stage, step, run)
        log.info(_line(summary))
        return summary

    done = steps(run, logged)
    with _optional(f"what {name} did"):
        rows = [_row(summary) for summary in done]
        create_table_artifact(rows, f"{_key(name)}-stages", "Counts and rates per stage")
    return done


def _described(error: Exception) -> str:
    return f"{type(error).__name__}: {without_secrets(str(error))}"


def _final_state(done: list[StageSummary]) -> State | None:
    if any(summary.stopped for summary in done):
        return Cancelled(message="stopped before all was done; the next run does the rest")
    return None


def _is_transient(task: Any, task_run: Any, state: State) -> bool:
    return isinstance(state.result(raise_on_failure=False), Transient)


@contextmanager
def _optional(what: str) -> Iterator[None]:
    """Prefect is optional: if its server does not answer, log and continue."""
    try:
        yield
    except httpx.HTTPError as error:
        _log.warning("Prefect does not show %s (%s)", what, _described(error))


@contextmanager
def _watched(run: Run) -> Iterator[None]:
    """Report the progress of the stage at work to Prefect, too."""
    before, reporters = run.watch, list[ProgressReporter]()

    def watch(stage: str) -> Progress:
        reporters.append(reporter := ProgressReporter(stage, f"{_key(stage)}-progress"))
        other = before(stage) if before else None

        def update(finished: int, total: int, rate: float) -> None:
            reporter.update(finished, total, rate)
            if other:
                other(finished, total, rate)

        return update

    run.watch = watch
    try:
        yield
    finally:
        run.watch = before
        for reporter in reporters:
            reporter.close()


class ProgressReporter:
    """Writes a stage's progress artifact at most once per second, from its own thread.

    A slow server thus does not slow down a stage.
    """

    def __init__(self, stage: str, key: str) -> None:
        self._stage, self._key = stage, key
        self._newest: tuple[int, int, float] | None = None
        self._closed = Event()
        # A new thread has an empty context; this one has the task run and the server.
        self._thread = Thread(target=copy_context().run, args=(self._report,), daemon=True)

    def update(self, finished: int, total: int, rate: float) -> None:
        """Take in the number of finished items, their total, and the rate per second."""
        self._newest = (finished, total, rate)
        if not self._thread.ident:
            self._thread.start()

    def close(self) -> None:
        """Write the last state, and end."""
        self._closed.set()
        if self._thread.ident:
            self._thread.join()

    def _report(self) -> None:
        written: tuple[int, int, float] | None = None
        artifact_id: UUID | None = None
        with _optional(f"the progress of {self._stage}"):
            while not (self._closed.wait(_PROGRESS_S if written else 0) and written == self._newest):
                if self._newest and written != self._newest:
                    written = self._newest
                    artifact_id = self._write(artifact_id, *written)

    def _write(self, artifact_id: UUID | None, finished: int, total: int, rate: float) -> UUID:
        percent = 100 * finished / total
        text = f"`{self._stage}`: {finished:,} of {total:,} items, {rate:,.1f}/s"
        if artifact_id is None:
            return cast(UUID, create_progress_artifact(percent, self._key, text))
        return cast(UUID, update_progress_artifact(artifact_id, percent, text))


def _row(summary: StageSummary) -> dict[str, Any]:
    return {
        "stage": summary.stage,
        "before": summary.done,
        "new": summary.new,
        "rejected": summary.rejected,
        "seconds": round(summary.took_s, 2),
        "per second": round(summary.rate, 1),
    }


def _line(summary: StageSummary) -> str:
    counts = f"{summary.new:,} new, {summary.rejected:,} rejected, {summary.done:,} done before"
    end = "; stopped before all was done" if summary.stopped else ""
    return f"{summary.stage}: {counts}, {summary.took_s:,.1f} s{end}"


def _report(run: Run) -> str:
    store = run.workspace.store
    with store_errors(f"looking for {REPORT}"):
        if store.filesystem.exists(store.path(REPORT)):
            return f"[{REPORT}]({store.uri(REPORT)}), as `aai report` or a nightly run last wrote it"
    return f"There is no report in {store.root} yet: `aai report` writes it."


def _key(name: str) -> str:
    """A name in the form that Prefect allows for artifacts."""
    return name.replace("_", "-")
