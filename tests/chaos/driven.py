"""A driver in a process of its own that starts at once: forked from one that has imported and loaded everything.

Python's fork server does that; it never uses Delta itself, whose threads do not survive a fork.
"""

import ctypes
import json
import multiprocessing
import os
import resource
import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pytest
from deltalake import DeltaTable

from aai.errors import Transient
from aai.workspace import Workspace, artifacts, shards, table
from aai.workspace.table import Table
from flows.steps import build
from tasks.render import render
from tasks.runtime.models import open_audio, open_image_text
from tasks.stages import make_config, open_run
from tests.bank import jobs_of
from tests.disturbed import keep_models
from tests.workspace.rows import OLD, rows_of

ROOT = Path(__file__).parents[2]
IS_FORK_SERVER = "AAI_CHAOS_FORKS" in os.environ
JOB = {"seeds": 2, "prompt": "a photo of *"}
ENDED = 3
"""Exit code of a driver that ended with `Transient`; its sentence is the last line of its journal."""
shards.os, artifacts.os = (SimpleNamespace(**vars(os)) for _ in range(2))  # others rename files, too
POINTS: dict[str, tuple[object, str]] = {
    "create": (DeltaTable, "create"),
    "commit": (table, "write_deltalake"),
    "shard": (shards.os, "replace"),
    "artifact": (artifacts.os, "rename"),
}
"""What a driver may be killed before or after: a new table, a commit of rows, a published shard or artifact."""


@dataclass(frozen=True)
class Fault:
    """What befalls a driver, besides signals from outside."""

    kill: tuple[str, str, int] | None = None
    """SIGKILL `before` or `after` a change, by its name in POINTS and its number."""
    write: tuple[str, int] | None = None
    """The n-th change of a file of the bank fails with `EIO` or `ENOSPC`, or is a `short` write."""
    memory_bytes: int | None = None
    """Address space that the driver may add to what it has."""


def start(target: Callable[..., None], *arguments: Any, shim: Path | None = None) -> ForkServerProcess:
    """Run a function of this module in a forked process."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    with pytest.MonkeyPatch.context() as patch:  # the server takes the environment of the first start
        patch.setenv("PYTHONPATH", str(ROOT))
        patch.setenv("AAI_CHAOS_FORKS", "1")
        patch.setenv("OMP_NUM_THREADS", "1")
        if shim:
            patch.setenv("LD_PRELOAD", str(shim))
        process = context.Process(target=target, args=arguments)
        process.start()
    return process


def drive(keys: dict[str, Any], journal: Path, fault: Fault) -> None:
    """Build and render what is left to do."""
    os.dup2(os.open(journal.with_suffix(".log"), os.O_WRONLY | os.O_CREAT | os.O_APPEND), 2)
    _write_journal(journal)
    _arrange(fault, keys["workspace"])
    try:
        run = open_run(make_config(**keys))
        build(run)
        render(run, jobs_of(run, JOB))
    except Transient as error:
        _add_line(journal, str(error))
        os._exit(ENDED)


def append(uri: str, journal: Path, slices: Sequence[tuple[int, int]]) -> None:
    """Append clips whose ids are numbers, slice by slice, until each is in."""
    _write_journal(journal)
    clips = Workspace(uri).table("clips")
    for first, last in slices:
        rows = rows_of("clips", [f"{number:05}" for number in range(first, last)])
        while True:
            try:
                clips.append(OLD, rows)
                break
            except Transient:
                continue


def _write_journal(journal: Path) -> None:
    """Note the ids of all rows whose append has returned."""
    append = Table.append

    def noted(self: Table, recipe: str, *slices: pa.Table) -> int:
        num = append(self, recipe, *slices)
        keys = [list(row.values()) for rows in slices for row in rows.select(list(self.schema.key)).to_pylist()]
        _add_line(journal, json.dumps([self.name, recipe, keys]))
        return num

    Table.append = noted  # type: ignore[method-assign]


def _add_line(journal: Path, line: str) -> None:
    with journal.open("a") as file:
        file.write(f"{line}\n")
        file.flush()
        os.fsync(file.fileno())


def _arrange(fault: Fault, bank: str) -> None:
    if fault.kill:
        _kill_at(*fault.kill)
    if fault.write:
        kind, number = fault.write
        ctypes.CDLL(None).chaos_arm(bank.encode(), kind.encode(), number)
    if fault.memory_bytes is not None:
        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + fault.memory_bytes,) * 2)


def _kill_at(moment: str, point: str, number: int) -> None:
    owner, name = POINTS[point]
    change, num = getattr(owner, name), 0

    def killing(*arguments: Any, **options: Any) -> Any:
        nonlocal num
        num += 1
        if (moment, num) == ("before", number):
            os.kill(os.getpid(), signal.SIGKILL)
        result = change(*arguments, **options)
        if (moment, num) == ("after", number):
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    setattr(owner, name, killing)


def _load() -> None:
    """Load all models, which every fork then has."""
    keep_models(pytest.MonkeyPatch())
    config = make_config()
    for load in (open_audio, open_image_text):
        load(config)
    for module in ("tasks.fit", "tasks.render"):
        sys.modules[module].open_diffusion(config)  # type: ignore[attr-defined]


if IS_FORK_SERVER and multiprocessing.current_process().name == "MainProcess":
    _load()
