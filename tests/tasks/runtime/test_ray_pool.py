"""The pool on a real Ray on this machine: workers die, hang, fail and run out of memory; each item is done once.

Tests with `POOLS` hold for the pool in this process, too.
"""

import time
from functools import partial
from threading import Event

import pytest
import ray
from ray.exceptions import RayTaskError

from aai.errors import BadConfig, Transient
from tasks.runtime.options import PoolOptions
from tasks.runtime.ray_pool import RayPool
from tasks.runtime.work import LocalPool, Reject
from tests.tasks.runtime.workers import (
    POISON,
    Echo,
    Forgetful,
    Hungry,
    Picky,
    Unready,
    at_poison,
    break_down,
    break_the_gpu,
    cut,
    exhaust,
    exhaust_the_limit,
    fail,
    freeze,
    hang,
    ids_with_poison,
    kill,
    leave,
    once,
    pause,
    process,
)

pytestmark = pytest.mark.usefixtures("cluster")

POOLS = pytest.mark.parametrize("pool", [RayPool, LocalPool])


@POOLS
def test_every_item_comes_back_once(pool):
    done, rejects = process(Echo, ids_with_poison(500), pool)
    assert len(done) == 500 and rejects == []


@POOLS
def test_nothing_to_do_is_done_at_once(pool):
    assert process(Echo, [], pool) == ([], [])


@pytest.mark.parametrize("act", [leave, kill])
def test_a_worker_that_dies_once_costs_nothing(act, tmp_path):
    done, rejects = process(partial(Echo, partial(once, act, tmp_path / "died")), ids_with_poison(500), RayPool)
    assert len(done) == 500 and rejects == []


def test_an_item_that_always_kills_is_found_and_rejected():
    done, [reject] = process(
        partial(Echo, partial(at_poison, kill)), ids_with_poison(500), RayPool, slice_size=8, num_workers=2
    )
    assert len(done) == 499
    assert (reject.id, reject.uri, reject.error) == (POISON, "poison.wav", "WorkerDied")
    assert "it crashed its worker twice" in reject.sentence


@pytest.mark.parametrize("act", [hang, pytest.param(freeze, marks=pytest.mark.chaos)])
def test_an_item_past_its_deadline_twice_is_rejected(act):
    done, [reject] = process(
        partial(Echo, partial(at_poison, act)), ids_with_poison(8), RayPool, deadline_s=5.0, slice_size=1
    )
    assert len(done) == 7
    assert (reject.id, reject.error) == (POISON, "DeadlineExceeded")
    assert "5 s (deadline_s)" in reject.sentence


@POOLS
def test_a_transient_failure_is_tried_again(pool, tmp_path):
    done, rejects = process(partial(Echo, partial(once, fail, tmp_path / "failed")), ids_with_poison(200), pool)
    assert len(done) == 200 and rejects == []


@POOLS
def test_a_failure_that_stays_ends_the_run(pool):
    with pytest.raises(Transient, match=r"item 50 and 49 others failed 3 times \(max_attempts\)"):
        process(partial(Echo, partial(at_poison, fail)), ids_with_poison(200), pool, max_attempts=3)


def test_a_bug_ends_the_run_with_the_workers_traceback():
    with pytest.raises(RayTaskError, match=r"(?s)in break_down.*a bug in the worker") as caught:
        process(partial(Echo, break_down), ids_with_poison(200), RayPool)
    assert isinstance(caught.value, ZeroDivisionError)


def test_a_bug_in_this_process_is_raised_as_it_is():
    with pytest.raises(ZeroDivisionError):
        process(partial(Echo, break_down), ids_with_poison(200), LocalPool)


@POOLS
def test_items_that_are_neither_rows_nor_rejects_are_a_bug(pool):
    with pytest.raises(RuntimeError, match="1 items have not either rows or a reject, as item 0"):
        process(Forgetful, ids_with_poison(50), pool)


