"""Throughput of pool and driver with a worker that does nothing: the upper bound of items per second.

    python bench/driver.py [--items 200000] [--workers 0 1 2]

Target: 10,000 items/s. 0 workers runs in this process, without Ray. The time to start Ray is printed separately; that
of starting workers is part of the rate.
"""

import argparse
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass

import pyarrow as pa

from aai.identity import content_id
from aai.workspace import Workspace
from tasks.runtime.driver import StageRun, run_stage
from tasks.runtime.options import PoolOptions, RunOptions
from tasks.runtime.ray_cluster import connect
from tasks.runtime.stage import Pending
from tasks.runtime.work import Outcome

DIM = 512
SLICE_SIZE = 256
TABLE, RECIPE = "aligned_vectors", "ab12"


class NullWorker:
    """Returns the same vector for each clip."""

    def __call__(self, rows: pa.Table) -> Outcome:
        """Map a slice."""
        flat = pa.array([0.0], pa.float32()).take(pa.array([0] * (DIM * rows.num_rows)))
        offsets = pa.array(range(0, DIM * rows.num_rows + 1, DIM), pa.int32())
        return Outcome(pa.table({"clip_id": rows["clip_id"], "vector": pa.ListArray.from_arrays(offsets, flat)}))


@dataclass(frozen=True)
class Numbers:
    """A source of clips whose content is a number."""

    workspace: Workspace
    num_items: int

    def pending(self, retry_rejects: bool = False) -> Pending:
        """The clips without a vector."""
        done = set(self.workspace.table(TABLE).ids(RECIPE).to_pylist())
        ids = [content_id(b"%d" % number) for number in range(self.num_items)]
        new = [clip_id for clip_id in ids if clip_id not in done]
        return Pending(self.num_items, len(new), 0, self._rows(new))

    def _rows(self, ids: list[str]) -> Iterator[pa.Table]:
        yield pa.table({"clip_id": ids})


def measure(num_items: int, num_workers: int) -> str:
    """The rate of a run into a new table, and the time of a second run with nothing to do."""
    with tempfile.TemporaryDirectory() as folder:
        workspace = Workspace(folder)
        stage = StageRun("align", Numbers(workspace, num_items), TABLE, RECIPE, NullWorker)
        pool = PoolOptions(num_workers=num_workers, slice_size=SLICE_SIZE)
        first = run_stage(workspace, stage, pool, RunOptions())
        start_s = time.perf_counter()
        second = run_stage(workspace, stage, pool, RunOptions())
        assert (first.new, second.new) == (num_items, 0)
        return (
            f"{num_workers} workers: {num_items:,} items in {first.took_s:.1f} s, {first.rate:,.0f} items/s; "
            f"second run {time.perf_counter() - start_s:.2f} s"
        )


def main() -> None:
    """Measure for several numbers of workers."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=200_000)
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 1, 2])
    arguments = parser.parse_args()
    if any(arguments.workers):
        start_s = time.perf_counter()
        connect(None)
        print(f"Ray started in {time.perf_counter() - start_s:.1f} s")
    for num_workers in arguments.workers:
        print(measure(arguments.items, num_workers))


if __name__ == "__main__":
    main()
