"""A build on a real Prefect server: what stands there afterwards, what is tried again, and how it ends when told to.

Then one without a server, in a process of its own and with a Ctrl-C, as in a terminal.
"""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import soundfile
import typer
import yaml

from aai.errors import BadConfig, Transient
from aai.media.images import encode
from aai.tiny.scenes import render, sample_scenes
from aai.tiny.sounds import SAMPLE_RATE_HZ, synthesise
from flows.steps import STAGES, build
from tasks.runtime.config import load_config
from tasks.runtime.driver import StageSummary
from tasks.runtime.run import Run, open_run

CLIPS, NUM_IMAGES = ("rain", "fire"), 6
NOTHING = StageSummary("nothing", "ab12", done=1, new=0, rejected=0, took_s=0.0, rate=0.0)


@pytest.fixture
def config(tmp_path) -> Path:
    """A small collection and the file that names it."""
    (tmp_path / "sounds").mkdir()
    (tmp_path / "images").mkdir()
    for name in CLIPS:
        soundfile.write(tmp_path / "sounds" / f"{name}.wav", synthesise(name, 0.5, 900), SAMPLE_RATE_HZ)
    write_images(tmp_path, NUM_IMAGES)
    keys = {"audio": "sounds", "images": "images", "fit": {"method": "mapper"}, "pool": {"num_workers": 0}}
    (tmp_path / "aai.yaml").write_text(yaml.safe_dump(keys))
    return tmp_path / "aai.yaml"


def write_images(folder: Path, num: int) -> None:
    for number, pixels in enumerate(render(sample_scenes(num, 77)).pixels):
        (folder / "images" / f"{number}.png").write_bytes(encode(pixels, "png"))


@pytest.fixture
def run(config) -> Run:
    return open_run(load_config(config))


@pytest.fixture
def client(prefect_api):
    from prefect.client.orchestration import get_client

    with get_client(sync_client=True) as client:
        yield client


def newest_run(client):
    from prefect.client.schemas.sorting import FlowRunSort

    [newest] = client.read_flow_runs(sort=FlowRunSort.START_TIME_DESC, limit=1)
    return newest


def tasks_of(client, flow_run, wanted: int):
    """Tasks' states arrive as events, a moment later."""
    from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId

    mine = FlowRunFilter(id=FlowRunFilterId(any_=[flow_run.id]))
    end_s = time.monotonic() + 30
    while True:
        tasks = client.read_task_runs(flow_run_filter=mine)
        final = [each for each in tasks if each.state.is_final()]
        if len(final) >= wanted or time.monotonic() > end_s:
            return final
        time.sleep(0.2)


def artifacts_of(client, flow_run):
    from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterFlowRunId

    mine = ArtifactFilter(flow_run_id=ArtifactFilterFlowRunId(any_=[flow_run.id]))
    return {each.key: each for each in client.read_artifacts(artifact_filter=mine)}


def test_a_real_server_shows_the_flow_its_stages_and_what_they_did(client, config):
    from flows.prefect import build_bank

    build_bank(str(config), {"retrieve": {"num_neighbours": 2}})
    first = newest_run(client)
    assert client.read_flow(first.flow_id).name == "build" and first.state.is_completed()
    assert first.parameters == {"config": str(config), "changes": {"retrieve": {"num_neighbours": 2}}}
    tasks = tasks_of(client, first, len(STAGES))
    assert sorted(each.name.rsplit("-", 1)[0] for each in tasks) == sorted(STAGES)
    assert all(each.state.is_completed() for each in tasks)
    found = artifacts_of(client, first)
    worked = [name for name in STAGES if f"{name.replace('_', '-')}-counts" in found]
    assert set(STAGES) - set(worked) <= {"learn"}
    for name in set(worked) - {"index"}:  # made in one go
        progress = found[f"{name.replace('_', '-')}-progress"]
        assert (progress.type, progress.data, progress.task_run_id is not None) == ("progress", 100, True)
    rows = yaml.safe_load(found["build-stages"].data)
    assert [row["stage"] for row in rows] == list(STAGES)
    assert {row["stage"]: row["new"] for row in rows}["fit"] == len(CLIPS)
    assert all(row["per second"] > 0 for row in rows if row["new"])
    assert "`aai report` writes it" in found["build-report"].data


def test_another_run_shows_that_there_was_nothing_to_do_and_links_the_report(client, run):
    from flows.prefect import orchestrate

    build(run)
    Path(run.workspace.uri, "report.html").write_text("<p>a report</p>")
    assert {each.new for each in orchestrate("build", build, run)} == {0}
    found = artifacts_of(client, newest_run(client))
    assert set(found) == {"build-stages", "build-report"}
    assert f"{run.workspace.uri}/report.html" in found["build-report"].data


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
        raise BadConfig("fit.steps: wrong")

    assert orchestrate("build", lambda run, do: [do("flaky", flaky, run)], run) == [NOTHING]
    assert calls == ["flaky", "flaky"]
    with pytest.raises(BadConfig, match="fit.steps: wrong"):
        orchestrate("build", lambda run, do: [do("wrong", wrong, run)], run)
    assert calls == ["flaky", "flaky", "wrong"]
    assert newest_run(client).state.is_failed()


