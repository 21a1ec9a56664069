"""Several drivers on the same items at the same time: each item is done once."""

import logging
import os
import signal
import socket
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from threading import Event, Lock, Thread

import pyarrow as pa
import pytest

from aai.identity import content_id
from aai.workspace.drivers import list_drivers
from aai.workspace.shards import ShardWriter, remove_unnamed
from aai.workspace.store import open_store
from tasks.runtime.options import PoolOptions, RunOptions
from tasks.runtime.presence import Presence
from tasks.runtime.sharing import Finished, SharedSlices, is_sole_maker, slices_of
from tasks.runtime.stage import Pending
from tests import bank
from tests.tasks.runtime.test_driver import ROOT, Measure, add_clips, ids_in, run_on, run_stage, stage_of

NUM, SIZE = 200, 10


class Simulated:
    """A driver without a pool, a thread of this process; its commits are a dictionary that all share."""

    rows: dict[str, int]
    lock = Lock()

    def __init__(self, number: int, folder: Path, rows: dict[str, int], num: int, pause_s: float = 0.002) -> None:
        self.number, self.rows, self.num, self.pause_s = number, rows, num, pause_s
        self.mine: list[str] = []
        self.seen: set[str] = set()
        self.store = open_store(folder)
        self.stop = Event()

    def pending(self) -> Pending:
        with self.lock:
            ids = [str(number) for number in range(self.num) if str(number) not in self.rows]
        tables = (pa.table({"id": ids[first : first + 35]}) for first in range(0, len(ids), 35))
        return Pending(self.num, len(ids), 0, tables)

    def of_others(self) -> list[str]:
        with self.lock:
            new = [id for id, number in self.rows.items() if number != self.number and id not in self.seen]
        self.seen |= set(new)
        return new

    def work(self) -> None:
        with Presence(self.store, "cues", "ab12", "fit") as presence:
            pending, finished = self.pending(), Finished([self.of_others])
            slices = SharedSlices(presence, pending, list, self.pending, finished, "id", SIZE, self.stop)
            for rows in slices:
                assert rows is not None, "nothing is in flight"
                time.sleep(self.pause_s)
                ids = rows["id"].to_pylist()
                self.mine += ids
                with self.lock:
                    self.rows |= dict.fromkeys(ids, self.number)
                slices.finish(len(ids))
                presence.release(ids)


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
    logging.basicConfig(format="%(message)s")
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    sys.stdin.readline()
    run = run_on(uri)
    stage = stage_of(run, partial(Logging, log))
    run_stage(run.workspace, stage, PoolOptions(num_workers=0, slice_size=SIZE), RunOptions(commit_slices=1))


def pending_of(ids: range) -> Pending:
    rows = (pa.table({"id": [str(number) for number in ids[first : first + 4]]}) for first in range(0, len(ids), 4))
    return Pending(len(ids), len(ids), 0, rows)


def alone(folder: Path) -> Presence:
    return Presence(open_store(folder), "cues", "ab12", "fit")


def never() -> Pending:
    raise AssertionError("nothing was left out")


def test_small_banks_are_cut_so_that_every_worker_gets_a_slice():
    tables = [pa.table({"id": range(5)}), pa.table({"id": range(2)})]
    assert [rows.num_rows for rows in slices_of(tables, 2)] == [2, 2, 1, 2]


def test_alone_a_driver_takes_all_slices_in_order(tmp_path):
    slices = SharedSlices(alone(tmp_path), pending_of(range(10)), list, never, Finished([list]), "id", 2, Event())
    taken = []
    for rows in slices:
        taken.append(rows["id"].to_pylist())
        slices.finish(len(rows))
    assert taken == [[str(n), str(n + 1)] for n in range(0, 10, 2)]


def test_what_others_finish_unseen_is_left_out(tmp_path, monkeypatch):
    monkeypatch.setattr("tasks.runtime.sharing._LOOK_SHARE", float("inf"))  # look before each slice
    by_others: list[str] = []
    finished = Finished([lambda: list(by_others)])
    slices = SharedSlices(alone(tmp_path), pending_of(range(50)), list, never, finished, "id", 5, Event())
    mine = []
    for rows in slices:
        mine += rows["id"].to_pylist()
        slices.finish(len(rows))
        by_others[:] = [str(number) for number in range(20, 40)]
    assert mine == [str(number) for number in (*range(20), *range(40, 50))]
    assert slices.num_by_others == 20


