"""The queue retries and bisects slices; the runner halves batches; both in this process, without Ray."""

import time
from functools import partial
from threading import Event
from types import SimpleNamespace

import pyarrow as pa
import pytest

from aai.errors import BadItem, Transient
from tasks.runtime.options import PoolOptions
from tasks.runtime.work import Batched, Done, LocalPool, Outcome, Queue, Reject, WorkerRunner, batches
from tests.tasks.runtime.workers import (
    POISON,
    Echo,
    Forgetful,
    Hungry,
    at_poison,
    cut,
    exhaust,
    exhaust_the_limit,
    exhaust_the_machine,
    exhaust_the_machine_by_torch,
    fail,
    ids_with_poison,
    once,
    process,
)

OPTIONS = PoolOptions(backoff_s=8, max_attempts=3)


def queue_of(num: int, size: int, options: PoolOptions = OPTIONS) -> Queue:
    return Queue(cut([f"item {number}" for number in range(num)], size), "id", options)


def ids_of(item) -> list[str]:
    return item.rows["id"].to_pylist()


@pytest.fixture
def clock(monkeypatch) -> list[float]:
    """The time in seconds that the queue sees."""
    now_s = [100.0]
    monkeypatch.setattr("tasks.runtime.work.time", SimpleNamespace(monotonic=lambda: now_s[0], sleep=time.sleep))
    return now_s


def test_slices_come_in_order_and_are_read_as_they_are_needed():
    taken = []

    def slices():
        for rows in cut(["a", "b", "c", "d"], 1):
            taken.append(rows["id"][0].as_py())
            yield rows

    queue = Queue(slices(), "id", OPTIONS)
    assert queue.waiting(2) == 2 and taken == ["a", "b"]
    assert ids_of(queue.pop()) == ["a"] and taken == ["a", "b"]
    assert [ids_of(queue.pop()) for _ in range(3)] == [["b"], ["c"], ["d"]]
    assert queue.pop() is None and queue.waiting(1) == 0


def test_a_source_that_waits_for_a_result_has_nothing_now_and_more_later():
    queue = Queue(iter([pa.table({"id": ["a"]}), None, pa.table({"id": ["b"]})]), "id", OPTIONS)
    assert ids_of(queue.pop()) == ["a"]
    assert queue.pop() is None
    assert ids_of(queue.pop()) == ["b"]


def test_the_pause_before_an_attempt_doubles(clock):
    queue = queue_of(1, 1)
    item = queue.pop()
    for longest_s in (8, 16):
        queue.retry_later(item, Transient("the store failed"))
        assert queue.pop() is None and longest_s / 2 <= queue.due_in_s() <= longest_s
        clock[0] += longest_s
        assert queue.due_in_s() == 0
        item = queue.pop()
    assert item.attempts == 2


def test_after_the_last_attempt_the_error_names_the_slice_and_the_cause():
    queue = queue_of(3, 3)
    item = queue.pop()
    for _ in range(2):
        queue.retry_later(item, Transient("no"))
        [item] = queue._again
        queue._again.clear()
    with pytest.raises(
        Transient, match=r"item 0 and 2 others failed 3 times \(max_attempts\), at last with: the store"
    ):
        queue.retry_later(item, Transient("the store failed"))


def test_a_slice_that_was_not_begun_comes_back_first():
    queue = queue_of(2, 1)
    first = queue.pop()
    queue.requeue(first)
    assert [ids_of(queue.pop()) for _ in range(2)] == [["item 0"], ["item 1"]]


def test_bisection_finds_the_item_that_crashes_workers():
    queue, attempts, finished = Queue(cut(ids_with_poison(16), 16), "id", OPTIONS), [], []
    while (item := queue.pop()) is not None:
        attempts.append(ids_of(item))
        if POISON in ids_of(item):
            finished += queue.bisect(item, "WorkerDied", "it crashed its worker twice")
    assert finished == [
        Done(Outcome(None, [Reject(POISON, "WorkerDied", "it crashed its worker twice", "poison.wav")]), 1)
    ]
    assert attempts.count([POISON]) == 2, "a single item has a second attempt"
    healthy = [id for ids in attempts if POISON not in ids for id in ids]
    assert sorted([*healthy, POISON]) == sorted(ids_with_poison(16)), "the others are processed once"