@POOLS
def test_a_bad_item_is_a_reject_and_the_others_are_not(pool):
    done, [reject] = process(Picky, ids_with_poison(200), pool)
    assert len(done) == 199
    assert reject == Reject(POISON, "BadItem", "it is silent: record it again")


@POOLS
def test_short_memory_halves_the_batch_for_good(pool, tmp_path):
    log = tmp_path / "log"
    ids = [f"item {number}" for number in range(96)]
    done, rejects = process(partial(Hungry, log), ids, pool, slice_size=8, num_workers=1)
    assert len(done) == 96 and rejects == []
    assert log.read_text().split() == ["full"] * 2  # 8, 4: then it knew


@POOLS
def test_without_a_batch_to_halve_the_slice_is_halved(pool, tmp_path):
    done, rejects = process(
        partial(Hungry, tmp_path / "log", can_halve=False), ["a", "b", "c", "d"], pool, slice_size=4
    )
    assert sorted(done) == ["a", "b", "c", "d"] and rejects == []


@POOLS
def test_an_item_too_large_for_the_memory_is_rejected(pool, tmp_path):
    done, [reject] = process(partial(Hungry, tmp_path / "log"), ids_with_poison(12), pool, slice_size=4)
    assert len(done) == 11
    assert (reject.id, reject.error) == (POISON, "OutOfMemoryError")


def test_after_a_failure_of_its_gpu_another_process_does_the_slice(tmp_path):
    log = tmp_path / "log"
    done, rejects = process(partial(Echo, partial(break_the_gpu, log)), ids_with_poison(100), RayPool)
    assert (len(done), rejects) == (100, [])
    first, *_, last_but_one, last = log.read_text().split()
    assert first not in (last_but_one, last), "what was queued at the broken process is done again, too"


@pytest.mark.chaos
def test_an_item_past_a_workers_limit_of_memory_is_rejected():
    done, [reject] = process(partial(Echo, partial(at_poison, exhaust_the_limit)), ids_with_poison(50), RayPool)
    assert (len(done), reject.id, reject.error) == (49, POISON, "OutOfMemoryError")


def test_a_new_worker_starts_with_the_batch_that_fitted(tmp_path):
    pool = RayPool(partial(Hungry, tmp_path / "log"), "id", PoolOptions(num_workers=1))
    for _ in range(2):  # the second time with a new actor
        assert [done.num_items for finished in pool.map(cut(["x"] * 8, 8), Event()) for done in finished] == [8]
    assert (tmp_path / "log").read_text().split() == ["full"] * 2


def test_slices_are_taken_as_they_are_needed():
    taken = []

    def slices():
        for number, rows in enumerate(cut([f"item {number}" for number in range(100)], 1)):
            taken.append(number)
            yield rows

    pool = RayPool(Echo, "id", PoolOptions(num_workers=2))
    num_done = 0
    for finished in pool.map(slices(), Event()):
        num_done += len(finished)
        assert len(taken) - num_done <= 2 * 2 + 2  # in flight, and looked at to see that there are more
        time.sleep(0.01)
    assert num_done == len(taken) == 100


def test_one_cpu_stays_free():
    pool = RayPool(Echo, "id", PoolOptions())
    assert pool.num_workers == 3
    most = 0
    for _ in pool.map(cut([f"item {number}" for number in range(40)], 1), Event()):
        most = max(most, len(pool._actors))
    assert most == 3


def test_slices_in_flight_may_finish_after_a_stop():
    stop = Event()
    pool = RayPool(partial(Echo, partial(pause, 0.2)), "id", PoolOptions(num_workers=2))
    num_done = 0
    for finished in pool.map(cut([f"item {number}" for number in range(100)], 1), stop):
        num_done += len(finished)
        if num_done:
            stop.set()
    assert 1 < num_done <= 2 * 2 + 2


def test_resources_that_no_node_has_are_refused():
    with pytest.raises(BadConfig, match="99 GPUs, and no node has more than 0 GPUs") as error:
        process(Echo, ["a"], RayPool, gpus_per_worker=99)
    assert error.value.key == "pool.gpus_per_worker"


