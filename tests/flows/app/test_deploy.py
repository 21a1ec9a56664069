"""`aai deploy` on a real Prefect server: what is scheduled, and that a second call changes nothing else."""

import asyncio

import pytest
from typer.testing import CliRunner

from flows.app.cli import app
from tests.flows.submit.submissions import ON_BUCKETS


@pytest.fixture
def config(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "aai.yaml"
    path.write_text(f"audio: {ON_BUCKETS['audio']}\nimages: {ON_BUCKETS['images']}\n")
    return path


def deploy(*words: str):
    return CliRunner().invoke(app, ["deploy", *words])


def crash_rule():
    from prefect.automations import Automation

    return asyncio.run(Automation.aread(name="aai: a run without heartbeats has crashed"))


def test_a_deployment_is_scheduled_once(prefect_api, config, tmp_path):
    from prefect.client.orchestration import get_client

    for _ in range(2):
        result = deploy("--jobs", "jobs.yaml", "--cron", "0 3 * * *", "--set", "fit.steps=3", "--pool", "mine")
        assert result.exit_code == 0, result.output
    assert "prefect worker start --pool mine" in result.output
    with get_client(sync_client=True) as client:
        found = client.read_deployment_by_name("nightly/nightly")
        pool = client.read_work_pool("mine")
        assert len(client.read_deployments()) == 1
        client.delete_deployment(found.id)  # else its runs would stand among those of other tests
    [schedule] = found.schedules
    assert (schedule.schedule.cron, schedule.schedule.timezone, schedule.active) == ("0 3 * * *", "UTC", True)
    assert found.parameters == {
        "config": str(config),
        "jobs": str(tmp_path / "jobs.yaml"),
        "changes": '{"fit": {"steps": 3}}',
    }
    assert found.global_concurrency_limit is None  # its leases would end with the server
    assert (found.entrypoint, found.work_pool_name) == ("flows.app.nightly.nightly", "mine")
    assert pool.type == "process"
    variables = found.job_variables["env"]
    heartbeat_s = int(variables["PREFECT_FLOWS_HEARTBEAT_FREQUENCY"])
    assert crash_rule().trigger.within.total_seconds() == 10 * heartbeat_s
    result = deploy("--pool", "mine", "--kind", "kubernetes")
    assert result.exit_code == 2
    assert "is of kind process: name another" in result.output


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--cron", "61 2 * * *"], "aai: --cron: '61 2 * * *' is no schedule"),
        (["--jobs", "wrong.yaml"], "promt"),
    ],
)
def test_options_are_checked_before_the_server_is_asked(config, monkeypatch, words, sentence):
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    config.with_name("wrong.yaml").write_text("- {promt: a photo of *}")
    result = deploy(*words)
    assert (result.exit_code, sentence in result.output) == (2, True), result.output


def test_without_a_server_it_is_a_sentence(config, monkeypatch):
    result = deploy()
    assert result.exit_code == 2
    assert "PREFECT_API_URL: it is not set" in result.output
