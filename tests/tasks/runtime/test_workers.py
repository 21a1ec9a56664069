"""Workers outlive a stage, and so does the connection to Ray."""

import time
from dataclasses import replace
from types import SimpleNamespace

from tasks.runtime.driver import run_stage
from tasks.runtime.options import PoolOptions, RunOptions
from tasks.runtime.work import LocalPool
from tasks.runtime.workers import Workers
from tests.bank import run_on
from tests.tasks.runtime.test_driver import NUM_CLIPS, add_clips, stage_of


def test_the_start_of_ray_is_said_and_is_no_part_of_a_stage(tmp_path, monkeypatch, caplog):
    run = run_on(tmp_path)
    add_clips(run, range(NUM_CLIPS))
    now_s, addresses = [0.0], []

    def connect(address):
        now_s[0] += 100
        addresses.append(address)

    for module in ("driver", "workers"):
        clock = SimpleNamespace(monotonic=lambda: now_s[0], time_ns=time.time_ns)
        monkeypatch.setattr(f"tasks.runtime.{module}.time", clock)
    monkeypatch.setattr("tasks.runtime.ray_cluster.connect", connect)
    workers, pool = Workers(), PoolOptions(num_workers=2, address="head:6379")
    monkeypatch.setattr(workers, "open", lambda make, column, pool, gpu: LocalPool(make, column, pool))
    summary = run_stage(run.workspace, replace(stage_of(run), workers=workers), pool, RunOptions())
    assert (summary.new, summary.took_s, addresses) == (NUM_CLIPS, 0, ["head:6379"])
    assert [record.message for record in caplog.records] == ["starting Ray", "Ray is ready after 1 min 40 s"]
    assert workers.connect(pool) == 0 and len(addresses) == 1, "it is there for the next stage"
