"""Drivers, actors and nodes are killed in the middle of a stage; the next run leaves what an undisturbed one does.

They run with `make chaos`, for some minutes, as do other tests that kill and are marked `chaos`. The default tests
cover the parts: the pool's lost workers and deadlines, and a killed driver.
"""

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from aai.media.images import ImageOptions, decode
from aai.workspace import SCHEMAS
from aai.workspace.shards import read_picture
from flows.steps import build
from tasks.runtime.run import Run
from tasks.stages import make_config, open_run
from tests.bank import rows_of
from tests.chaos.drive import MARK, do
from tests.cluster import CPUS, IDLE_WORKER, TwoNodes, title_of
from tests.collection import write_collection
from tests.disturbed import unexplained

ROOT = Path(__file__).parents[2]
STAGES_KILLED = ("ingest_audio", "embed_images", "embed_audio", "fit", "render")
TABLES = (
    "image_files", "images", "audio_files", "clips", "image_vectors", "audio_vectors", "aligned_vectors",
    "neighbours", "cues", "renders",
)  # fmt: skip
QUICK_FIT = {"method": "adapter", "steps": 2, "eval_every": 1, "rows_per_step": 1, "eval_rows": 2}
TOLERANCE = 1e-4
PATIENCE_S = 300


def keys_of(folder: Path, bank: Path, **pool) -> dict:
    return {
        "audio": str(folder / "sounds"),
        "images": str(folder / "images"),
        "workspace": str(bank),
        "retrieve": {"num_neighbours": 2},
        "confidence": {"method": "none"},
        "fit": QUICK_FIT,
        "render": {"guidance": 1},
        "run": {"commit_slices": 1},
        "pool": {"num_workers": 0} | pool,
    }


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return write_collection(tmp_path_factory.mktemp("collection"))


@pytest.fixture(scope="module")
def before(folder) -> dict[str, Path]:
    """Copies of a bank as it is before each stage that is killed, and of an undisturbed one."""
    run = open_run(make_config(**keys_of(folder, folder / "bank")))
    copies = {}
    for stage in run.stages:
        if stage.command not in ("build", "render"):
            continue
        if stage.name in STAGES_KILLED:
            copies[stage.name] = Path(shutil.copytree(folder / "bank", folder / f"before-{stage.name}"))
        do(run, stage.name)
    return copies | {"undisturbed": folder / "bank"}


def kill_driver(driver: subprocess.Popen, cluster: TwoNodes) -> None:
    driver.kill()
    driver.wait()
    wait_until(lambda: not cluster.workers())


def progress_of(driver: subprocess.Popen) -> tuple[int, int]:
    """The next progress that a driver prints: finished items, and their total."""
    while not (line := driver.stdout.readline()).startswith(MARK):
        assert line, "the driver ended"
    finished, total = map(int, line.removeprefix(MARK).split())
    return finished, total


def kill_actor(driver: subprocess.Popen, cluster: TwoNodes) -> None:
    cluster.workers()[0].kill()


def kill_node(driver: subprocess.Popen, cluster: TwoNodes) -> None:
    """Kill all processes of the second node once it has work."""
    at_work(driver, cluster)
    cluster.second.kill()


def at_work(driver: subprocess.Popen, cluster: TwoNodes) -> None:
    """Wait until the second node has work: its actor has loaded, and the driver has seen that."""
    wait_until(lambda: is_idle(cluster) and (time.sleep(0.5) or is_idle(cluster)))
    driver.stdin.write("go on\n")
    driver.stdin.flush()
    progress_of(driver)


def kill_raylet(driver: subprocess.Popen, cluster: TwoNodes) -> None:
    """Kill only the raylet of the second node; its actors end by themselves."""
    at_work(driver, cluster)
    cluster.second.raylet().kill()


def freeze_raylet(driver: subprocess.Popen, cluster: TwoNodes) -> None:
    """Stop the raylet of the second node for good: the cluster finds out after a minute, and its actors work on."""
    at_work(driver, cluster)
    cluster.second.raylet().suspend()


def is_idle(cluster: TwoNodes) -> bool:
    """Whether the second node has an actor that has loaded and waits."""
    return [title_of(worker) for worker in cluster.second.workers()] == [IDLE_WORKER]


def wait_until(is_so: Callable[[], bool]) -> None:
    end_s = time.monotonic() + PATIENCE_S
    while not is_so():
        assert time.monotonic() < end_s, "the cluster did not get there"
        time.sleep(0.05)


KILLS = {"driver": kill_driver, "actor": kill_actor, "node": kill_node}
CASES = [(stage, victim) for stage in STAGES_KILLED for victim in KILLS]
KILLS |= {"raylet": kill_raylet, "frozen raylet": freeze_raylet}
CASES += [("embed_audio", "raylet"), ("embed_audio", "frozen raylet")]


@pytest.mark.chaos
@pytest.mark.parametrize(("stage", "victim"), CASES)
def test_after_a_kill_the_next_run_leaves_what_an_undisturbed_one_does(stage, victim, before, folder, nodes, tmp_path):
    bank = Path(shutil.copytree(before[stage], tmp_path / "bank"))
    cluster, num_workers = nodes.whole(), 1 if victim in ("driver", "actor") else 2
    pool = {"address": cluster.address, "num_workers": num_workers, "cpus_per_worker": CPUS, "slice_size": 1}
    command = [sys.executable, "-m", "tests.chaos.drive", json.dumps(keys_of(folder, bank, **pool)), stage]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, cwd=ROOT, env=cluster.environment, **pipes) as driver:
        finished, total = progress_of(driver)
        assert 0 < finished < total
        KILLS[victim](driver, cluster)
        driver.stdin.close()
        assert driver.wait(PATIENCE_S) == (0 if victim != "driver" else -9)
    if "raylet" in victim:
        cluster.second.kill()
    run = open_run(make_config(**keys_of(folder, bank)))
    build(run)
    do(run, "render")
    assert_same(run, open_run(make_config(**keys_of(folder, before["undisturbed"]))))
    assert unexplained(run) == set()


def assert_same(run: Run, undisturbed: Run) -> None:
    """Every item is once in its table; vectors, cues and pictures are those of the other run."""
    for name in TABLES:
        rows, others = rows_of(run, name), rows_of(undisturbed, name)
        key = SCHEMAS[name].id
        assert rows and [row[key] for row in rows] == [row[key] for row in others]
        if "vector" in rows[0]:
            vectors, expected = (np.array([row["vector"] for row in table]) for table in (rows, others))
            assert np.abs(vectors - expected).max() <= TOLERANCE * np.abs(expected).max()
        if name == "renders":
            for row, other in zip(rows, others, strict=True):
                difference = np.abs(pixels_of(run, row) - pixels_of(undisturbed, other))
                assert difference.max() <= 1  # rounding to whole numbers


def pixels_of(run: Run, row: dict) -> np.ndarray:
    return decode(read_picture(run.workspace, row), row["key"], ImageOptions()).pixels.astype(int)
