"""`aai submit --to ray` on a head and two nodes with addresses of their own, whose links and processes fail."""

import json
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from aai.media.images import ImageOptions, decode
from aai.workspace.shards import read_picture
from flows.steps import build, render
from tasks.runtime.run import Run
from tasks.stages import make_config, open_run
from tests.bank import jobs_of, rows_of
from tests.collection import write_collection
from tests.ray_network import CPUS, RayNetwork, ray_network, wait_until, why_not
from tests.same import assert_same

NUM_TAKES = 6
ON_RAY = ("embed_audio", "fit", "render")
"""Stages with workers on both nodes; the others run in the driver, as a worker takes seconds to start."""
TABLES = ("images", "clips", "image_vectors", "audio_vectors", "aligned_vectors", "neighbours", "cues")
QUICK_FIT = {"method": "adapter", "steps": 24, "eval_every": 8, "rows_per_step": 1, "eval_rows": 2}
QUICK_TRAINING = {"method": "learned", "steps": 2, "batch_size": 4}
JOB = {"prompt": "a photo of *", "steps": 2}
BUSY = "ray::_RayWorkerRunner.run"
OUTAGE_S, SHORT_OUTAGE_S = 90, 20  # Ray gives a node up after about 65
PATIENCE_S = 900

REASON = why_not()

