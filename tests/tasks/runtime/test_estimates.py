"""An estimate follows from the work of earlier runs, apart from their loading, for any number of workers."""

from datetime import UTC, datetime

import pytest

from tasks.runtime.driver import StageSummary
from tasks.runtime.estimates import Estimate, Estimates, placement_of
from tasks.runtime.placement import Node, Placement
from tasks.runtime.run import Run
from tasks.runtime.work import Effort
from tests.bank import run_on

LONG = 1_000_000


@pytest.fixture
def run(tmp_path) -> Run:
    return run_on(tmp_path / "bank")


def record(run: Run, day: int, new: int, took_s: float, effort: Effort | None = None, recipe: str = "") -> None:
    done = StageSummary("fit", recipe or run.recipe("cues"), 0, new, rejected=0, took_s=took_s, effort=effort)
    run.record(datetime(2026, 1, day, tzinfo=UTC), done)


def estimated(run: Run, num: int, workers: int | None = None, gpus: float = 0) -> Estimate:
    placement = Placement(workers, 1, gpus, 1) if workers else None
    return Estimates(run).of(run.stage_of("cues"), num, placement)


def test_loading_is_counted_once_and_work_is_shared_by_the_workers(run):
    record(run, 1, 100, 60, Effort(num_workers=2, loading_s=20, worked_s=80))
    assert estimated(run, 1_000).seconds == 20 + 1_000 * 0.8 / 2
    found = estimated(run, 1_000, workers=16)
    assert found.seconds == 20 + 1_000 * 0.8 / 16
    assert found.basis == "100 items in 1 min 20 s of work by 2 workers, after 20.0 s of loading; now on 16"
    assert estimated(run, 4, workers=16).seconds == pytest.approx(20 + 0.8), "a worker has an item at least"


def test_without_a_run_nothing_is_known(run):
    assert estimated(run, 5) == Estimate(None, "no run yet")
    record(run, 1, 0, 60)
    assert estimated(run, 5).seconds is None, "a run without items tells nothing"


def test_a_run_on_cpus_tells_nothing_of_gpus(run):
    record(run, 1, 100, 60, Effort(1, gpus=0, worked_s=50))
    assert estimated(run, 100, workers=4, gpus=1) == Estimate(None, "no run on GPUs yet")
    record(run, 1, 100, 60, Effort(1, gpus=1, worked_s=5))
    assert estimated(run, 100, workers=1, gpus=1).seconds == 5
    assert estimated(run, 100, workers=1).seconds == 50


def test_a_long_run_tells_more_than_a_short_one_and_the_last_of_long_ones_most(run):
    record(run, 1, 100, 900, Effort(1, worked_s=800))
    record(run, 3, 1, 9, Effort(1, worked_s=5))
    assert estimated(run, 100).seconds == 800
    record(run, 2, 100, 90, Effort(1, worked_s=70))
    assert estimated(run, 100).seconds == 70


def test_runs_with_these_options_come_first_and_others_are_rough(run):
    run.register("cues")
    record(run, 1, 100, 900, Effort(1, worked_s=800), recipe="another")
    found = estimated(run, 100)
    assert (found.seconds, found.is_rough) == (800, True) and found.basis.endswith(", with other options or models")
    record(run, 1, 1, 1, Effort(1, worked_s=0.5))
    found = estimated(run, 100)
    assert (found.seconds, found.is_rough) == (50, False)


def test_what_is_much_longer_than_a_short_run_is_rough(run):
    record(run, 1, 10, 3, Effort(1, worked_s=1))
    assert not estimated(run, 100).is_rough and estimated(run, LONG).is_rough
    record(run, 2, 1_000, 70, Effort(1, worked_s=61))
    assert not estimated(run, LONG).is_rough


def test_of_older_runs_all_of_their_time_counts_and_is_named(run):
    record(run, 1, 5, 10)
    found = estimated(run, 100, workers=16, gpus=1)
    assert found.seconds == 200
    assert found.basis == "5 items in 10.0 s with the loading, which older runs did not note apart"


def test_workers_are_placed_on_the_given_nodes(tmp_path):
    stage = run_on(tmp_path).stage_of("image_vectors")
    placed = placement_of(run_on(tmp_path, pool={"num_workers": None}), stage, [Node(32, 4)] * 4)
    assert (placed.num_workers, placed.gpus) == (16, 1)
    assert placement_of(run_on(tmp_path, pool={"num_workers": 0}), stage, [Node(32, 4)] * 4).num_workers == 1
