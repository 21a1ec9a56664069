"""The pool on a real Ray on this machine: workers die, hang, fail and run out of memory; items come back once."""

import os
import signal
import socket
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from threading import Event

import pyarrow as pa
import pytest
import ray
from pydantic import ValidationError
from ray.cluster_utils import Cluster
from ray.exceptions import RayTaskError

from aai.errors import BadConfig, BadItem, Transient
from tasks.runtime.ray_pool import RayPool, connect
from tasks.runtime.work import LocalPool, Outcome, PoolOptions, Queue, Reject

POISON = "poison"
QUICK = {"backoff_s": 0.01, "slice_size": 50, "num_workers": 1}


class Echo:
    """Gives each item back, but does something first."""

    def __init__(self, act=None):
        self.act = act

    def __call__(self, rows: pa.Table) -> Outcome:
        if self.act:
            self.act(rows["id"].to_pylist())
        return Outcome(rows.select(["id"]))


def once(act, marker: Path, ids):
    """Act at the first call on any worker."""
    try:
        marker.touch(exist_ok=False)
    except FileExistsError:
        return
    act(ids)


def at_poison(act, ids):
    if POISON in ids:
        act(ids)


def leave(ids):
    os._exit(1)


def kill(ids):
    os.kill(os.getpid(), signal.SIGKILL)


def freeze(ids):
    os.kill(os.getpid(), signal.SIGSTOP)


def hang(ids):
    time.sleep(600)


def hiccup(ids):
    raise Transient("the store failed")


def break_down(ids):
    raise ZeroDivisionError("a bug in the worker")


class OutOfMemoryError(RuntimeError):
    """Named as torch has it."""


class Hungry:
    """Has memory for two items at a time; says how many times it was asked for more."""

    def __init__(self, log: Path, can_halve=True, batch=8):
        self.log, self.can_halve, self.batch = log, can_halve, batch

    def halve_batch(self) -> bool:
        if not self.can_halve or self.batch == 1:
            return False
        self.batch //= 2
        return True

    def __call__(self, rows: pa.Table) -> Outcome:
        if POISON in rows["id"].to_pylist() or min(self.batch, rows.num_rows) > 2:
            with self.log.open("a") as log:
                log.write("full\n")
            raise OutOfMemoryError("CUDA out of memory")
        return Outcome(rows.select(["id"]))


class Picky:
    """Catches what is wrong with an item, as workers do."""

    def __call__(self, rows: pa.Table) -> Outcome:
        bad = BadItem("it is silent: record it again")
        rejects = [Reject.of(id, bad) for id in rows["id"].to_pylist() if id == POISON]
        good = [id for id in rows["id"].to_pylist() if id != POISON]
        return Outcome(pa.table({"id": good}), rejects)


class Forgetful:
    def __call__(self, rows: pa.Table) -> Outcome:
        return Outcome(rows.select(["id"]).slice(1))


class Unready:
    """Does something instead of loading."""

    def __init__(self, act):
        act([])