def test_a_run_that_was_told_to_stop_is_cancelled_and_says_what_it_did(client, run):
    from flows.prefect import orchestrate

    run.stop.set()
    [done] = orchestrate("build", build, run)
    assert (done.stage, done.new, done.stopped) == ("ingest_images", 0, True)
    assert newest_run(client).state.is_cancelled()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_a_build_with_a_sentence_and_the_code_that_shells_know(client, run, capsys, number, code):
    from flows.app.cli import _stoppable
    from flows.prefect import orchestrate

    def signalled(run: Run) -> StageSummary:
        signal.raise_signal(number)
        raise AssertionError("went on")

    with pytest.raises(typer.Exit) as ended, _stoppable():
        orchestrate("build", lambda run, do: [do("signalled", signalled, run)], run)
    assert ended.value.exit_code == code
    assert (
        capsys.readouterr().err == "aai: stopped; what is finished is committed, and the same command does the rest\n"
    )
    assert newest_run(client).state.is_crashed()


def test_a_server_that_is_named_and_does_not_answer_is_refused_with_a_sentence(prefect_api):
    from prefect.settings import PREFECT_API_URL, temporary_settings

    from flows.app.server import prefect_server

    with temporary_settings({PREFECT_API_URL: "http://127.0.0.1:9/api"}), pytest.raises(BadConfig) as refused:
        with prefect_server():
            pass
    assert str(refused.value).startswith("PREFECT_API_URL: nothing answers at http://127.0.0.1:9/api")


def test_a_build_with_nothing_to_do_loads_no_prefect_no_torch_and_no_ray(config, run):
    build(run)
    probe = (
        "import sys; from typer.testing import CliRunner; from flows.app.cli import app\n"
        f"print(CliRunner().invoke(app, ['build', '-c', {str(config)!r}]).output.strip())\n"
        "print(*sorted({'torch', 'ray', 'prefect'} & sys.modules.keys()))"
    )
    ran = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True)
    assert ran.stdout == f"nothing to do: {run.workspace.uri} is up to date\n\n"


def test_without_a_server_a_build_is_silent_and_after_a_ctrl_c_the_next_one_does_the_rest(client, config, run):
    write_images(config.parent, many := 80)
    keys = yaml.safe_load(config.read_text()) | {"run": {"commit_slices": 1}}
    config.write_text(yaml.safe_dump(keys | {"pools": {"embed_images": {"slice_size": 1}}}))
    command = [sys.executable, "-m", "flows.app.cli", "build", "-c", str(config)]
    building = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    wait_for(lambda: list(config.parent.glob("bank/image_vectors/_delta_log/*1.json")), building)
    server = servers_of(os.environ["PREFECT_HOME"])
    assert len(server) == 1
    os.killpg(building.pid, signal.SIGINT)  # what a terminal does
    said, complained = building.communicate(timeout=120)
    assert (building.returncode, said) == (130, "")
    lines = " ".join(complained.split())
    assert lines.startswith("embed_images: stopped with ") and lines.count("aai: stopped") == 1
    assert "Prefect" not in complained and "Traceback" not in complained
    wait_for(lambda: not servers_of(os.environ["PREFECT_HOME"]))
    assert newest_run(client).state.is_crashed()  # in the database that both servers have
    before = len(run.workspace.table("image_vectors").ids(run.recipe("image_vectors")))
    assert 0 < before < many
    done = {each.stage: each for each in build(open_run(load_config(config)))}
    assert (done["embed_images"].done, done["embed_images"].new) == (before, many - before)
    assert done["fit"].new == len(CLIPS)
    assert run.workspace.health().is_good


def servers_of(home: str) -> list[int]:
    """Processes of `flows.app.server` that keep their data there."""
    found = []
    for place in Path("/proc").iterdir():
        try:
            names = (place / "cmdline").read_bytes().split(b"\0")
            if b"flows.app.server" in names and f"PREFECT_HOME={home}".encode() in (place / "environ").read_bytes():
                found.append(int(place.name))
        except OSError:
            continue
    return found


def wait_for(condition, process: subprocess.Popen | None = None) -> None:
    end_s = time.monotonic() + 120
    while not condition():
        assert process is None or process.poll() is None, process.communicate()
        assert time.monotonic() < end_s, "it did not happen"
        time.sleep(0.05)