def test_a_runner_halves_the_batch_until_the_slice_fits(tmp_path):
    runner = WorkerRunner("id")
    runner.load(partial(Hungry, tmp_path / "log"))
    [rows] = cut([f"item {number}" for number in range(8)], 8)
    done = runner.run(rows)
    assert (done.num_items, done.num_halvings, runner.worker.batch_size) == (8, 2, 2)
    assert runner.run(rows).num_halvings == 2, "for good"


def test_a_runner_of_a_new_worker_starts_with_the_batch_that_fitted(tmp_path):
    runner = WorkerRunner("id", num_halvings=2)
    runner.load(partial(Hungry, tmp_path / "log"))
    assert runner.worker.batch_size == 2


def test_a_runner_raises_the_shortage_at_the_smallest_batch(tmp_path):
    runner = WorkerRunner("id")
    runner.load(partial(Hungry, tmp_path / "log"))
    with pytest.raises(RuntimeError, match="CUDA out of memory"):
        runner.run(pa.table({"id": [POISON]}))
    assert runner.worker.batch_size == 1


@pytest.mark.parametrize(
    "outcome",
    [
        Outcome(None),
        Outcome(pa.table({"id": ["a"]})),
        Outcome(pa.table({"id": ["a", "b", "c"]})),
        Outcome(pa.table({"id": ["a", "b"]}), [Reject("a", "BadItem", "silent")]),
        Outcome(pa.table({"id": ["a"]}), [Reject("b", "BadItem", "gone", part_of="a")]),
    ],
)
def test_a_worker_that_leaves_an_item_out_or_answers_twice_has_a_bug(outcome):
    runner = WorkerRunner("id")
    runner.load(lambda: lambda rows: outcome)
    with pytest.raises(RuntimeError, match=r"\d items have not either rows or a reject"):
        runner.run(pa.table({"id": ["a", "b"]}))


def test_an_item_may_have_several_rows_and_rejected_parts():
    outcome = Outcome(pa.table({"id": ["a", "a", "b"]}), [Reject("image", "BadItem", "gone", part_of="a")])
    runner = WorkerRunner("id")
    runner.load(lambda: lambda rows: outcome)
    assert runner.run(pa.table({"id": ["a", "b"]})).outcome is outcome


def test_the_local_pool_retries_a_transient_failure(tmp_path):
    done, rejects = process(partial(Echo, partial(once, fail, tmp_path / "failed")), ids_with_poison(200), LocalPool)
    assert (len(done), rejects) == (200, [])


@pytest.mark.parametrize("act", [exhaust, exhaust_the_machine, exhaust_the_machine_by_torch, exhaust_the_limit])
def test_the_local_pool_rejects_an_item_that_does_not_fit_into_memory(act):
    done, [reject] = process(partial(Echo, partial(at_poison, act)), ids_with_poison(50), LocalPool)
    assert (len(done), reject.id, reject.error) == (49, POISON, "OutOfMemoryError")
    assert reject.sentence.startswith("it does not fit into memory")


def test_the_local_pool_raises_a_bug():
    with pytest.raises(RuntimeError, match="as item 0"):
        process(Forgetful, ["item 0"], LocalPool)


def test_the_local_pool_begins_no_slice_after_a_stop():
    stop, done = Event(), []
    for finished in LocalPool(Echo, "id", PoolOptions()).map(cut(["a", "b", "c"], 1), stop):
        done += finished
        stop.set()
    assert len(done) == 1


def test_a_batched_worker_halves_down_to_one():
    worker = Batched()
    worker.batch_size = 5
    assert [(worker.halve_batch(), worker.batch_size) for _ in range(3)] == [(True, 2), (True, 1), (False, 1)]


def test_batches_hold_all_items_once():
    assert [list(batch) for batch in batches(range(5), 2)] == [[0, 1], [2, 3], [4]]


def test_the_file_that_an_error_names_comes_before_that_of_the_item():
    error = BadItem("no mask has this name", uri="photo.jpg")
    assert Reject.of("1", error, "clip.wav") == Reject("1", "BadItem", "no mask has this name", "photo.jpg")
    assert Reject.of("1", BadItem("silent"), "clip.wav", part_of="2").uri == "clip.wav"
