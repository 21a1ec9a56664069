"""Workers on the GPUs of two nodes, and processes that outlive a stage. To Ray GPUs are numbers: none is needed."""

from functools import partial
from threading import Event

import psutil
import pytest

from aai.errors import BadConfig
from tasks.runtime import ray_actors
from tasks.runtime.options import PoolOptions
from tasks.runtime.workers import Workers
from tests.tasks.runtime.gpus import Together, WhereAmI, WithModel
from tests.tasks.runtime.workers import cut

NUM_GPUS = 4  # of each node


@pytest.fixture(scope="module", autouse=True)
def gpu_cluster():
    """Two nodes with GPUs."""
    import ray
    from ray.cluster_utils import Cluster

    node = {"num_cpus": 9, "num_gpus": NUM_GPUS, "include_dashboard": False, "object_store_memory": 80_000_000}
    cluster = Cluster(initialize_head=True, head_node_args=node)
    cluster.add_node(**node)
    ray.shutdown()  # another test of this process may have joined another cluster
    ray.init(address=cluster.address, log_to_driver=False, logging_level="ERROR")
    yield cluster
    ray.shutdown()
    cluster.shutdown()


@pytest.fixture
def workers():
    opened = Workers()
    yield opened
    opened.close()


def rows_of(workers, make_worker=WhereAmI, has_model=True, num=1, **options) -> list[dict]:
    pool = workers.open(make_worker, "id", PoolOptions(**options), has_model)
    slices = cut([f"item {number}" for number in range(num)], 1)
    return [row for some in pool.map(slices, Event()) for done in some for row in done.outcome.rows.to_pylist()]


def pids(rows: list[dict]) -> set[int]:
    return {row["pid"] for row in rows}


@pytest.mark.slow
def test_every_gpu_gets_a_worker_and_no_worker_sees_another(workers, tmp_path):
    rows = rows_of(workers, partial(Together, tmp_path, 2 * NUM_GPUS), num=2 * NUM_GPUS)
    assert len({(row["node"], row["visible"]) for row in rows}) == len(pids(rows)) == 2 * NUM_GPUS
    assert all(row["given"] == [row["visible"]] and row["threads"] == "2" for row in rows)


def test_stages_with_and_without_a_model_have_processes_of_their_own(workers):
    [on_gpu], [on_cpu] = rows_of(workers), rows_of(workers, has_model=False)
    assert (on_gpu["given"], on_gpu["visible"], on_gpu["threads"]) == (["0"], "0", "2")
    assert (on_cpu["given"], on_cpu["visible"], on_cpu["threads"]) == ([], "", "1")
    assert _end({on_gpu["pid"]})


def test_the_next_stage_takes_the_processes_and_the_model_that_it_uses(workers, tmp_path):
    names = ["diffusion", "diffusion", "clip", "diffusion"]
    rows = [rows_of(workers, partial(WithModel, tmp_path / "log", name)) for name in names]
    assert len({row["pid"] for some in rows for row in some}) == 1
    assert (tmp_path / "log").read_text().split() == ["diffusion", "clip", "diffusion"]


def _end(pids: set[int]) -> bool:
    """Whether processes end."""
    gone, alive = psutil.wait_procs([psutil.Process(pid) for pid in pids if psutil.pid_exists(pid)], timeout=60)
    return not alive


def test_a_process_that_died_between_stages_is_replaced(workers):
    first = pids(rows_of(workers))
    for pid in first:
        psutil.Process(pid).kill()
    assert _end(first)
    assert not first & pids(rows_of(workers, max_attempts=1))


def test_processes_end_before_a_stage_without_gpus_and_after_a_long_wait(workers, monkeypatch):
    first = pids(rows_of(workers))
    workers.release_gpus()
    assert _end(first)
    first = pids(rows_of(workers))
    monkeypatch.setattr(ray_actors, "_MAX_IDLE_S", 0)
    assert not first & pids(rows_of(workers))


def test_a_stage_that_is_stopped_leaves_no_process(workers):
    stop = Event()
    for some in workers.open(WhereAmI, "id", PoolOptions(), True).map(cut(["a", "b", "c"], 1), stop):
        if some:
            stop.set()
    assert len(workers._idle) == 0


def test_more_gpus_than_a_node_has_are_refused(workers):
    with pytest.raises(BadConfig, match="no node has more than 4 GPUs") as error:
        rows_of(workers, gpus_per_worker=8)
    assert error.value.key == "pool.gpus_per_worker"


def test_the_end_of_a_command_ends_the_processes(tmp_path):
    workers = Workers()
    first = pids(rows_of(workers, partial(WithModel, tmp_path / "log", "clip")))
    workers.close()
    assert _end(first)