def test_workers_that_die_as_they_load_end_the_run():
    with pytest.raises(BadConfig, match="workers died while they loaded, 2 times in a row") as error:
        process(partial(Unready, leave), ["a"], RayPool, max_attempts=2)
    assert error.value.key == "pool.num_workers"


def test_the_error_names_the_module_that_a_worker_cannot_import(monkeypatch, tmp_path):
    (tmp_path / "elsewhere.py").write_text("class Absent:\n    pass\n")
    monkeypatch.syspath_prepend(tmp_path)
    import elsewhere

    with pytest.raises(Exception, match="No module named 'elsewhere'"):
        process(elsewhere.Absent, ["a"], RayPool)


@POOLS
def test_a_model_too_large_for_the_memory_ends_the_run_with_the_remedy(pool):
    with pytest.raises(BadConfig, match="the model does not fit into memory") as error:
        process(partial(Unready, exhaust), ["a"], pool)
    assert error.value.key == "models"


def test_a_bug_in_loading_ends_the_run():
    with pytest.raises(ZeroDivisionError, match="a bug in the worker"):
        process(partial(Unready, break_down), ["a"], RayPool)


def refuse(ids):
    raise BadConfig("too large: lower it", key="fit.learning_rate")


def test_a_wrong_option_that_a_worker_finds_is_raised_as_it_is():
    with pytest.raises(BadConfig) as caught:
        process(partial(Unready, refuse), ["a"], RayPool)
    assert (caught.value.key, caught.value.sentence) == ("fit.learning_rate", "too large: lower it")


def test_a_full_cluster_ends_the_run_with_a_question():
    @ray.remote(num_cpus=4)
    class Hog:
        def ready(self):
            return None

    hog = Hog.remote()
    ray.get(hog.ready.remote())
    with pytest.raises(Transient, match=r"no worker was ready within 0.5 s \(start_s\)"):
        process(Echo, ["a"], RayPool, start_s=0.5)
    ray.kill(hog)


def test_a_slice_is_sent_without_the_table_it_was_cut_from():
    rows = next(cut([f"item {number}" for number in range(100_000)], 100_000)).slice(500, 10)
    context = ray._private.worker.global_worker.get_serialization_context()
    assert context.serialize(rows).total_bytes < 10_000


@pytest.mark.chaos
def test_nothing_is_lost_with_a_node(cluster):
    second = cluster.add_node(num_cpus=3, include_dashboard=False, object_store_memory=100_000_000)
    options = PoolOptions(cpus_per_worker=3, backoff_s=0.01)  # room for one worker on each
    pool = RayPool(partial(Echo, partial(pause, 0.1)), "id", options)
    done_ids = []
    for finished in pool.map(cut([f"item {number}" for number in range(100)], 1), Event()):
        done_ids += [id for done in finished for id in done.outcome.rows["id"].to_pylist()]
        nodes = {actor.node_id for actor in pool._actors if actor.slices}
        if second and len(nodes) == 2:
            cluster.remove_node(second, allow_graceful=False)
            second = None
    assert second is None
    assert sorted(done_ids) == sorted(f"item {number}" for number in range(100))


def test_nodes_that_are_lost_and_join_are_logged(monkeypatch, caplog):
    pool = RayPool(Echo, "id", PoolOptions())
    for numbers in ((1, 2), (2, 3), (2, 3)):
        nodes = [
            {"NodeID": str(number), "NodeManagerAddress": f"10.0.0.{number}", "Resources": {"CPU": 2}}
            for number in numbers
        ]
        monkeypatch.setattr("tasks.runtime.ray_pool.alive_nodes", lambda nodes=nodes: nodes)
        pool._count()
    assert caplog.messages == ["node 10.0.0.1 is lost: others do its slices", "node 10.0.0.3 has joined"]


def test_without_any_gpu_no_stage_takes_one():
    assert RayPool(Echo, "id", PoolOptions(), True)._options.gpus_per_worker == 0
