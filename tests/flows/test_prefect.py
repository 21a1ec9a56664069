"""Flows on a real Prefect server: what it shows, what is retried, how a build ends early, and what is scheduled.

They are in one module, because starting a server takes long. Then builds without one, which load no Prefect at all.
"""

import asyncio
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import typer
import yaml
from typer.testing import CliRunner

from aai.errors import BadConfig, Transient
from aai.workspace import Health
from flows.app.cli import app
from flows.app.terminal import stoppable
from flows.steps import build
from tasks.runtime.driver import StageSummary
from tasks.runtime.run import Run
from tasks.stages import load_config, open_run
from tests.collection import NUM_CLIPS, write_collection, write_many_images
from tests.flows.submit.submissions import ON_BUCKETS

ROOT = Path(__file__).parents[2]
NOTHING = StageSummary.nothing("nothing", "ab12", done=1)
BUILD = """list_images list_audio read_image_tars read_audio_tars describe_image_members describe_audio_members
ingest_images ingest_audio embed_images embed_audio align index retrieve fit confidence""".split()
HEALTHY = Health(orphan_files=[], orphan_shards=[], missing_shards=[], leftovers=[], duplicates={})
IDLE = {"read_image_tars", "read_audio_tars", "describe_image_members", "describe_audio_members"}


def write_config(folder: Path) -> Path:
    """Write a small collection and the file that names it; the path of that file."""
    keys = {"audio": "sounds", "images": "images", "fit": {"method": "mapper"}, "pool": {"num_workers": 0}}
    path = write_collection(folder) / "aai.yaml"
    path.write_text(yaml.safe_dump(keys))
    return path


@pytest.fixture
def config(tmp_path) -> Path:
    """The file of a small collection."""
    return write_config(tmp_path / "collection")


@pytest.fixture
def run(config) -> Run:
    return open_run(load_config(config))


@pytest.fixture(scope="module")
def original(tmp_path_factory) -> Path:
    """A copy of a collection with its bank, which was built at `collection` in the same folder."""
    folder = tmp_path_factory.mktemp("original")
    config = write_config(folder / "collection")
    build(open_run(load_config(config)))
    return Path(shutil.copytree(folder / "collection", folder / "original"))


@pytest.fixture
def built(original) -> Run:
    """A run on that collection and its bank, both of which a test may change; always at the same place."""
    folder = original.with_name("collection")
    shutil.rmtree(folder)
    shutil.copytree(original, folder)
    return open_run(load_config(folder / "aai.yaml"))


@pytest.fixture
def client(prefect_api):
    from prefect.client.orchestration import get_client

    with get_client(sync_client=True) as client:
        yield client


def newest_run(client):
    from prefect.client.schemas.filters import FlowRunFilter
    from prefect.client.schemas.sorting import FlowRunSort

    started = FlowRunFilter.model_validate({"start_time": {"is_null_": False}})  # scheduled runs would be newer
    [newest] = client.read_flow_runs(flow_run_filter=started, sort=FlowRunSort.START_TIME_DESC, limit=1)
    return newest


def tasks_of(client, flow_run, wanted: int):
    """Tasks' states arrive as events, a moment later."""
    from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId

    mine = FlowRunFilter(id=FlowRunFilterId(any_=[flow_run.id]))
    end_s = time.monotonic() + 30
    while True:
        tasks = client.read_task_runs(flow_run_filter=mine)
        final = [task for task in tasks if task.state.is_final()]
        if len(final) >= wanted or time.monotonic() > end_s:
            return final
        time.sleep(0.2)


def artifacts_of(client, flow_run):
    from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterFlowRunId

    mine = ArtifactFilter(flow_run_id=ArtifactFilterFlowRunId(any_=[flow_run.id]))
    return {artifact.key: artifact for artifact in client.read_artifacts(artifact_filter=mine)}


def test_where_a_server_is_configured_a_command_is_a_flow_on_it_which_shows_what_its_stages_did(client, config, run):
    app(["build", "-c", str(config)], standalone_mode=False)  # Prefect's logs go on to the stderr of its first flow
    first = newest_run(client)
    assert client.read_flow(first.flow_id).name == "build" and first.state.is_completed()
    assert len(run.workspace.table("cues").ids(run.recipe("cues"))) == NUM_CLIPS
    tasks = tasks_of(client, first, len(BUILD))
    assert sorted(task.name.rsplit("-", 1)[0] for task in tasks) == sorted(BUILD)
    assert all(task.state.is_completed() for task in tasks)
    artifacts = artifacts_of(client, first)
    assert {name for name in BUILD if f"{name.replace('_', '-')}-counts" in artifacts} == set(BUILD) - IDLE
    for name in set(BUILD) - IDLE - {"list_images", "list_audio", "index"}:  # these have no items to count
        progress = artifacts[f"{name.replace('_', '-')}-progress"]
        assert (progress.type, progress.data, progress.task_run_id is not None) == ("progress", 100, True)
    rows = yaml.safe_load(artifacts["build-stages"].data)
    assert [row["stage"] for row in rows] == BUILD
    assert {row["stage"]: row["new"] for row in rows}["fit"] == NUM_CLIPS
    assert all(row["per second"] > 0 for row in rows if row["new"])
    assert "`aai report` writes it" in artifacts["build-report"].data


