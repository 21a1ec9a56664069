"""How many items per second go through the pool and into a table when the worker does nothing: the driver's ceiling.

    python bench/driver.py [--items 200000] [--workers 0 1 2]

Goal: 10,000 items/s. 0 workers is this process, without Ray; the time to start Ray is given apart, that to start
workers is in the rate.
"""

import argparse
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass

import pyarrow as pa

from aai.identity import content_id
from aai.workspace import Workspace
from tasks.runtime.driver import Stage, StageOptions, run_stage
from tasks.runtime.ray_pool import connect
from tasks.runtime.work import Outcome, PoolOptions

DIM = 512
SLICE_SIZE = 256


class NullWorker:
    """Gives each clip the same vector."""

    def __call__(self, rows: pa.Table) -> Outcome:
        """Map a slice."""
        flat = pa.array([0.0], pa.float32()).take(pa.array([0] * (DIM * rows.num_rows)))
        offsets = pa.array(range(0, DIM * rows.num_rows + 1, DIM), pa.int32())
        return Outcome(pa.table({"clip_id": rows["clip_id"], "vector": pa.ListArray.from_arrays(offsets, flat)}))


@dataclass(frozen=True)
class Numbers:
    """Clips that are a number."""

    num_items: int

    def ids(self) -> pa.ChunkedArray:
        """The ids of all items."""
        return pa.chunked_array([[content_id(b"%d" % number) for number in range(self.num_items)]])

    def rows(self, ids: pa.ChunkedArray) -> Iterator[pa.Table]:
        """The rows of some of them."""
        yield pa.table({"clip_id": ids})


def measure(num_items: int, num_workers: int) -> str:
    """The rate of one run into a new table, and of a second run, which finds nothing to do."""
    with tempfile.TemporaryDirectory() as folder:
        workspace = Workspace(folder)
        stage = Stage("align", Numbers(num_items), "aligned_vectors", "ab12", NullWorker)
        pool = PoolOptions(num_workers=num_workers, slice_size=SLICE_SIZE)
        first = run_stage(workspace, stage, pool, StageOptions())
        start = time.perf_counter()
        again = run_stage(workspace, stage, pool, StageOptions())
        assert (first.new, again.new) == (num_items, 0)
        return (
            f"{num_workers} workers: {num_items:,} items in {first.took_s:.1f} s, {first.rate:,.0f} items/s; "
            f"second run {time.perf_counter() - start:.2f} s"
        )


def main() -> None:
    """Measure for some numbers of workers."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=200_000)
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 1, 2])
    arguments = parser.parse_args()
    if any(arguments.workers):
        start = time.perf_counter()
        connect(None)
        print(f"Ray started in {time.perf_counter() - start:.1f} s")
    for num_workers in arguments.workers:
        print(measure(arguments.items, num_workers))


if __name__ == "__main__":
    main()
