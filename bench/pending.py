"""How long `pending` takes on a million ids, and what it needs at most: the price of a run that finds nothing to do.

    python bench/pending.py [--ids 1000000] [--commits 200]

Goal: below 5 s and 2 GB. The workspace is made first, the measurement runs in a process of its own.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pyarrow as pa

from aai.identity import content_id
from aai.workspace import Workspace

UPSTREAM, RECIPE = "ab12", "cd34"
REJECT_SHARE = 0.01
KIB_PER_MIB = 1024


def fill(uri: str, num_ids: int, num_commits: int, done_share: float) -> None:
    """Clips, their aligned vectors (one number each: `pending` reads ids only) for a share, and a few rejects."""
    workspace = Workspace(uri)
    clips, vectors = workspace.table("clips"), workspace.table("aligned_vectors")
    for commit in range(num_commits):
        ids = [content_id(b"%d" % number) for number in range(commit, num_ids, num_commits)]
        clips.append(UPSTREAM, clip_rows(clips.schema.columns, ids))
        done = ids[: round(len(ids) * done_share)]
        rows = {"clip_id": done, "vector": [[0.0]] * len(done)}
        vectors.append(RECIPE, pa.table(rows, schema=vectors.schema.columns))
    rejected = [content_id(b"%d" % number) for number in range(round(num_ids * REJECT_SHARE))]
    rejects = workspace.table("rejects")
    texts = {name: ["-"] * len(rejected) for name in rejects.schema.columns.names}
    rejects.append(RECIPE, pa.table(texts | {"id": rejected}, schema=rejects.schema.columns))


def clip_rows(columns: pa.Schema, ids: list[str]) -> pa.Table:
    """Clips that differ in their ids only."""
    values = {c.name: pa.repeat(pa.scalar("1").cast(c.type), len(ids)) for c in columns}
    return pa.table(values | {"clip_id": ids}, schema=columns)


def measure(uri: str) -> str:
    """The time of one `pending`, with the opening of the tables, and the most memory the process ever had."""
    before_mib = peak_mib()
    start = time.perf_counter()
    ids = Workspace(uri).pending("clips", "aligned_vectors", UPSTREAM, RECIPE)
    took_s = time.perf_counter() - start
    return f"{len(ids):>9,} pending  {took_s:5.2f} s  peak {peak_mib():,.0f} MiB ({before_mib:,.0f} before)"


def peak_mib() -> float:
    """The most memory that this program held; `getrusage` would count what its parent held when it forked."""
    [line] = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")]
    return int(line.split()[1]) / KIB_PER_MIB


def main() -> None:
    """Measure with nothing, half and all done."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ids", type=int, default=1_000_000)
    parser.add_argument("--commits", type=int, default=200, help="data files per table")
    parser.add_argument("--measure", metavar="URI", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        print(measure(options.measure))
        return
    for done_share in (0.0, 0.5, 1.0):
        with tempfile.TemporaryDirectory() as uri:
            start = time.perf_counter()
            fill(uri, options.ids, options.commits, done_share)
            filled_s = time.perf_counter() - start
            command = [sys.executable, __file__, "--measure", uri]
            line = subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
        print(f"{options.ids:,} ids, {done_share:4.0%} done: {line}; filling took {filled_s:.0f} s", flush=True)


if __name__ == "__main__":
    main()
