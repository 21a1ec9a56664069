"""Several runs on the same items at the same time: each item is done once, but for the slices in work as they meet."""

import os
import subprocess
import sys
from functools import partial
from pathlib import Path
from random import Random
from types import SimpleNamespace

import pyarrow as pa

from aai.identity import content_id
from aai.workspace.shards import ShardWriter, remove_unnamed
from tasks.runtime.options import PoolOptions, RunOptions
from tasks.runtime.sharing import Finished, SharedSlices, slices_of
from tasks.runtime.stage import Pending
from tests import bank
from tests.tasks.runtime.test_driver import ROOT, Measure, add_clips, ids_in, run_on, run_stage, stage_of

NUM, SIZE = 200, 10


class Logging(Measure):
    """Logs the ids that it processes."""

    def __init__(self, log: str) -> None:
        super().__init__(pause_s=0.1)
        self.log = log

    def __call__(self, rows):
        with open(self.log, "a") as log:
            log.writelines(f"{id}\n" for id in rows["clip_id"].to_pylist())
        return super().__call__(rows)


def drive(uri: str, log: str) -> None:
    """Run in a subprocess."""
    sys.stdin.readline()
    run = run_on(uri)
    stage = stage_of(run, partial(Logging, log))
    run_stage(run.workspace, stage, PoolOptions(num_workers=0, slice_size=SIZE), RunOptions(commit_slices=1))


def pending_of(ids: range) -> Pending:
    rows = (pa.table({"id": [str(number) for number in ids[first : first + 4]]}) for first in range(0, len(ids), 4))
    return Pending(len(ids), len(ids), 0, rows)


def no_second_look() -> Pending:
    raise AssertionError("nothing was left out")


def test_small_banks_are_cut_so_that_every_worker_gets_a_slice():
    tables = [pa.table({"id": range(5)}), pa.table({"id": range(2)})]
    assert [rows.num_rows for rows in slices_of(tables, 2)] == [2, 2, 1, 2]


def test_alone_a_run_takes_all_slices_in_order():
    slices = SharedSlices(pending_of(range(10)), no_second_look, Finished([list]), "id", 2)
    assert [rows["id"].to_pylist() for rows in slices] == [[str(n), str(n + 1)] for n in range(0, 10, 2)]


def test_what_others_finish_is_left_out_and_what_was_jumped_over_comes_at_the_end(monkeypatch):
    monkeypatch.setattr("tasks.runtime.sharing._random", Random(5))
    by_others: set[str] = set()
    mine: list[str] = []
    slices = SharedSlices(
        pending_of(range(100)),
        lambda: pending_of(sorted({*range(100)} - {int(id) for id in (*mine, *by_others)})),
        Finished([lambda: list(by_others)]),
        "id",
        5,
    )
    monkeypatch.setattr("tasks.runtime.sharing._LOOK_SHARE", float("inf"))  # look before each slice
    for rows in slices:
        mine += rows["id"].to_pylist()
        slices.finish(rows.num_rows)
        by_others |= {str(number) for number in range(20, 40)}
    assert mine != sorted(mine, key=int), "it jumped"
    assert sorted(map(int, mine)) == [*range(20), *range(40, 100)]
    assert slices.num_by_others == 20


def test_a_pass_waits_for_the_results_of_the_last(monkeypatch):
    monkeypatch.setattr("tasks.runtime.sharing._random", SimpleNamespace(randrange=lambda num: 4))
    slices = SharedSlices(pending_of(range(8)), lambda: pending_of(range(4, 8)), Finished([list]), "id", 4)
    given = iter(slices)
    first = next(given)
    slices.meet()
    assert first["id"].to_pylist() == ["0", "1", "2", "3"] and next(given) is None and next(given) is None
    slices.finish(4)
    assert next(given)["id"].to_pylist() == ["4", "5", "6", "7"]


def test_a_shard_whose_pictures_another_run_has_committed_first_is_removed(tmp_path):
    run = bank.run_on(tmp_path / "bank")
    recipe, rows = run.recipe("renders"), []
    for number in range(2):
        with ShardWriter(run.workspace, "renders", recipe, "png") as shard:
            rows.append(vars(shard.add("one", "png", b"picture %d" % number)) | {"render_id": "one", "clip_ids": []})
    bank.append(run, "renders", rows[:1])
    remove_unnamed(run.workspace, "renders", recipe, [pa.table({"shard": [row["shard"] for row in rows]})])
    assert [Path(run.workspace.store.path(row["shard"])).exists() for row in rows] == [True, False]
    assert run.workspace.health().orphan_shards == []


def test_two_drivers_share_the_items(tmp_path):
    run = run_on(tmp_path / "bank")
    add_clips(run, range(NUM))
    code = "import sys; from tests.tasks.runtime.test_sharing import drive; drive(*sys.argv[1:])"
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    logs = [tmp_path / f"log {number}" for number in range(2)]
    drivers = [
        subprocess.Popen(
            [sys.executable, "-c", code, run.workspace.uri, str(log)],
            stdin=subprocess.PIPE, text=True, env=os.environ | {"PYTHONPATH": path},
        )
        for log in logs
    ]  # fmt: skip
    for driver in drivers:
        driver.stdin.write("go\n")
        driver.stdin.flush()
    for driver in drivers:
        driver.communicate(timeout=120)
    assert [driver.returncode for driver in drivers] == [0, 0]
    done = [log.read_text().split() for log in logs]
    everything = sorted(content_id(b"%d" % number) for number in range(NUM))
    assert sorted(ids_in(run, "aligned_vectors")) == sorted({*done[0], *done[1]}) == everything
    assert min(map(len, done)) > SIZE and len(done[0]) + len(done[1]) <= NUM + 6 * SIZE