@pytest.mark.parametrize(("num_drivers", "num"), [(2, 150), (6, 400), (4, 15)])
def test_drivers_that_begin_together_do_nothing_twice(tmp_path, num_drivers, num):
    rows: dict[str, int] = {}
    drivers = [Simulated(number, tmp_path, rows, num) for number in range(num_drivers)]
    threads = [Thread(target=driver.work) for driver in drivers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    done = [id for driver in drivers for id in driver.mine]
    assert len(done) == len(set(done)) == len(rows) == num
    assert list_drivers(drivers[0].store) == []


def test_a_driver_that_comes_later_takes_part_and_waits_for_the_last_slice_of_the_other(tmp_path):
    rows: dict[str, int] = {}
    first, second = (Simulated(number, tmp_path, rows, 120, pause_s=0.1) for number in range(2))
    thread = Thread(target=first.work)
    thread.start()
    while not rows:
        time.sleep(0.01)
    second.work()
    assert len(rows) == 120, "it ends when everything is done"
    thread.join()
    assert sorted([*first.mine, *second.mine]) == sorted(rows) and len(second.mine) >= SIZE


def test_what_another_driver_did_and_left_meanwhile_is_not_done_again(tmp_path):
    rows: dict[str, int] = {}
    first, second = (Simulated(number, tmp_path, rows, 40) for number in range(2))
    presence = Presence(first.store, "cues", "ab12", "fit")
    presence.begin()
    finished = Finished([first.of_others])
    slices = SharedSlices(presence, first.pending(), list, first.pending, finished, "id", SIZE, first.stop)
    for number, taken in enumerate(slices):
        first.mine += taken["id"].to_pylist()
        if number == 0:  # another one comes, does a slice, and goes, while this one is at work
            with Presence(first.store, "cues", "ab12", "fit") as other:
                presence.tend()
                assert other.claim([str(number) for number in range(20, 30)]).all()
                rows |= dict.fromkeys((str(number) for number in range(20, 30)), second.number)
            presence.tend()
            assert presence.is_alone
        slices.finish(len(taken))
    assert first.mine == [str(number) for number in (*range(20), *range(30, 40))]
    presence.end()


def test_a_driver_that_waits_can_be_stopped(tmp_path):
    with Presence(open_store(tmp_path), "cues", "ab12", "fit") as presence:
        presence.claim(["0"])
        waiting = Simulated(1, tmp_path, {}, 1)
        thread = Thread(target=waiting.work)
        thread.start()
        time.sleep(0.5)
        assert thread.is_alive()
        waiting.stop.set()
        thread.join()
    assert waiting.mine == []


@pytest.mark.parametrize("dies", [False, True])
def test_an_artifact_is_made_by_one_driver_and_by_the_next_if_that_one_dies(tmp_path, dies, monkeypatch, caplog):
    monkeypatch.setattr("tasks.runtime.sharing._QUIET_S", 0.1)
    made: list[int] = []
    with alone(tmp_path) as first:
        assert is_sole_maker(first, "version 1", lambda: bool(made), Event())
        answers: list[bool] = []

        def wait() -> None:
            with alone(tmp_path) as second:
                answers.append(is_sole_maker(second, "version 1", lambda: bool(made), Event()))

        thread = Thread(target=wait)
        thread.start()
        while "fit: waits for what is in the hands of host" not in caplog.text:
            assert not answers
            time.sleep(0.01)
        if not dies:
            made.append(1)
    thread.join()
    assert answers == [dies]


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


def started(run: bank.Run, logs: list[Path]) -> list[subprocess.Popen]:
    code = "import sys; from tests.tasks.runtime.test_sharing import drive; drive(*sys.argv[1:])"
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    drivers = [
        subprocess.Popen(
            [sys.executable, "-c", code, run.workspace.uri, str(log)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            env=os.environ | {"PYTHONPATH": path},
        )
        for log in logs
    ]  # fmt: skip
    for driver in drivers:
        assert driver.stdout.readline() == "ready\n"
    for driver in drivers:
        driver.stdin.write("go\n")
        driver.stdin.flush()
    return drivers


@pytest.fixture
def run(tmp_path) -> bank.Run:
    run = run_on(tmp_path / "bank")
    add_clips(run, range(NUM))
    return run


def test_two_drivers_share_the_items_do_none_twice_and_know_of_each_other(run, tmp_path):
    logs = [tmp_path / f"log {number}" for number in range(2)]
    drivers = started(run, logs)
    said = [driver.communicate(timeout=300)[1] for driver in drivers]
    assert [driver.returncode for driver in drivers] == [0, 0], said
    done = [log.read_text().split() for log in logs]
    everything = sorted(content_id(b"%d" % number) for number in range(NUM))
    assert sorted(ids_in(run, "aligned_vectors")) == sorted([*done[0], *done[1]]) == everything
    assert min(map(len, done)) > SIZE
    for driver, text in zip(reversed(drivers), said, strict=True):
        assert f"process {driver.pid}, since" in text and text.count("also at work") == 1
    assert list_drivers(run.workspace.store) == []


def test_the_items_of_a_driver_that_is_killed_are_done_by_the_other(run, tmp_path):
    logs = [tmp_path / f"log {number}" for number in range(2)]
    killed, other = started(run, logs)
    while not all(log.exists() for log in logs):  # then each has seen the other
        assert other.poll() is None
        time.sleep(0.01)
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    _, said = other.communicate(timeout=300)
    assert other.returncode == 0 and f"no sign of life from host {socket.gethostname()}, process {killed.pid}" in said
    done = [log.read_text().split() for log in logs]
    assert len(ids_in(run, "aligned_vectors")) == NUM == len({*done[0], *done[1]})
    assert len(done[0]) + len(done[1]) <= NUM + SIZE, "what was in hand"
    assert list_drivers(run.workspace.store) == []
