"""Workers that misbehave in one way each, and a pool's results for them."""

import os
import resource
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from threading import Event

import numpy as np
import pyarrow as pa

from aai.errors import BadItem, Transient
from tasks.runtime.options import PoolOptions
from tasks.runtime.work import Batched, Outcome, Pool, Reject

POISON = "poison"
QUICK = {"backoff_s": 0.01, "slice_size": 50, "num_workers": 1}

Act = Callable[[list[str]], object]
"""Something that a worker does on a slice, given its ids."""


class Echo:
    """Returns each item, but does something first."""

    def __init__(self, act: Act | None = None):
        self.act = act

    def __call__(self, rows: pa.Table) -> Outcome:
        if self.act:
            self.act(rows["id"].to_pylist())
        return Outcome(rows.select(["id"]))


def once(act: Act, marker: Path, ids: list[str]) -> None:
    """Act at the first call on any worker."""
    try:
        marker.touch(exist_ok=False)
    except FileExistsError:
        return
    act(ids)


def at_poison(act: Act, ids: list[str]) -> None:
    if POISON in ids:
        act(ids)


def leave(ids):
    os._exit(1)


def kill(ids):
    os.kill(os.getpid(), signal.SIGKILL)


def freeze(ids):
    os.kill(os.getpid(), signal.SIGSTOP)


def hang(ids):
    time.sleep(600)


def pause(pause_s: float, ids: list[str]) -> None:
    time.sleep(pause_s)


def fail(ids):
    raise Transient("the store failed")


def break_down(ids):
    raise ZeroDivisionError("a bug in the worker")


class OutOfMemoryError(RuntimeError):
    """Has the name of torch's error."""


def exhaust(ids):
    raise OutOfMemoryError("CUDA out of memory")


class AcceleratorError(RuntimeError):
    """Has the name of torch's error."""


def break_the_gpu(log: Path, ids: list[str]) -> None:
    """At the first slice; note the process of each."""
    with log.open("a") as file:
        file.write(f"{os.getpid()}\n")
    if len(log.read_text().split()) == 1:
        raise AcceleratorError("CUDA error: uncorrectable ECC error encountered")


def exhaust_the_machine(ids):
    np.empty(2**50)


def exhaust_the_machine_by_torch(ids):
    import torch  # the others need not wait for it

    torch.empty(2**50)


def exhaust_the_limit(ids):
    """As under `ulimit -v`."""
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (used + 2**28, before[1]))
    try:
        np.ones(2**26)
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


class Hungry(Batched):
    """Has memory for two items at a time; logs when there was not enough."""

    def __init__(self, log: Path, can_halve: bool = True, batch_size: int = 8):
        self.log, self.can_halve, self.batch_size = log, can_halve, batch_size

    def halve_batch(self) -> bool:
        return self.can_halve and super().halve_batch()

    def __call__(self, rows: pa.Table) -> Outcome:
        if POISON in rows["id"].to_pylist() or min(self.batch_size, rows.num_rows) > 2:
            with self.log.open("a") as log:
                log.write("full\n")
            exhaust([])
        return Outcome(rows.select(["id"]))


class Picky:
    """Rejects an item, as workers do."""

    def __call__(self, rows: pa.Table) -> Outcome:
        bad = BadItem("it is silent: record it again")
        rejects = [Reject.of(id, bad) for id in rows["id"].to_pylist() if id == POISON]
        good = [id for id in rows["id"].to_pylist() if id != POISON]
        return Outcome(pa.table({"id": good}), rejects)


class Forgetful:
    """Leaves an item out."""

    def __call__(self, rows: pa.Table) -> Outcome:
        return Outcome(rows.select(["id"]).slice(1))


class Unready:
    """Does something instead of loading."""

    def __init__(self, act: Act):
        act([])


def ids_with_poison(num: int) -> list[str]:
    ids = [f"item {number}" for number in range(num)]
    ids[num // 3] = POISON
    return ids


def cut(ids: Sequence[str], size: int) -> Iterator[pa.Table]:
    """Slices of items."""
    for first in range(0, len(ids), size):
        some = ids[first : first + size]
        yield pa.table({"id": some, "uri": [f"{id}.wav" for id in some]})


def process(make_worker, ids: Sequence[str], pool: Callable[..., Pool], **options) -> tuple[list[str], list[Reject]]:
    """The ids that have rows, and the rejects; each item must have one of both, once."""
    chosen = PoolOptions(**(QUICK | options))
    outcomes = [
        done.outcome
        for finished in pool(make_worker, "id", chosen).map(cut(ids, chosen.slice_size), Event())
        for done in finished
    ]
    done_ids = [id for outcome in outcomes if outcome.rows for id in outcome.rows["id"].to_pylist()]
    rejects = [reject for outcome in outcomes for reject in outcome.rejects]
    assert sorted(done_ids + [reject.id for reject in rejects]) == sorted(ids)
    return done_ids, rejects
