"""Throughput of one driver with many workers that take as long as real ones, but only sleep.

    python bench/workers.py [--workers 1 64] [--slices 12] [--items 64] [--seconds 10] [--dim 1536]

The defaults are those of `fit` on an H200: 64 clips a slice in 10 s, 2 vectors of 768 each. Target: 64 workers do at
least 0.95 times 64 times what one does, and the driver needs less than half of a core.

Rows and results go through Ray as in a real run, but the workers are threads of a few actor processes, because 64
processes need 10 GB. So a result that is late is late because of the driver, Ray, or this machine.
"""

import argparse
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import psutil
import pyarrow as pa
import ray
from driver import RECIPE, TABLE, Numbers

from aai.workspace import Workspace
from tasks.runtime import ray_pool
from tasks.runtime.arrow import to_lists
from tasks.runtime.driver import StageRun, run_stage
from tasks.runtime.options import PoolOptions, RunOptions
from tasks.runtime.work import Done, Outcome, WorkerRunner

NUM_HOSTS = 4


class SleepingWorker:
    """Returns zeros for each clip, after some time."""

    def __init__(self, seconds: float, dim: int) -> None:
        self._seconds, self._dim = seconds, dim

    def __call__(self, rows: pa.Table) -> Outcome:
        """Map a slice."""
        time.sleep(self._seconds)
        vectors = to_lists(np.zeros((rows.num_rows, self._dim), np.float32))
        return Outcome(pa.table({"clip_id": rows["clip_id"], "vector": vectors}))


class Host:
    """An actor with many workers, each of which does one slice after the other."""

    def __init__(self) -> None:
        self._runners: dict[int, WorkerRunner] = {}
        self._threads: dict[int, ThreadPoolExecutor] = {}

    def load(self, number: int, make_worker: Any, id_column: str, num_halvings: int) -> str:
        """Make a worker, and return the id of the node."""
        self._runners[number] = WorkerRunner(id_column, num_halvings)
        self._runners[number].load(make_worker)
        self._threads[number] = ThreadPoolExecutor(1)
        return str(ray.get_runtime_context().get_node_id())

    def run(self, number: int, rows: pa.Table) -> Done:
        """Map a slice."""
        return self._threads[number].submit(self._runners[number].run, rows).result()


@dataclass
class Call:
    """A method of a worker, as of an actor."""

    method: Any
    first: tuple[Any, ...]

    def remote(self, *given: Any) -> ray.ObjectRef:
        """Call it."""
        return self.method.remote(*self.first, *given)


class Lane:
    """A worker, as an actor of its own would be."""

    def __init__(self, host: Any, number: int) -> None:
        self.load, self.run = Call(host.load, (number,)), Call(host.run, (number,))


class SharedPool(ray_pool.RayPool):
    """A pool whose workers share a few actors, which end with it."""

    def __init__(self, make_worker: Any, id_column: str, options: PoolOptions, gpu: bool = False, *_: Any) -> None:
        super().__init__(make_worker, id_column, options, gpu)
        threads = 2 * self._options.num_workers  # one slice in work, one that waits
        host = ray.remote(num_cpus=0, max_concurrency=threads)(Host)
        self._hosts = [host.remote() for _ in range(NUM_HOSTS)]
        ray_pool.start_actor = self._lane  # type: ignore[assignment]

    def _lane(self, *_: Any) -> Lane:
        number = len(self._actors)
        return Lane(self._hosts[number % NUM_HOSTS], number)

    def _close(self) -> None:
        self._actors.clear()
        for host in self._hosts:
            ray.kill(host)


def measure(num_workers: int, arguments: argparse.Namespace) -> float:
    """Print and return the rate of a run into a new table, from the begin of the first slice."""
    num_items = arguments.items * arguments.slices * num_workers
    with tempfile.TemporaryDirectory() as folder:
        workspace = Workspace(folder)
        make_worker = partial(SleepingWorker, arguments.seconds, arguments.dim)
        stage = StageRun("fit", Numbers(workspace, num_items), TABLE, RECIPE, make_worker)
        pool = PoolOptions(num_workers=num_workers, slice_size=arguments.items)
        seen: list[tuple[float, float]] = []
        summary = run_stage(workspace, stage, pool, RunOptions(), lambda done, *_: seen.append(now()) if done else None)
        assert summary.new == num_items
    (start_s, start_cpu_s), (end_s, end_cpu_s) = seen[0], now()
    took_s, cpu_s = end_s - start_s + arguments.seconds, end_cpu_s - start_cpu_s
    rate = num_items / took_s
    print(
        f"{num_workers} workers: {num_items:,} items in {took_s:.1f} s without the start, {rate:,.1f} items/s; "
        f"the driver used {cpu_s:.1f} s of processor time, {cpu_s / took_s:.1%} of a core",
        flush=True,
    )
    return rate


def now() -> tuple[float, float]:
    """The time, and the processor time of this process, in seconds."""
    times = psutil.Process().cpu_times()
    return time.monotonic(), times.user + times.system


def main() -> None:
    """Measure for several numbers of workers."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 64])
    parser.add_argument("--slices", type=int, default=12, help="of each worker")
    parser.add_argument("--items", type=int, default=64, help="of a slice")
    parser.add_argument("--seconds", type=float, default=10, help="that a slice takes")
    parser.add_argument("--dim", type=int, default=1536, help="numbers in a row")
    arguments = parser.parse_args()
    ray_pool.RayPool = SharedPool  # type: ignore[misc]
    num_cpus = max(arguments.workers) + 1  # for Ray; the workers only sleep
    ray.init("local", num_cpus=num_cpus, include_dashboard=False, logging_level="ERROR", log_to_driver=False)
    rates = {number: measure(number, arguments) for number in arguments.workers}
    first, *others = rates
    for number in others:
        print(f"{number} workers: {rates[number] / rates[first] / number * first:.3f} of linear")


if __name__ == "__main__":
    main()
