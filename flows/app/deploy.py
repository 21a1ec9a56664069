"""`aai deploy`: a scheduled deployment on the Prefect server, with what ends runs whose process has died."""

import asyncio
import json
import os
import re
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal

from prefect.automations import Automation
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import DeploymentUpdate, WorkPoolCreate
from prefect.client.schemas.objects import StateType
from prefect.events.actions import ChangeFlowRunState
from prefect.events.schemas.automations import EventTrigger, Posture
from prefect.exceptions import ObjectNotFound

from aai.errors import BadConfig
from aai.jobs.jobfile import load_jobs
from flows.app.pods import check_pods, job_variables, pool_template
from flows.infra import FOLDER
from flows.prefect import check_server
from flows.schedules import check_schedule
from tasks.render import RenderSectionOptions
from tasks.stages import load_config

FLOW = "nightly"
"""Name of the flow; a deployment is called `nightly/NAME`."""

Kind = Literal["process", "kubernetes"]

_ZOMBIES = "aai: a run without heartbeats has crashed"
_SILENCE_S = 300
"""Ten heartbeats, as prefect.yaml sets them: none arrives while the server is away, and the run is at work."""

_ENDS = ("Completed", "Failed", "Cancelled", "Crashed")


def deploy(  # noqa: PLR0913
    name: str, config: Path, changes: dict[str, Any], jobs: Path | None, cron: str, pool: str, kind: Kind
) -> list[str]:
    """Create or replace a deployment; create its work pool and the automation if they are not there.

    Returns: sentences on the deployment of that name that it replaced, if it was another one.

    Raises:
        BadConfig: an option is wrong, there is no server, or Prefect refuses the deployment.
    """
    _check(name, config, changes, jobs, cron, pool)
    if kind == "kubernetes":
        check_pods(config, changes, jobs)
    if not os.environ.get("PREFECT_API_URL"):
        raise BadConfig("it is not set: start `prefect server start`, then set it", key="PREFECT_API_URL")
    check_server()
    _make_pool(pool, kind)
    _make_automation()
    values = {
        "AAI_NAME": name,
        "AAI_CONFIG": str(config.absolute()),
        "AAI_JOBS": str(jobs.absolute()) if jobs else "",
        "AAI_CHANGES": without_placeholders(changes),
        "AAI_CRON": cron,
        "AAI_POOL": pool,
        "AAI_FOLDER": str(config.absolute().parent),
    }
    before = _scheduled(name)
    _deploy(values)
    if kind == "kubernetes":
        _give_pods(name, job_variables(config, changes))
    return _replaced(before, _scheduled(name)) if before else []


def without_placeholders(changes: dict[str, Any]) -> str:
    """Changed keys as YAML in which Prefect, which fills in what is in double braces, finds nothing to fill in."""
    return json.dumps(changes).replace("{{", "{\\u007b")


def _deploy(values: dict[str, str]) -> None:
    file = FOLDER / "prefect" / "prefect.yaml"
    command = [sys.executable, "-m", "prefect", "--no-prompt", "deploy", "--all", "--prefect-file", str(file)]
    done = subprocess.run(command, env=os.environ | values, capture_output=True, text=True, check=False)
    if done.returncode:
        said = " ".join((done.stderr or done.stdout).split())
        raise BadConfig(f"Prefect refuses the deployment: {said}", key="aai deploy")


def _scheduled(name: str) -> dict[str, str] | None:
    """What a deployment does, by the options of `aai deploy`; None if there is none of that name."""
    with get_client(sync_client=True) as client:
        try:
            found = client.read_deployment_by_name(f"{FLOW}/{name}")
        except ObjectNotFound:
            return None
    options = {f"--{key}": str(found.parameters.get(key, "")) for key in ("config", "jobs")}
    options["--set"] = str(found.parameters.get("changes", ""))
    options["--cron"] = ", ".join(getattr(each.schedule, "cron", str(each.schedule)) for each in found.schedules)
    return options | {"--pool": found.work_pool_name or ""}


def _replaced(before: dict[str, str], after: dict[str, str] | None) -> list[str]:
    """Sentences on what a deployment that was replaced did otherwise."""
    changed = {key for key, value in (after or {}).items() if before[key] != value}
    lines = [f"{key} was {_shown(before[key])}, now {_shown((after or {})[key])}" for key in before if key in changed]
    if "--config" in changed:
        lines[0] = f"this replaces the schedule of {before['--config']}: give one of them another --name to have both"
    return lines


def _shown(value: str) -> str:
    return repr(value) if value not in ("", "{}") else "not given"


def _give_pods(name: str, variables: dict[str, Any]) -> None:
    """Add what pods need to the variables of a deployment."""
    with get_client(sync_client=True) as client:
        found = client.read_deployment_by_name(f"{FLOW}/{name}")
        variables["env"] = found.job_variables.get("env", {}) | variables["env"]
        client.update_deployment(found.id, DeploymentUpdate(job_variables=found.job_variables | variables))


def _check(name: str, config: Path, changes: dict[str, Any], jobs: Path | None, cron: str, pool: str) -> None:  # noqa: PLR0913
    """Check what can be checked without a server.

    Raises:
        BadConfig: a name or the schedule is wrong, or the job file is, or it is not there.
    """
    if not re.fullmatch(r"\w[\w.-]*", name):
        raise BadConfig(f"{name!r} is no name: use letters, digits, hyphens, dots and underscores", key="--name")
    if not re.fullmatch(r"[^/%&><\x00-\x1f]+", pool):
        raise BadConfig(f"{pool!r} is no name of a work pool: leave out / % & < >", key="--pool")
    for key, path in (("--config", config), ("--jobs", jobs)):
        if "{{" in str(path):
            raise BadConfig("Prefect would fill in what is in double braces: name the file differently", key=key)
    check_schedule(cron, "--cron")
    if jobs:
        load_jobs(jobs, load_config(config, changes).options(RenderSectionOptions).of_jobs)


def _make_pool(name: str, kind: Kind) -> None:
    with get_client(sync_client=True) as client:
        try:
            found = client.read_work_pool(name)
        except ObjectNotFound:
            template = pool_template() if kind == "kubernetes" else {}
            client.create_work_pool(WorkPoolCreate(name=name, type=kind, base_job_template=template))
            return
    if found.type != kind:
        raise BadConfig(
            f"the work pool {name} is of kind {found.type}: name another, or use --kind {found.type}", key="--pool"
        )
    if kind == "kubernetes" and "volume_mounts" not in found.base_job_template.get("variables", {}).get(
        "properties", {}
    ):
        raise BadConfig(
            f"the pods of the work pool {name} mount no volumes, because `aai deploy` did not make it: name a new one",
            key="--pool",
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
