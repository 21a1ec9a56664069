"""A build on a cluster of two nodes, joined by its address, makes what one in this process makes."""

import json
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from aai.errors import BadConfig
from aai.workspace import Health
from flows.steps import build
from tasks.stages import make_config, open_run
from tests.cluster import CPUS
from tests.collection import NUM_CLIPS, write_collection
from tests.same import assert_same

ROOT = Path(__file__).parents[2]
TWICE = ("ingest_images", "embed_images")
"""Stages with a worker on either node; the others have one, as a worker takes seconds to start."""
TABLES = ("images", "clips", "image_vectors", "audio_vectors", "aligned_vectors", "neighbours", "cues")
HEALTHY = Health(orphan_files=[], orphan_shards=[], missing_shards=[], leftovers=[], duplicates={})
QUICK_TRAINING = {"method": "learned", "steps": 2, "batch_size": 4}
QUICK_FIT = {"method": "adapter", "steps": 2, "eval_every": 1, "rows_per_step": 1, "eval_rows": 2}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return write_collection(tmp_path_factory.mktemp("collection"))


def keys_of(folder: Path, bank: str, **pool) -> dict:
    locations = {"audio": str(folder / "sounds"), "images": str(folder / "images"), "workspace": str(folder / bank)}
    quick = {
        "train_mapper": QUICK_TRAINING,
        "fit": QUICK_FIT,
        "retrieve": {"num_neighbours": 2},
        "confidence": {"method": "none"},
    }
    return locations | quick | {"metadata": str(folder / "said.csv"), "pool": pool}


@pytest.mark.slow
def test_every_stage_runs_on_a_cluster_and_makes_what_this_process_makes(folder, nodes):
    cluster = nodes.whole()
    keys = keys_of(folder, "cluster", address=cluster.address, num_workers=1, cpus_per_worker=CPUS, slice_size=2)
    keys |= {"pools": {stage: {"num_workers": 2} for stage in TWICE}}
    (folder / "cluster.json").write_text(json.dumps(keys))  # JSON is YAML
    command = [sys.executable, "-m", "flows.app.cli", "build", "-c", str(folder / "cluster.json")]
    at_work = set()
    with subprocess.Popen(command, cwd=ROOT, env=cluster.environment, stdout=subprocess.DEVNULL) as driver:
        while driver.poll() is None:
            at_work |= {number for number, node in enumerate(cluster.nodes) if node.workers()}
            time.sleep(0.1)
    assert (driver.returncode, at_work) == (0, {0, 1})
    run, local = open_run(make_config(**keys)), open_run(make_config(**keys_of(folder, "local", num_workers=0)))
    build(local)
    for name in TABLES:
        assert_same(name, run, local)
    assert len(run.workspace.table("cues").read()) == NUM_CLIPS
    assert run.workspace.health() == HEALTHY


def test_a_build_on_a_cluster_that_does_not_answer_fails_without_another_try(folder, monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    address, started = f"127.0.0.1:{port}", []
    monkeypatch.setattr("ray.init", lambda *args, **options: started.append(options))
    with pytest.raises(BadConfig, match=f"nothing answers at {address}: start Ray there") as error:
        build(open_run(make_config(**keys_of(folder, "nowhere", address=address))))
    assert (error.value.key, started) == ("pool.address", [])
