"""Several drivers at once on one workspace: how much is done twice, and how fairly the items are shared.

    python bench/drivers.py [--drivers 2] [--items 300] [--slice-size 10] [--pause 0.1] [--runs 10] [--s3]

Each driver is a process with one worker that waits for `--pause` seconds per slice. With `--s3` the workspace is in a
bucket of a local server (moto), whose requests are counted. Prints a line for each run.
"""

import argparse
import logging
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pyarrow as pa

from aai.identity import content_id
from aai.workspace import Workspace
from tasks.runtime.driver import StageRun, run_stage
from tasks.runtime.options import PoolOptions, RunOptions
from tasks.runtime.stage import Pending
from tasks.runtime.work import Outcome

TABLE, RECIPE, BUCKET = "aligned_vectors", "ab12", "bank"
_BATCH = 1_000


class PausingWorker:
    """Waits, and logs what it has done."""

    def __init__(self, log: str, pause_s: float) -> None:
        self.log, self.pause_s = log, pause_s

    def __call__(self, rows: pa.Table) -> Outcome:
        """Map a slice."""
        ids = rows["clip_id"].to_pylist()
        time.sleep(self.pause_s)
        with open(self.log, "a") as log:
            log.writelines(f"{item}\n" for item in ids)
        return Outcome(pa.table({"clip_id": ids, "vector": pa.array([[0.0]] * len(ids), pa.list_(pa.float32()))}))


@dataclass(frozen=True)
class Numbers:
    """A source of clips whose content is a number."""

    workspace: Workspace
    num_items: int

    def pending(self, retry_rejects: bool = False) -> Pending:
        """The clips without a vector."""
        num = len(self._new())
        return Pending(self.num_items, num, 0, self._rows() if num else ())

    def _new(self) -> list[str]:
        done = set(self.workspace.table(TABLE).ids(RECIPE).to_pylist())
        return [item for item in (content_id(b"%d" % number) for number in range(self.num_items)) if item not in done]

    def _rows(self) -> Iterator[pa.Table]:
        ids = self._new()
        for first in range(0, len(ids), _BATCH):
            yield pa.table({"clip_id": ids[first : first + _BATCH]})


def drive(uri: str, log: str, num_items: str, slice_size: str, pause_s: str) -> None:
    """One driver, in a process of its own; it begins with a line on its standard input."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    sys.stdin.readline()
    workspace = Workspace(uri)
    worker = partial(PausingWorker, log, float(pause_s))
    stage = StageRun("align", Numbers(workspace, int(num_items)), TABLE, RECIPE, worker)
    start_s = time.monotonic()
    pool = PoolOptions(num_workers=0, slice_size=int(slice_size))
    run_stage(workspace, stage, pool, RunOptions(commit_slices=1))
    print(f"{time.monotonic() - start_s:.1f}")


def run_once(uri: str, folder: Path, options: argparse.Namespace) -> str:
    """Drivers at once on a new workspace: what they did, in one line."""
    arguments = [str(options.items), str(options.slice_size), str(options.pause)]
    logs = [folder / f"log {number}" for number in range(options.drivers)]
    drivers = [
        subprocess.Popen(
            [sys.executable, __file__, "--drive", uri, str(log), *arguments],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for log in logs
    ]  # fmt: skip
    time.sleep(options.warm_up)
    for driver in drivers:
        assert driver.stdin is not None, "it is a pipe"
        driver.stdin.write("go\n")
        driver.stdin.flush()
        time.sleep(options.stagger)
    ended = [driver.communicate(timeout=600) for driver in drivers]
    assert all(driver.returncode == 0 for driver in drivers), ended
    done = [log.read_text().split() if log.exists() else [] for log in logs]
    num_stored = len(Workspace(uri).table(TABLE).ids(RECIPE))
    assert num_stored == options.items, f"{num_stored} rows"
    told = sum("also at work" in error for _, error in ended)
    return (
        f"{sum(map(len, done)) - options.items} items twice; items of each driver {[*map(len, done)]}; "
        f"seconds of each {[float(out) for out, _ in ended]}; {told} said who else is at work"
    )


@contextmanager
def bucket() -> Iterator[Counter[str]]:
    """A bucket on a local server; yields a counter of its requests."""
    import boto3
    from moto.server import ThreadedMotoServer

    requests: Counter[str] = Counter()

    class Counting(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            line = record.getMessage()
            kind = next((word for word in ("GET", "PUT", "HEAD", "POST", "DELETE") if f"{word} /" in line), "other")
            requests[f"{kind} of drivers" if "drivers" in line else kind] += 1

    logger = logging.getLogger("werkzeug")
    logger.setLevel(logging.INFO)
    logger.addHandler(Counting())
    logger.propagate = False
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    address = "http://{}:{}".format(*server.get_host_and_port())
    os.environ |= {"AWS_ENDPOINT_URL": address, "AWS_ALLOW_HTTP": "true", "AWS_DEFAULT_REGION": "us-east-1"}
    os.environ |= {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"}
    boto3.client("s3").create_bucket(Bucket=BUCKET)
    try:
        yield requests
    finally:
        server.stop()


def main() -> None:
    """Run drivers at once, several times."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("drivers", 2), ("items", 300), ("slice-size", 10), ("runs", 10)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--pause", type=float, default=0.1, help="seconds for a slice")
    parser.add_argument("--stagger", type=float, default=0, help="seconds between the starts of drivers")
    parser.add_argument("--warm-up", type=float, default=10, help="seconds for the processes to import")
    parser.add_argument("--s3", action="store_true")
    options = parser.parse_args()
    with bucket() if options.s3 else nullcontext(Counter[str]()) as requests:
        for number in range(options.runs):
            requests.clear()
            with tempfile.TemporaryDirectory() as folder:
                uri = f"s3://{BUCKET}/{number}" if options.s3 else f"{folder}/bank"
                print(run_once(uri, Path(folder), options), dict(requests) or "", flush=True)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--drive"]:
        drive(*sys.argv[2:])
    else:
        main()
