"""Drivers of a stage that know of each other: who is there, who is dead, and what each has in hand."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from aai.errors import Transient
from aai.workspace.drivers import DRIVERS, Process, list_drivers, read_drivers
from aai.workspace.store import Store, open_store
from tasks.runtime.others import DEAD_S, RENEW_S
from tasks.runtime.presence import Presence

RECIPE = "ab12"


class Clock:
    """A monotonic clock that a test moves on."""

    now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(tmp_path) -> Store:
    return open_store(tmp_path / "bank")


@pytest.fixture
def join(store, clock, request):
    """Makes drivers, whose threads are the test itself."""

    def join(process: Process | None = None) -> Presence:
        presence = Presence(store, "cues", RECIPE, "fit", clock)
        request.addfinalizer(presence.end)
        presence.process = process or presence.process
        presence.begin()
        return presence

    return join


def elsewhere(name: str = "n2", pid: int = 4711) -> Process:
    return Process(host=name, pid=pid, since="2026-11-27 16:02", machine=f"machine of {name}", created_s=1.0)


def free(presence: Presence, *ids: str) -> list[bool] | None:
    claimed = presence.claim(ids)
    return None if claimed is None else claimed.tolist()


def test_alone_a_driver_writes_one_file_and_claims_everything_without_another(join, store):
    alone = join()
    [before] = list_drivers(store)
    assert free(alone, "a", "b") == [True, True] and alone.is_alone
    assert list_drivers(store) == [before]
    assert read_drivers(store, [before.name])[before.name].claims is None
    assert (before.table, read_drivers(store, [before.name])[before.name].process.pid) == ("cues", os.getpid())
    alone.end()
    assert list_drivers(store) == []


def test_a_new_driver_waits_until_the_first_has_seen_it(join):
    first = join()
    assert free(first, "a", "b") == [True, True]
    second = join()
    assert not second.is_alone and not second.look() and free(second, "b", "c") is None
    first.tend()
    assert second.look() and free(second, "b", "c") == [False, True]
    assert free(first, "c", "d") == [False, True]


def test_items_are_claimed_until_they_are_released(join):
    first, second = join(), join()
    first.tend()
    assert free(first, "a", "b") == [True, True] and free(second, "a") == [False]
    first.release(["a"])
    assert free(first, "x") == [True]  # which writes the file
    assert free(second, "a", "b") == [True, False]


def test_of_two_that_want_the_same_at_the_same_time_one_gets_it_at_most(join, monkeypatch):
    first, second = join(), join()
    first.tend()
    answers = []
    look = first.others.look
    first.others.look = lambda contents: (answers.append(free(second, "a", "b")), look(contents))
    assert (free(first, "a", "c"), answers) == ([True, True], [[False, True]])  # the second has left it already
    first.others.look = look
    first.release(["a", "c"])
    second.release(["b"])
    write = second._write
    monkeypatch.setattr(second, "_write", lambda: write() if "a" in second._held else None)  # not as fast
    first.others.look = lambda contents: (answers.append(free(second, "a", "b")), look(contents))
    assert (free(first, "a", "c"), answers[1]) == ([False, True], [False, True])


def test_items_that_were_left_to_another_are_not_claimed_any_more(join):
    first, second, third = join(), join(), join()
    for driver in (first, second, third):
        driver.tend()
    assert free(first, "a") == [True] and free(second, "a") == [False]
    first.release(["a"])
    first.end()
    assert free(third, "a") == [True]


def test_a_driver_without_a_sign_of_life_is_dead_by_the_clock_of_the_one_who_looks(join, clock, caplog):
    dead, living = join(elsewhere()), join()
    dead.tend()
    assert free(dead, "a") == [True] and free(living, "a") == [False]
    clock.now_s += DEAD_S + 1
    assert free(living, "a") == [True]
    assert "fit: no sign of life from host n2, process 4711, since 2026-11-27 16:02 UTC" in caplog.text
    assert living.rank() == (0, 1)
    clock.now_s += 600
    living.tend()
    assert len(list((Path(living._store.root) / DRIVERS).iterdir())) == 1, "nobody misses the file"


def test_a_driver_that_renews_its_file_lives(join, clock):
    first, second = join(elsewhere()), join()
    first.tend()
    assert free(first, "a") == [True]
    for _ in range(20):
        clock.now_s += RENEW_S
        first.tend()
        second.tend()
    assert free(second, "a", "b") == [False, True]


def test_a_file_that_is_seen_for_the_first_time_is_as_old_as_the_store_says(join, store, clock):
    left = join(elsewhere())
    path = Path(store.path(DRIVERS, left._name))
    written_s = path.stat().st_mtime
    os.utime(path, (written_s, written_s - DEAD_S - 1))
    assert join().is_alone
    os.utime(path, (written_s, written_s - DEAD_S + 10))
    assert not join().is_alone


def test_a_driver_that_was_killed_on_this_machine_is_dead_at_once(join, store):
    code = "from aai.workspace.drivers import Process; print(Process.here().model_dump_json())"
    said = subprocess.run(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, check=True, cwd=Path(__file__).parents[3]
    )
    killed = Process.model_validate_json(said.stdout)
    join(killed)
    assert join().is_alone and len(list_drivers(store)) == 1, "its file is removed"
    again = Process.here().model_copy(update={"created_s": 1.0})  # another process got its number
    assert again.is_known_dead() and not Process.here().is_known_dead()


def test_a_driver_of_this_process_that_did_not_take_leave_is_dead(join, store, monkeypatch):
    def fail(*others):
        raise Transient("the store is away")

    with monkeypatch.context() as patch:
        patch.setattr("tasks.runtime.presence.remove_driver", fail)
        join().end()
    assert len(list_drivers(store)) == 1
    assert join().is_alone


def test_a_driver_that_finishes_nothing_for_long_is_not_waited_for(join, clock, caplog):
    hanging, other = join(elsewhere()), join()
    hanging.tend()
    assert free(hanging, "a") == [True]
    for minute in range(12):
        clock.now_s += 60
        hanging.tend()
        other.look()
        other.give_up_hanging()
        assert free(other, "a") == [minute >= 10]
        other.release(["a"])
    assert "process 4711, since 2026-11-27 16:02 UTC has finished nothing for 11 minutes" in caplog.text
    hanging.finish()
    clock.now_s += RENEW_S
    hanging.tend()
    assert free(other, "a") == [False]


def test_a_driver_that_is_left_alone_needs_no_claims_any_more(join, clock):
    first, second = join(), join()
    first.tend()
    second.end()
    assert not first.is_alone
    first.tend()
    assert first.is_alone and free(first, "a") == [True]
    assert not join().look()


def test_who_is_at_work_is_said_once(join, caplog):
    first = join(elsewhere())
    second = join()
    first.tend()
    [said] = [record.getMessage() for record in caplog.records if f"process {os.getpid()}," not in record.getMessage()]
    assert said == "fit: also at work: host n2, process 4711, since 2026-11-27 16:02 UTC; the work is shared"
    num_said = len(caplog.records)
    join()
    for driver in (first, second):
        driver.tend()
    assert len(caplog.records) == num_said + 1  # what the third one says


def test_drivers_that_begin_together_have_numbers(join):
    drivers = [join() for _ in range(4)]
    for driver in drivers:
        driver.tend()
    assert sorted(driver.rank() for driver in drivers) == [(number, 4) for number in range(4)]


def test_a_store_that_refuses_the_files_stops_nobody(join, store, monkeypatch, caplog):
    def fail(*others):
        raise Transient("writing was refused")

    first = join(elsewhere())
    monkeypatch.setattr("tasks.runtime.presence.write_driver", fail)
    second = join()
    assert free(second, "a", "b") == [True, True] and second.look() is not None
    text = "fit: other drivers are not seen now (writing was refused); work may be done twice"
    assert caplog.text.count(text) == 1
    assert free(first, "a") == [True]


def test_a_file_of_another_version_blocks_nobody(join, store):
    first = join()
    Path(store.path(DRIVERS, first._name.replace("ab12-", "ab12-0", 1)[:-6] + ".json")).write_text('{"pid": 1}')
    first.tend()
    assert free(first, "a") == [True] and first.rank()[1] == 2


def test_other_stages_and_recipes_are_not_others(store, clock, join):
    first = join()
    for table, recipe in (("cues", "cd34"), ("renders", RECIPE)):
        with Presence(store, table, recipe, "fit", clock) as other:
            assert other.is_alone
    first.tend()
    assert first.is_alone


def test_hashes_of_what_is_in_hand_are_in_the_file(join, store):
    first, second = join(), join()
    first.tend()
    free(first, *(str(number) for number in range(1000)))
    file = read_drivers(store, [first._name])[first._name]
    assert len(np.frombuffer(file.hashes, np.int64)) == 1000
    assert free(second, *(str(number) for number in range(998, 1002))) == [False, False, True, True]
