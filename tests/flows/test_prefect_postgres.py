"""A schedule on a real Prefect server with Postgres: server, worker and run are killed in the middle of a run.

They run with `make chaos`. Whatever is killed, the bank afterwards is that of an undisturbed run.
"""

import re
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import soundfile
import yaml

from aai.jobs.jobfile import load_jobs
from aai.tiny.sounds import SAMPLE_RATE_HZ, synthesise
from aai.workspace import SCHEMAS
from flows.steps import build, render, score
from tasks.render import RenderSectionOptions
from tasks.runtime.run import Run
from tasks.stages import load_config, open_run
from tests.bank import rows_of
from tests.collection import NUM_CLIPS, write_collection
from tests.flows.site import INITDB, Site, kill, postgres, wait_for

pytestmark = [pytest.mark.chaos, pytest.mark.skipif(not INITDB, reason="Postgres is not installed (`initdb`)")]

NUM_MORE = 10  # of each phenomenon
KEYS = {
    "audio": "sounds",
    "images": "images",
    "retrieve": {"num_neighbours": 2},
    "confidence": {"method": "none"},
    "fit": {"method": "adapter", "steps": 4, "eval_every": 2, "rows_per_step": 1, "eval_rows": 2},
    "render": {"steps": 2, "guidance": 1},
    "run": {"commit_slices": 1},
    "pool": {"num_workers": 0, "slice_size": 1},
}
AWAY_S = 20
SELDOM = "0 0 1 1 *"
TABLES = (
    "image_files", "images", "audio_files", "clips", "image_vectors", "audio_vectors", "aligned_vectors",
    "neighbours", "cues", "renders", "scores",
)  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = write_collection(tmp_path_factory.mktemp("site"))
    for phenomenon in ("rain", "fire"):
        for number in range(NUM_MORE):
            wave = synthesise(phenomenon, number / NUM_MORE, number)
            soundfile.write(folder / "sounds" / f"{phenomenon} {number}.flac", wave, SAMPLE_RATE_HZ)
    (folder / "aai.yaml").write_text(yaml.safe_dump(KEYS))
    (folder / "jobs.yaml").write_text(yaml.safe_dump([{"prompt": "a photo of *"}]))
    return folder


@pytest.fixture(scope="module")
def undisturbed(folder) -> dict[str, list[str]]:
    """Ids of a run without Prefect."""
    run = opened(folder, "undisturbed")
    build(run)
    render(run, load_jobs(folder / "jobs.yaml", run.config.options(RenderSectionOptions).of_jobs))
    score(run)
    return ids_of(run)


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Iterator[Site]:
    with postgres() as port:
        site = Site(tmp_path_factory.mktemp("prefect"), port)
        try:
            site.start_server()
            yield site
        finally:
            site.close()


@pytest.fixture
def bank(site, folder, request) -> Iterator[Path]:
    """A bank that the deployment builds on request, and a worker."""
    name = "bank-" + re.sub(r"\W", "-", request.node.name)  # Delta cannot handle [ in a path
    deploy(site, folder, name, SELDOM)
    if site.server.poll() is not None:
        site.start_server()
    site.start_worker()
    yield folder / name
    if site.worker.poll() is None:
        site.stop_worker()
    for process in site.processes():
        process.kill()


def deploy(site: Site, folder: Path, bank: str, cron: str) -> None:
    words = ["-c", str(folder / "aai.yaml"), "--jobs", str(folder / "jobs.yaml"), "--set", f"workspace={folder / bank}"]
    site.aai("deploy", *words, "--cron", cron)


def opened(folder: Path, bank: str) -> Run:
    return open_run(load_config(folder / "aai.yaml", {"workspace": str(folder / bank)}))


def ids_of(run: Run) -> dict[str, list[str]]:
    return {name: sorted(row[SCHEMAS[name].id] for row in rows_of(run, name)) for name in TABLES}


def commits(bank: Path) -> int:
    """Commits of cues, one each."""
    return len(list(bank.glob("cues/_delta_log/*.json")))


def wait_until_in_the_middle(bank: Path) -> None:
    """Some cues are committed, not all."""
    wait_for(lambda: commits(bank) > 1)
    assert commits(bank) < NUM_CLIPS + 2 * NUM_MORE


def assert_whole(bank: Path, undisturbed: dict[str, list[str]]) -> None:
    """Every item is once in its table, and there is a report."""
    assert ids_of(opened(bank.parent, bank.name)) == undisturbed
    assert "<html" in (bank / "report.html").read_text()


def test_each_scheduled_run_is_shown_and_the_second_has_nothing_to_do(site, folder, undisturbed):
    deploy(site, folder, "scheduled", "* * * * *")
    site.start_worker()
    ended = list[dict]()

    def two_have_ended() -> bool:
        ended[:] = [run for run in site.runs() if run["state_name"] not in ("Scheduled", "Late", "Pending", "Running")]
        return [run["state_name"] for run in ended].count("Completed") >= 2

    wait_for(two_have_ended)
    deploy(site, folder, "scheduled", SELDOM)
    site.stop_worker()
    completed = [run for run in ended if run["state_name"] == "Completed"]
    assert all(run["auto_scheduled"] for run in completed)
    assert {run["state_name"] for run in ended} <= {"Completed", "Cancelled"}  # left out while the first was at work
    assert_whole(folder / "scheduled", undisturbed)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_run_goes_on_while_the_server_is_restarted(site, bank, undisturbed, number):
    run_id = site.request()
    wait_until_in_the_middle(bank)
    kill(site.server, number)
    before = commits(bank)
    wait_for(lambda: commits(bank) > before)
    time.sleep(AWAY_S)
    site.start_server()
    assert site.state(run_id) == "Running"
    assert site.end_of(run_id) == "Completed"
    assert_whole(bank, undisturbed)


def test_a_run_is_left_out_while_another_one_is_at_work(site, bank, undisturbed):
    run_id = site.request()
    wait_for(lambda: site.state(run_id) == "Running")
    second = site.request()
    assert site.end_of(second) == "Cancelled"
    assert site.run(second)["state"]["message"] == f"left out: the run {site.run(run_id)['name']} is still at work"
    assert site.end_of(run_id) == "Completed"
    assert_whole(bank, undisturbed)


def test_a_run_that_loses_its_worker_crashes_and_the_next_one_does_the_rest(site, bank, undisturbed):
    run_id = site.request()
    wait_until_in_the_middle(bank)
    kill(site.worker)
    site.start_worker()
    assert site.end_of(run_id) == "Crashed"  # what it prints has nowhere to go
    assert site.end_of(site.request()) == "Completed"
    assert_whole(bank, undisturbed)


def test_a_run_that_dies_with_its_worker_is_marked_as_crashed_and_a_retry_does_the_rest(site, bank, undisturbed):
    run_id = site.request()
    wait_until_in_the_middle(bank)
    kill(site.worker)
    for process in site.processes():
        process.kill()
    site.start_worker()
    wait_for(lambda: site.state(run_id) != "Running")
    assert site.state(run_id) == "Crashed"
    assert 0 < commits(bank) < NUM_CLIPS + 2 * NUM_MORE
    site.prefect("flow-run", "retry", run_id)
    wait_for(lambda: site.state(run_id) != "Crashed")
    assert site.end_of(run_id) == "Completed"
    assert site.run(run_id)["run_count"] == 2
    assert_whole(bank, undisturbed)
