"""Rows are loaded in threads and come in their order, a bounded number ahead, with a reject for what cannot be."""

import threading
import time
from functools import partial

import numpy as np
import pytest

from aai.errors import BadItem, Transient
from tasks.runtime.loader import Loader, RecentResults, ahead

ROWS = [{"id": str(number), "uri": f"/{number}.png", "number": number} for number in range(50)]


def array_of(row) -> np.ndarray:
    time.sleep(0.0005 * (row["number"] % 5))  # not in the order in which they end
    if row["number"] % 10 == 3:
        raise BadItem("it is broken", uri=row["uri"])
    return np.full((2, 3), row["number"], np.float32)


def ignore(row, error) -> None:
    """These rows are not broken, or it does not matter."""


def test_rows_come_in_order_in_full_batches_and_what_is_broken_is_a_reject():
    rejects = []
    batches = list(Loader(array_of, lambda *each: rejects.append(each), num_threads=4).batches(ROWS, 8))
    assert [len(batch) for batch in batches] == [8, 8, 8, 8, 8, 5]
    assert [row["number"] for batch in batches for row, _ in batch] == [n for n in range(50) if n % 10 != 3]
    assert all(value[0, 0] == row["number"] for batch in batches for row, value in batch)
    assert [(row["id"], error.uri) for row, error in rejects] == [(str(n), f"/{n}.png") for n in (3, 13, 23, 33, 43)]


def test_batches_are_stacked():
    [(rows, first), *_] = Loader(array_of, ignore).stacked(ROWS, 8)
    assert first.shape == (8, 2, 3) and first[:, 0, 0].tolist() == [row["number"] for row in rows]


def test_arrays_of_different_shapes_are_stacked_by_shape_and_none_is_held_for_ever():
    def of_several_shapes(row) -> np.ndarray:
        return np.full(1 + row["number"] % 3 if row["number"] % 25 else 9, row["number"])

    held: list[dict] = []
    batches = list(Loader(of_several_shapes, ignore).stacked(ROWS, 6))
    for rows, batch in batches:
        assert batch[:, 0].tolist() == [row["number"] for row in rows] and len(rows) <= 6
        held += rows
    assert sorted(row["number"] for row in held) == list(range(50))
    assert [len(rows) for rows, _ in batches].count(6) >= 6


def test_rows_are_loaded_at_the_same_time():
    together = threading.Barrier(4, timeout=30)
    batches = Loader(lambda row: together.wait() >= 0, ignore, num_threads=4).batches(ROWS[:8], 8)
    assert sum(len(batch) for batch in batches) == 8


def test_no_more_rows_are_loaded_than_a_few_batches_ahead():
    loaded = []
    batches = Loader(lambda row: loaded.append(row), ignore, num_threads=2).batches(ROWS, 5)
    next(batches)
    assert len(loaded) <= 5 + 2 * 5 + 2
    batches.close()
    assert len(loaded) <= 5 + 2 * 5 + 2, "what was not begun is not loaded"
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("loader")]


def test_a_failure_of_the_store_ends_it():
    def fail(row):
        raise Transient("the store is away")

    with pytest.raises(Transient, match="the store is away"):
        list(Loader(fail, ignore).stacked(ROWS, 5))


def test_the_next_value_is_made_while_one_is_used():
    made, second = [], threading.Event()

    def values():
        for number in range(4):
            made.append(number)
            if number == 1:
                second.set()
            yield number

    taken = ahead(values())
    assert next(taken) == 0 and second.wait(30), "the second is made although nobody asked for it"
    assert made == [0, 1], "and the third is not"
    assert list(taken) == [1, 2, 3]


def test_equal_calls_at_a_time_do_the_work_once_and_share_the_error():
    calls = []

    def decode(key: str) -> str:
        calls.append(key)
        time.sleep(0.02)
        if key == "broken":
            raise BadItem("it is broken")
        return key.upper()

    recent, results = RecentResults(decode, 2), []
    threads = [threading.Thread(target=lambda: results.append(recent("a"))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == ["A"] * 4 and calls == ["a"]
    for read in [partial(recent, "broken")] * 2:
        with pytest.raises(BadItem, match="it is broken"):
            read()
    assert recent("b") == "B" and recent("a") == "A" and calls == ["a", "broken", "b", "a"], "two are remembered"