def test_a_flow_has_the_parameters_that_it_was_called_with(client, built):
    from flows.prefect import build_bank

    config, changes = str(Path(built.workspace.uri).with_name("aai.yaml")), {"retrieve": {"num_neighbours": 2}}
    build_bank(config, changes)
    first = newest_run(client)
    assert client.read_flow(first.flow_id).name == "build" and first.state.is_completed()
    assert first.parameters == {"config": config, "changes": changes}
    rows = yaml.safe_load(artifacts_of(client, first)["build-stages"].data)
    assert {row["stage"] for row in rows if row["new"]} == {"retrieve", "fit", "confidence"}


def test_another_run_shows_that_there_was_nothing_to_do_and_links_the_report(client, built):
    from flows.prefect import orchestrate

    Path(built.workspace.uri, "report.html").write_text("<p>a report</p>")
    assert {summary.new for summary in orchestrate("build", build, built)} == {0}
    artifacts = artifacts_of(client, newest_run(client))
    assert set(artifacts) == {"build-stages", "build-report"}
    assert f"{built.workspace.uri}/report.html" in artifacts["build-report"].data


def test_what_is_transient_is_tried_again_and_what_is_wrong_is_not(client, run):
    from flows.prefect import orchestrate

    calls: list[str] = []

    def flaky(run: Run) -> StageSummary:
        calls.append("flaky")
        if len(calls) == 1:
            raise Transient("the store is away")
        return NOTHING

    def wrong(run: Run) -> StageSummary:
        calls.append("wrong")
        raise BadConfig("wrong", key="fit.steps")

    assert orchestrate("build", lambda run, do: [do("flaky", flaky, run)], run) == [NOTHING]
    assert calls == ["flaky", "flaky"]
    with pytest.raises(BadConfig, match="wrong") as error:
        orchestrate("build", lambda run, do: [do("wrong", wrong, run)], run)
    assert calls == ["flaky", "flaky", "wrong"] and error.value.key == "fit.steps"
    assert newest_run(client).state.is_failed()


def test_a_run_that_was_told_to_stop_is_cancelled_and_says_what_it_did(client, run):
    from flows.prefect import orchestrate

    run.stop.set()
    done = orchestrate("build", build, run)
    assert (done[-1].stage, done[-1].new, done[-1].stopped) == ("read_image_tars", 0, True)
    assert newest_run(client).state.is_cancelled()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_a_build_with_a_sentence_and_the_code_that_shells_know(client, run, capsys, number, code):
    from flows.prefect import orchestrate

    def signalled(run: Run) -> StageSummary:
        signal.raise_signal(number)
        raise AssertionError("went on")

    with pytest.raises(typer.Exit) as ended, stoppable():
        orchestrate("build", lambda run, do: [do("signalled", signalled, run)], run)
    assert ended.value.exit_code == code
    said = capsys.readouterr().err.splitlines()  # Prefect's log may complain of a stream that another test has closed
    assert said[-1] == "aai: stopped; finished work is committed, and the same command does the rest"
    assert newest_run(client).state.is_crashed()


def deploy(*words: str):
    return CliRunner().invoke(app, ["deploy", *words])


def crash_rule():
    from prefect.automations import Automation

    return asyncio.run(Automation.aread(name="aai: a run without heartbeats has crashed"))