pytestmark = [pytest.mark.chaos, pytest.mark.skipif(bool(REASON), reason=REASON)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A disk that all nodes see, with a job file and the bank and pictures that one machine makes."""
    folder = write_collection(tmp_path_factory.mktemp("disk"), NUM_TAKES)
    (folder / "jobs.json").write_text(json.dumps([JOB]))
    run = run_on(folder, "local")
    build(run)
    render(run, jobs_of(run, JOB))
    return folder


@pytest.fixture(scope="module")
def network() -> Iterator[RayNetwork]:
    with ray_network() as cluster:
        yield cluster


def run_on(folder: Path, bank: str, **keys) -> Run:
    return open_run(make_config(**keys_of(folder, bank) | keys))


def keys_of(folder: Path, bank: str) -> dict:
    return {
        "audio": str(folder / "sounds"),
        "images": str(folder / "images"),
        "metadata": str(folder / "said.csv"),
        "workspace": str(folder / bank),
        "train_mapper": QUICK_TRAINING,
        "fit": QUICK_FIT,
        "retrieve": {"num_neighbours": 2},
        "confidence": {"method": "none"},
        "render": {"guidance": 1},
        "pool": {"num_workers": 0},
    }


def command_of(network: RayNetwork, folder: Path, bank: str, *words: str) -> list[str]:
    """`aai submit` for a command on a bank, on a machine beside the nodes."""
    pool = {"num_workers": 2, "cpus_per_worker": CPUS, "slice_size": 1}
    submit = {"address": network.address, "shared_disk": True}
    keys = keys_of(folder, bank) | {"pools": dict.fromkeys(ON_RAY, pool), "submit": submit}
    config = folder / f"{bank}.json"
    config.write_text(json.dumps(keys))  # JSON is YAML
    return network.beside("aai", "submit", "--to", "ray", "--wait", "--", *words, "-c", str(config))


@dataclass(frozen=True)
class Submitted:
    """`aai submit --wait` at work, and its output."""

    process: subprocess.Popen
    log: Path

    def wait_until(self, is_so: Callable[[], object]) -> None:
        """Wait until a condition holds while it is at work."""
        wait_until(lambda: is_so() or self.process.poll() is not None, PATIENCE_S)
        assert self.process.poll() is None, self.log.read_text()

    def wait_for_loss(self) -> None:
        """Wait until the loss of the second node is logged."""
        self.wait_until(lambda: "node 10.78.0.12 is lost" in self.log.read_text())


@contextmanager
def submitted(network: RayNetwork, folder: Path, bank: str, *words: str) -> Iterator[Submitted]:
    """A submitted command at work, which must have succeeded at the end."""
    log = folder / f"{bank}.log"
    with log.open("wb") as output:
        options = {"cwd": folder, "env": network.environment, "stdout": output, "stderr": output}
        with subprocess.Popen(command_of(network, folder, bank, *words), **options) as process:
            try:
                yield Submitted(process, log)
                assert process.wait(PATIENCE_S) == 0, log.read_text()
            finally:
                process.kill()


def without_cues(folder: Path, bank: str) -> None:
    """Write a copy of the bank of one machine, without its cues."""
    shutil.copytree(folder / "local", folder / bank, ignore=shutil.ignore_patterns("cues", "renders", "shards"))


def assert_like_local(folder: Path, bank: str) -> None:
    run, local = run_on(folder, bank), run_on(folder, "local")
    for table in TABLES:
        assert_same(table, run, local)
    health = run.workspace.health()
    assert (health.duplicates, health.missing_shards) == ({}, [])


def wait_for_work(network: RayNetwork, folder: Path, bank: str, command: Submitted) -> None:
    """Wait until there are cues, and the second node has a slice."""
    run = run_on(folder, bank)
    command.wait_until(lambda: network.processes(2, BUSY) and len(run.workspace.table("cues").read()))


def test_a_build_and_its_pictures_are_those_of_one_machine(network, folder):
    with submitted(network, folder, "whole", "build"):
        pass
    assert_like_local(folder, "whole")
    with submitted(network, folder, "whole", "render", str(folder / "jobs.json")):
        pass
    run, local = run_on(folder, "whole"), run_on(folder, "local")
    assert_same("renders", run, local)
    for row, other in zip(rows_of(run), rows_of(local), strict=True):
        assert np.abs(pixels_of(run, row) - pixels_of(local, other)).max() <= 1  # rounding to whole numbers


def pixels_of(run: Run, row: dict) -> np.ndarray:
    return decode(read_picture(run.workspace, row), row["key"], ImageOptions()).pixels.astype(int)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"RAY_AUTH_TOKEN": "0" * 64}, "Invalid authentication token"),
        ({"RAY_AUTH_TOKEN_PATH": "nowhere"}, "cannot be opened"),
        ({"RAY_AUTH_MODE": "disabled"}, "Missing authentication token"),
    ],
)
def test_without_the_token_nothing_is_handed_in(change, reason, network, folder):
    command = command_of(network, folder, "refused", "build")
    shutil.rmtree(folder / "submissions", ignore_errors=True)
    ended = subprocess.run(command, cwd=folder, env=network.environment | change, capture_output=True, text=True)
    assert ended.returncode == 2
    assert ended.stderr.startswith(f"aai: submit.address: {network.address} refuses the token of this shell (")
    assert reason in ended.stderr and ended.stderr.count("\n") == 1
    assert not (folder / "submissions").exists() and not (folder / "refused").exists()


def test_a_node_that_is_cut_off_and_comes_back_costs_no_clip(network, folder, record_property):
    without_cues(folder, "cut")
    with submitted(network, folder, "cut", "build") as command:
        wait_for_work(network, folder, "cut", command)
        start_s = time.monotonic()
        network.cut(2)
        command.wait_for_loss()
        record_property("noticed after seconds", time.monotonic() - start_s)
        time.sleep(max(0, OUTAGE_S - (time.monotonic() - start_s)))
        network.mend(2)
    assert_like_local(folder, "cut")
    wait_until(lambda: not network.is_up(2), PATIENCE_S)  # Ray ends on a node that was given up
    network.join(2)


def test_a_short_outage_costs_no_clip_and_no_node(network, folder):
    without_cues(folder, "short")
    with submitted(network, folder, "short", "build") as command:
        wait_for_work(network, folder, "short", command)
        network.cut(2)
        time.sleep(SHORT_OUTAGE_S)
        network.mend(2)
    assert "is lost" not in command.log.read_text()
    assert_like_local(folder, "short")
    assert network.is_up(2)


def test_a_killed_raylet_costs_no_clip(network, folder, record_property):
    without_cues(folder, "killed")
    with submitted(network, folder, "killed", "build") as command:
        wait_for_work(network, folder, "killed", command)
        start_s = time.monotonic()
        for raylet in network.processes(2, "/raylet"):
            raylet.kill()
        command.wait_for_loss()
        record_property("noticed after seconds", time.monotonic() - start_s)
        wait_until(lambda: not network.is_up(2), PATIENCE_S)
        network.join(2)
    assert_like_local(folder, "killed")
