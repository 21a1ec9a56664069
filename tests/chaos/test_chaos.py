"""Drivers, actors and nodes are killed in the middle of a stage; the next run leaves what an undisturbed one does.

They run with `make chaos`, some minutes, along with other tests that kill and are marked `chaos` where they stand;
what they rest on is tested always: the pool's lost workers and deadlines, and a killed driver.
"""

import json
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from deltalake import DeltaTable

from aai.media.images import ImageOptions, decode
from aai.workspace import SCHEMAS
from aai.workspace.shards import read_picture
from flows.steps import STAGES, build
from tasks.runtime.arrow import to_array
from tasks.runtime.config import make_config
from tasks.runtime.run import Run, open_run
from tests.chaos.drive import MARK, make_pictures
from tests.cluster import CPUS, TwoNodes
from tests.collection import write_collection

ROOT = Path(__file__).parents[2]
STAGES_KILLED = ("embed_images", "embed_audio", "fit", "render")
TABLES = ("images", "clips", "image_vectors", "audio_vectors", "aligned_vectors", "neighbours", "cues", "renders")
LOG_FILE = re.compile(r"_delta_log/(\d{20}(\.checkpoint.*)?\.(json|parquet)|_last_checkpoint)")
QUICK_FIT = {"steps": 2, "check_every": 1, "rows_per_step": 1, "held_out_rows": 2}
MOST_OFF = 1e-4
PATIENCE_S = 120


def keys_of(folder: Path, bank: Path, **pool) -> dict:
    return {
        "audio": str(folder / "sounds"),
        "images": str(folder / "images"),
        "workspace": str(bank),
        "retrieve": {"num_neighbours": 2},
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
    """Copies of a bank as it is before each stage that is killed, and as it is undisturbed."""
    run = open_run(make_config(**keys_of(folder, folder / "bank")))
    copies = {}
    for name, stage in (STAGES | {"render": make_pictures}).items():
        if name in STAGES_KILLED:
            copies[name] = Path(shutil.copytree(folder / "bank", folder / f"before-{name}"))
        stage(run)
    return copies | {"undisturbed": folder / "bank"}


def kill_driver(driver: subprocess.Popen, cluster: TwoNodes) -> None:
    driver.kill()
    driver.wait()
    wait_until(lambda: not cluster.workers())


def progress_of(driver: subprocess.Popen) -> tuple[int, int]:
    """What a driver says next: how many items are finished, of how many."""
    while not (said := driver.stdout.readline()).startswith(MARK):
        assert said, "the driver ended"
    finished, total = map(int, said.removeprefix(MARK).split())
    return finished, total


def kill_actor(driver: subprocess.Popen, cluster: TwoNodes) -> None:
    cluster.workers()[0].kill()


def kill_node(driver: subprocess.Popen, cluster: TwoNodes) -> None:
    """Once the node has work, which it has when its actor has loaded and the driver has seen so."""
    wait_until(lambda: is_idle(cluster) and (time.sleep(0.5) or is_idle(cluster)))
    driver.stdin.write("go on\n")
    driver.stdin.flush()
    progress_of(driver)
    cluster.second.kill()


def is_idle(cluster: TwoNodes) -> bool:
    """Whether the second node has an actor that has loaded and waits."""
    return [each.cmdline()[0] for each in cluster.second.workers()] == ["ray::_RemoteHost"]


def wait_until(is_so: Callable[[], bool]) -> None:
    end_s = time.monotonic() + PATIENCE_S
    while not is_so():
        assert time.monotonic() < end_s
        time.sleep(0.05)


KILLS = {"driver": kill_driver, "actor": kill_actor, "node": kill_node}
CASES = [(stage, victim) for stage in STAGES_KILLED for victim in KILLS]


@pytest.mark.chaos
@pytest.mark.parametrize(("stage", "victim"), CASES)
def test_after_a_kill_the_next_run_leaves_what_an_undisturbed_one_does(stage, victim, before, folder, nodes, tmp_path):
    bank = Path(shutil.copytree(before[stage], tmp_path / "bank"))
    cluster, num_workers = nodes.whole(), 2 if victim == "node" else 1
    pool = {"address": cluster.address, "num_workers": num_workers, "cpus_per_worker": CPUS, "slice_size": 1}
    command = [sys.executable, "-m", "tests.chaos.drive", json.dumps(keys_of(folder, bank, **pool)), stage]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, cwd=ROOT, env=cluster.environment, **pipes) as driver:
        finished, total = progress_of(driver)
        assert 0 < finished < total
        KILLS[victim](driver, cluster)
        driver.stdin.close()
        assert driver.wait(PATIENCE_S) == (0 if victim != "driver" else -9)
    run = open_run(make_config(**keys_of(folder, bank)))
    build(run)
    make_pictures(run)
    assert_same(run, open_run(make_config(**keys_of(folder, before["undisturbed"]))))
    assert unexplained(run) == set()


def assert_same(run: Run, undisturbed: Run) -> None:
    """Every item is once in its table; vectors, cues and pictures are those of the other run."""
    for name in TABLES:
        rows, others = rows_of(run, name), rows_of(undisturbed, name)
        assert len(rows) and rows[SCHEMAS[name].id].to_pylist() == others[SCHEMAS[name].id].to_pylist()
        if "vector" in rows.column_names:
            vectors, expected = to_array(rows["vector"]), to_array(others["vector"])
            assert np.abs(vectors - expected).max() <= MOST_OFF * np.abs(expected).max()
        if name == "renders":
            for row, other in zip(rows.to_pylist(), others.to_pylist(), strict=True):
                off = np.abs(pixels_of(run, row) - pixels_of(undisturbed, other))
                assert off.max() <= 1  # in whole numbers, a thousandth may be one up or down


def rows_of(run: Run, name: str) -> pa.Table:
    return run.workspace.table(name).read(recipe=run.recipe(name)).sort_by(SCHEMAS[name].id)


def pixels_of(run: Run, row: dict) -> np.ndarray:
    return decode(read_picture(run.workspace, row), row["key"], ImageOptions()).pixels.astype(int)


def unexplained(run: Run) -> set[str]:
    """Files of the workspace that neither belong to it nor are named by its health, which finds nothing worse."""
    health, root = run.workspace.health(), Path(run.workspace.uri)
    assert (health.missing_shards, health.duplicates) == ([], {})
    known = {*health.orphan_files, *health.orphan_shards, *health.leftovers}
    for name in SCHEMAS:
        if (root / name).exists():
            known |= {str(Path(uri).relative_to(root)) for uri in DeltaTable(root / name).file_uris()}
    known |= {row["shard"] for row in rows_of(run, "renders").to_pylist()}
    found = {str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()}
    return {path for path in found - known if not LOG_FILE.search(path) and not path.startswith("artifacts/")}
