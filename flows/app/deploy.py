"""`aai deploy`: a scheduled deployment on the Prefect server, with what ends runs whose process has died."""

import asyncio
import json
import os
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal

from prefect.automations import Automation
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.client.schemas.objects import StateType
from prefect.client.schemas.schedules import CronSchedule
from prefect.events.actions import ChangeFlowRunState
from prefect.events.schemas.automations import EventTrigger, Posture
from prefect.exceptions import ObjectNotFound
from pydantic import ValidationError

from aai.errors import BadConfig
from aai.jobs.jobfile import load_jobs
from flows.infra import FOLDER
from flows.prefect import check_server
from tasks.render import RenderSectionOptions
from tasks.stages import load_config

DEPLOYMENT = "nightly/nightly"
"""Names of the flow and of the deployment."""

Kind = Literal["process", "kubernetes"]

_ZOMBIES = "aai: a run without heartbeats has crashed"
_SILENCE_S = 300
"""Ten heartbeats, as prefect.yaml sets them: none arrives while the server is away, and the run is at work."""

_ENDS = ("Completed", "Failed", "Cancelled", "Crashed")


def deploy(config: Path, changes: dict[str, Any], jobs: Path | None, cron: str, pool: str, kind: Kind) -> None:
    """Create or replace the deployment; create its work pool and the automation if they are not there.

    Raises:
        BadConfig: an option is wrong, there is no server, or Prefect refuses the deployment.
    """
    _check(config, changes, jobs, cron)
    if not os.environ.get("PREFECT_API_URL"):
        raise BadConfig("it is not set: start `prefect server start`, then set it", key="PREFECT_API_URL")
    check_server()
    _make_pool(pool, kind)
    _make_automation()
    values = {
        "AAI_CONFIG": str(config.absolute()),
        "AAI_JOBS": str(jobs.absolute()) if jobs else "",
        "AAI_CHANGES": json.dumps(changes),
        "AAI_CRON": cron,
        "AAI_POOL": pool,
        "AAI_FOLDER": str(config.absolute().parent),
    }
    file = FOLDER / "prefect" / "prefect.yaml"
    command = [sys.executable, "-m", "prefect", "--no-prompt", "deploy", "--all", "--prefect-file", str(file)]
    done = subprocess.run(command, env=os.environ | values, capture_output=True, text=True, check=False)
    if done.returncode:
        said = " ".join((done.stderr or done.stdout).split())
        raise BadConfig(f"Prefect refuses the deployment: {said}", key="aai deploy")


def _check(config: Path, changes: dict[str, Any], jobs: Path | None, cron: str) -> None:
    """Check what can be checked without a server.

    Raises:
        BadConfig: the schedule is wrong, or the job file is, or it is not there.
    """
    try:
        CronSchedule(cron=cron)
    except ValidationError as error:
        raise BadConfig(
            f"{cron!r} is no schedule: give minute, hour, day, month and weekday, such as '0 2 * * *'", key="--cron"
        ) from error
    if jobs:
        load_jobs(jobs, load_config(config, changes).options(RenderSectionOptions).of_jobs)


def _make_pool(name: str, kind: Kind) -> None:
    with get_client(sync_client=True) as client:
        try:
            found = client.read_work_pool(name)
        except ObjectNotFound:
            client.create_work_pool(WorkPoolCreate(name=name, type=kind))
            return
    if found.type != kind:
        raise BadConfig(
            f"the work pool {name} is of kind {found.type}: name another, or use --kind {found.type}", key="--pool"
        )


def _make_automation() -> None:
    """Mark a run as crashed whose process sends no heartbeat any more; without it, it would hold the place for ever."""
    try:
        asyncio.run(Automation.aread(name=_ZOMBIES))
    except ValueError:
        beat = "prefect.flow-run.heartbeat"
        trigger = EventTrigger(
            after={beat, "prefect.flow-run.Running"},  # a process may die before its first heartbeat
            expect={beat, *(f"prefect.flow-run.{state}" for state in _ENDS)},
            match={"prefect.resource.id": ["prefect.flow-run.*"]},
            match_related={"prefect.resource.role": "flow", "prefect.resource.name": "nightly"},
            for_each={"prefect.resource.id"},
            posture=Posture.Proactive,
            threshold=1,
            within=timedelta(seconds=_SILENCE_S),
        )
        crash = ChangeFlowRunState(state=StateType.CRASHED, message="no heartbeat: its process has died")
        asyncio.run(Automation(name=_ZOMBIES, trigger=trigger, actions=[crash]).acreate())