def ids_with_poison(num: int) -> list[str]:
    ids = [f"item {number}" for number in range(num)]
    ids[num // 3] = POISON
    return ids


def cut(ids, size):
    for first in range(0, len(ids), size):
        yield pa.table({"id": ids[first : first + size], "uri": [f"{id}.wav" for id in ids[first : first + size]]})


def run(make_worker, ids, pool=RayPool, **options):
    """The ids that came back, in order of id, and the rejects; none may come twice."""
    options = PoolOptions(**(QUICK | options))
    outcomes = [
        done.outcome
        for finished in pool(make_worker, "id", options).map(cut(ids, options.slice_size), Event())
        for done in finished
    ]
    came = [id for outcome in outcomes if outcome.rows for id in outcome.rows["id"].to_pylist()]
    rejects = [reject for outcome in outcomes for reject in outcome.rejects]
    assert sorted(came + [reject.id for reject in rejects]) == sorted(ids)
    return came, rejects


@pytest.fixture(scope="module", autouse=True)
def cluster():
    """One machine with four CPUs; Ray's own test cluster, so that another can join and be killed."""
    machines = Cluster(
        initialize_head=True,
        head_node_args={"num_cpus": 4, "include_dashboard": False, "object_store_memory": 200_000_000},
    )
    ray.init(address=machines.address, log_to_driver=False, logging_level="ERROR")
    yield machines
    ray.shutdown()
    machines.shutdown()


POOLS = pytest.mark.parametrize("pool", [RayPool, LocalPool])


@POOLS
def test_every_item_comes_back_once(pool):
    came, rejects = run(Echo, ids_with_poison(500), pool)
    assert len(came) == 500 and rejects == []


@POOLS
def test_nothing_to_do_is_done_at_once(pool):
    assert run(Echo, [], pool) == ([], [])


@pytest.mark.parametrize("act", [leave, kill])
def test_a_worker_that_dies_once_costs_nothing(act, tmp_path):
    came, rejects = run(partial(Echo, partial(once, act, tmp_path / "died")), ids_with_poison(500))
    assert len(came) == 500 and rejects == []


def test_an_item_that_always_kills_is_found_and_rejected():
    came, [reject] = run(partial(Echo, partial(at_poison, kill)), ids_with_poison(500), slice_size=8, num_workers=2)
    assert len(came) == 499
    assert (reject.id, reject.uri, reject.error) == (POISON, "poison.wav", "WorkerDied")
    assert "died over it, twice" in reject.sentence


@pytest.mark.parametrize("act", [hang, pytest.param(freeze, marks=pytest.mark.chaos)])
def test_a_slice_past_its_deadline_is_as_one_that_kills(act):
    came, [reject] = run(partial(Echo, partial(at_poison, act)), ids_with_poison(8), deadline_s=1.0, slice_size=1)
    assert len(came) == 7
    assert (reject.id, reject.error) == (POISON, "DeadlineExceeded")
    assert "1 s (deadline_s)" in reject.sentence


@POOLS
def test_a_transient_failure_is_tried_again(pool, tmp_path):
    came, rejects = run(partial(Echo, partial(once, hiccup, tmp_path / "failed")), ids_with_poison(200), pool)
    assert len(came) == 200 and rejects == []


@POOLS
def test_a_failure_that_stays_ends_the_run(pool):
    with pytest.raises(Transient, match=r"item 50 and 49 others failed 3 times \(max_attempts\)"):
        run(partial(Echo, partial(at_poison, hiccup)), ids_with_poison(200), pool, max_attempts=3)


def test_a_bug_ends_the_run_with_the_workers_traceback():
    with pytest.raises(RayTaskError, match=r"(?s)in break_down.*a bug in the worker") as caught:
        run(partial(Echo, break_down), ids_with_poison(200))
    assert isinstance(caught.value, ZeroDivisionError)


def test_a_bug_in_this_process_is_raised_as_it_is():
    with pytest.raises(ZeroDivisionError):
        run(partial(Echo, break_down), ids_with_poison(200), LocalPool)


@POOLS
def test_items_that_are_neither_rows_nor_rejects_are_a_bug(pool):
    with pytest.raises(RuntimeError, match="1 items have not either rows or a reject, as item 0"):
        run(Forgetful, ids_with_poison(50), pool)


@POOLS
def test_a_bad_item_is_a_reject_and_the_others_are_not(pool):
    came, [reject] = run(Picky, ids_with_poison(200), pool)
    assert len(came) == 199
    assert reject == Reject(POISON, "BadItem", "it is silent: record it again")


@POOLS
def test_memory_that_is_short_halves_the_batch_and_this_is_remembered(pool, tmp_path):
    log = tmp_path / "log"
    ids = [f"item {number}" for number in range(96)]
    came, rejects = run(partial(Hungry, log), ids, pool, slice_size=8, num_workers=1)
    assert len(came) == 96 and rejects == []
    assert log.read_text().split() == ["full"] * 2  # 8, 4: then it knew


@POOLS
def test_without_a_batch_to_halve_the_slice_is_halved(pool, tmp_path):
    came, rejects = run(partial(Hungry, tmp_path / "log", can_halve=False), ["a", "b", "c", "d"], pool, slice_size=4)
    assert sorted(came) == ["a", "b", "c", "d"] and rejects == []


@POOLS
def test_an_item_too_large_for_the_memory_is_rejected(pool, tmp_path):
    came, [reject] = run(partial(Hungry, tmp_path / "log"), ids_with_poison(12), pool, slice_size=4)
    assert len(came) == 11
    assert (reject.id, reject.error) == (POISON, "OutOfMemoryError")


def test_a_new_worker_starts_with_the_batch_that_fitted(tmp_path):
    pool = RayPool(partial(Hungry, tmp_path / "log"), "id", PoolOptions(num_workers=1))
    for _ in range(2):  # the second time with a new actor
        assert [done.num_items for finished in pool.map(cut(["x"] * 8, 8), Event()) for done in finished] == [8]
    assert (tmp_path / "log").read_text().split() == ["full"] * 2


def test_slices_are_asked_for_as_they_are_needed():
    asked = []

    def slices():
        for number, rows in enumerate(cut([f"item {number}" for number in range(100)], 1)):
            asked.append(number)
            yield rows

    pool = RayPool(Echo, "id", PoolOptions(num_workers=2))
    num_done = 0
    for finished in pool.map(slices(), Event()):
        num_done += len(finished)
        assert len(asked) - num_done <= 2 * 2 + 2  # in flight, and looked at to see that there are more
        time.sleep(0.01)
    assert num_done == len(asked) == 100


def test_one_cpu_stays_free():
    pool = RayPool(Echo, "id", PoolOptions())
    most = 0
    for _ in pool.map(cut([f"item {number}" for number in range(40)], 1), Event()):
        most = max(most, len(pool._actors))
    assert most == 3


def test_what_is_at_work_may_finish_when_told_to_stop():
    stop = Event()
    pool = RayPool(partial(Echo, partial(time_out, 0.2)), "id", PoolOptions(num_workers=2))
    num_done = 0
    for finished in pool.map(cut([f"item {number}" for number in range(100)], 1), stop):
        num_done += len(finished)
        if num_done:
            stop.set()
    assert 1 < num_done <= 2 * 2 + 2


def time_out(time_s, ids):
    time.sleep(time_s)


def test_what_no_machine_has_is_refused():
    with pytest.raises(BadConfig, match="gpus_per_worker: no machine has 1 CPUs and 99 GPUs"):
        run(Echo, ["a"], gpus_per_worker=99)


def test_workers_that_die_as_they_load_end_the_run():
    with pytest.raises(BadConfig, match="workers died as they loaded, 2 times in a row"):
        run(partial(Unready, leave), ["a"], max_attempts=2)


def test_a_worker_that_cannot_be_read_where_it_should_work_is_no_riddle(monkeypatch, tmp_path):
    (tmp_path / "elsewhere.py").write_text("class Absent:\n    pass\n")
    monkeypatch.syspath_prepend(tmp_path)
    import elsewhere

    with pytest.raises(Exception, match="No module named 'elsewhere'"):
        run(elsewhere.Absent, ["a"])


def test_a_bug_in_loading_ends_the_run():
    with pytest.raises(ZeroDivisionError, match="a bug in the worker"):
        run(partial(Unready, break_down), ["a"])


def refuse(ids):
    raise BadConfig("learning_rate: too large: lower it")


def test_a_worker_that_cannot_work_with_its_options_says_so_plainly():
    with pytest.raises(BadConfig) as caught:
        run(partial(Unready, refuse), ["a"])
    assert str(caught.value) == "learning_rate: too large: lower it"


def test_a_full_cluster_is_told_from_a_slow_one():
    @ray.remote(num_cpus=4)
    class Hog:
        def ready(self):
            return None

    hog = Hog.remote()
    ray.get(hog.ready.remote())
    with pytest.raises(Transient, match=r"no worker was ready within 0.5 s \(start_s\)"):
        run(Echo, ["a"], start_s=0.5)
    ray.kill(hog)


def test_ray_client_is_refused():
    with pytest.raises(BadConfig, match="address: ray://head:10001 is Ray Client, which ends the run"):
        connect("ray://head:10001")


def test_an_address_that_does_not_answer_is_no_local_cluster():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    code = (
        "from aai.errors import BadConfig\nfrom tasks.runtime.ray_pool import connect\n"
        f"try:\n  connect('127.0.0.1:{port}')\nexcept BadConfig as e:\n  print(repr(e))"
    )
    start = time.monotonic()
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.startswith(f"BadConfig('address: nothing answers at 127.0.0.1:{port}")
    assert time.monotonic() - start < 10


def test_a_process_stays_with_the_cluster_it_has_joined(cluster):
    connect(cluster.address)
    connect(None)
    with socket.create_server(("127.0.0.1", 0)) as other, pytest.raises(BadConfig, match="this process has joined"):
        connect(f"127.0.0.1:{other.getsockname()[1]}")


def test_an_address_without_a_port_is_refused():
    with pytest.raises(BadConfig, match="address: 'head' is not host:port"):
        connect("head")


def test_a_slice_is_sent_without_the_table_it_was_cut_from():
    rows = next(cut([f"item {number}" for number in range(100_000)], 100_000)).slice(500, 10)
    context = ray._private.worker.global_worker.get_serialization_context()
    assert context.serialize(rows).total_bytes < 10_000


@pytest.mark.parametrize("wrong", [{"num_workers": -1}, {"cpus_per_worker": 0}, {"slice_size": 0}, {"workers": 3}])
def test_options_have_bounds(wrong):
    with pytest.raises(ValidationError):
        PoolOptions(**wrong)


def test_a_slice_waits_longer_each_time():
    queue = Queue(cut(["a"], 1), "id", PoolOptions(backoff_s=8, max_attempts=3))
    piece = queue.pop()
    queue.try_later(piece, Transient("no"))
    assert queue.pop() is None and 3 < queue.due_in_s() <= 8


@pytest.mark.chaos
def test_a_machine_that_is_lost_takes_nothing_with_it(cluster):
    second = cluster.add_node(num_cpus=3, include_dashboard=False, object_store_memory=100_000_000)
    options = PoolOptions(cpus_per_worker=3, backoff_s=0.01)  # room for one worker on each
    pool = RayPool(partial(Echo, partial(time_out, 0.1)), "id", options)
    came = []
    for finished in pool.map(cut([f"item {number}" for number in range(100)], 1), Event()):
        came += [id for done in finished for id in done.outcome.rows["id"].to_pylist()]
        places = {actor.node_id for actor in pool._actors if actor.slices}
        if second and len(places) == 2:
            cluster.remove_node(second, allow_graceful=False)
            second = None
    assert second is None
    assert sorted(came) == sorted(f"item {number}" for number in range(100))