def test_a_deployment_is_scheduled_once(client, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = tmp_path / "aai.yaml"
    config.write_text(f"audio: {ON_BUCKETS['audio']}\nimages: {ON_BUCKETS['images']}\n")
    config.with_name("jobs.yaml").write_text("- {prompt: a photo of *}")
    for _ in range(2):
        result = deploy("--jobs", "jobs.yaml", "--cron", "0 3 * * *", "--set", "fit.steps=3", "--pool", "mine")
        assert result.exit_code == 0, result.output
    assert "prefect worker start --pool mine" in result.output
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
    submit = yaml.safe_dump({"submit": {"image": "aai:cuda", "volumes": {"data": str(tmp_path)}, "env": {"A": "1"}}})
    config.write_text(yaml.safe_dump(ON_BUCKETS) + submit)
    pods = ("--kind", "kubernetes", "--pool")
    result = deploy(*pods, "mine")
    assert result.exit_code == 2
    assert "is of kind process: name another" in result.output
    result = deploy(*pods, "pods")
    assert result.exit_code == 0 and "prefect-kubernetes" in result.output, result.output
    found = client.read_deployment_by_name("nightly/nightly")
    client.delete_deployment(found.id)
    assert found.job_variables["image"] == "aai:cuda" and len(found.schedules) == 1
    assert found.job_variables["env"] == variables | {"A": "1"}
    assert client.read_work_pool("pods").base_job_template["job_configuration"]["job_manifest"]["kind"] == "Job"


def test_a_deployment_that_replaces_another_says_so_and_another_name_makes_a_second(client, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    keys = yaml.safe_dump(ON_BUCKETS)
    for name in ("aai.yaml", "other.yaml"):
        Path(name).write_text(keys)
    Path("jobs.yaml").write_text("- {prompt: a photo of *}")
    first = deploy("--jobs", "jobs.yaml", "--cron", "0 3 * * *")
    same = deploy("--jobs", "jobs.yaml", "--cron", "0 3 * * *")
    reset = deploy()
    third = deploy("-c", "other.yaml", "--name", "other")
    replaced = deploy("-c", "other.yaml")
    found = {each.name: each for each in client.read_deployments()}
    for each in found.values():
        client.delete_deployment(each.id)
    assert [result.exit_code for result in (first, same, reset, third, replaced)] == [0] * 5
    for result in (first, same, third):
        assert "replaces" not in result.output and " was " not in result.output, result.output
    lines = " ".join(reset.output.split())
    assert f"--jobs was '{tmp_path}/jobs.yaml', now not given" in lines and "'0 3 * * *', now '0 2 * * *'" in lines
    assert f"replaces the schedule of {tmp_path}/aai.yaml" in " ".join(replaced.output.split())
    assert "prefect deployment run nightly/other" in third.output
    assert {name: each.parameters["config"] for name, each in found.items()} == {
        "nightly": str(tmp_path / "other.yaml"),
        "other": str(tmp_path / "other.yaml"),
    }


def test_a_server_that_does_not_answer_is_refused_without_its_password(prefect_api):
    from prefect.settings import PREFECT_API_URL, temporary_settings

    from flows.prefect import check_server

    check_server()
    with temporary_settings({PREFECT_API_URL: "http://me:hunter2@127.0.0.1:9/api"}), pytest.raises(BadConfig) as error:
        check_server()
    assert error.value.key == "PREFECT_API_URL" and "hunter2" not in str(error.value)
    assert error.value.sentence.startswith("nothing answers at http://127.0.0.1:9/api (ConnectError)")


def test_a_configured_server_that_does_not_answer_ends_a_command_with_a_sentence(config, prefect_api):
    from prefect.settings import PREFECT_API_URL, temporary_settings

    with temporary_settings({PREFECT_API_URL: "http://127.0.0.1:9/api"}):
        done = CliRunner().invoke(app, ["build", "-c", str(config)])
    assert done.exit_code == 2 and "Traceback" not in done.output
    assert "aai: PREFECT_API_URL: nothing answers at http://127.0.0.1:9/api" in done.output


def aai(*arguments: str) -> list[str]:
    """The output of a command in a process of its own; the last line names the heavy modules that it loaded."""
    code = (
        "import sys; from flows.app.cli import app\n"
        "try: app(sys.argv[1:])\n"
        "finally: print(*sorted({'torch', 'ray', 'prefect'} & sys.modules.keys()))"
    )
    ran = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True)
    return ran.stdout.splitlines()


def test_without_a_server_no_prefect_is_loaded_and_with_nothing_to_embed_no_torch_and_no_ray(built):
    folder = Path(built.workspace.uri).parent
    (folder / "sounds" / "fire-0.2.flac").unlink()
    first, second = (aai("build", "-c", str(folder / "aai.yaml")) for _ in range(2))
    assert first[-2:] == [f"the bank is {built.workspace.uri}", ""]
    assert second == [f"nothing to do: {built.workspace.uri} is up to date", ""]


@pytest.mark.slow
def test_after_a_ctrl_c_the_next_build_does_the_rest(config, run):
    keys = yaml.safe_load(config.read_text()) | {"run": {"commit_slices": 1}}
    config.write_text(yaml.safe_dump(keys | {"pools": {"embed_images": {"slice_size": 1}}}))
    many = write_many_images(config.parent)
    command = [sys.executable, "-m", "flows.app.cli", "build", "-c", str(config)]
    building = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True, cwd=ROOT
    )
    wait_for(lambda: list(config.parent.glob("bank/image_vectors/_delta_log/*1.json")), building)
    os.killpg(building.pid, signal.SIGINT)  # what a terminal does
    output, messages = building.communicate(timeout=120)
    assert (building.returncode, output) == (130, "")
    lines = " ".join(messages.split())
    assert "embed_images: stopped with " in lines and lines.count("aai: stopped") == 1
    assert "Prefect" not in messages and "Traceback" not in messages
    before = len(run.workspace.table("image_vectors").ids(run.recipe("image_vectors")))
    assert 0 < before < many
    done = {summary.stage: summary for summary in build(open_run(load_config(config)))}
    assert (done["embed_images"].done, done["embed_images"].new) == (before, many - before)
    assert done["fit"].new == NUM_CLIPS
    assert run.workspace.health() == HEALTHY


def wait_for(condition, process: subprocess.Popen) -> None:
    end_s = time.monotonic() + 120
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end_s, "it did not happen"
        time.sleep(0.05)
