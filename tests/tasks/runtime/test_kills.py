"""A run is killed at each of its commits in turn; what the next runs leave is what an undisturbed one does.

A kill is an exception that nothing catches, and after it no commit, rename or removal has an effect. For the state on
disk, a kill just after one commit is a kill just before the next. `make chaos` sends real signals.
"""

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from deltalake import DeltaTable
from deltalake.table import TableOptimizer
from fsspec.implementations.local import LocalFileSystem

from aai.workspace import table
from aai.workspace.drivers import DRIVERS
from aai.workspace.maintenance import find_garbage
from tasks.render import render
from tasks.runtime.run import Run
from tasks.score import score
from tasks.stages import make_config, open_run
from tests.bank import jobs_of
from tests.disturbed import contents, keep_models, write_files

COMMITS = [(table, "write_deltalake"), (os, "replace"), (os, "rename"), (DeltaTable, "create")]
CHANGES = [
    (DeltaTable, "delete"), (DeltaTable, "vacuum"), (TableOptimizer, "compact"), (LocalFileSystem, "rm_file"),
    (LocalFileSystem, "rm"),
]  # fmt: skip
QUICK_FIT = {"method": "adapter", "steps": 0}
IDLE = {"an image goes", "train_mapper", "describe_image_members", "describe_audio_members", "confidence"}
"""Steps that commit nothing here."""
KILLS = {"ingest_audio", "index", "fit", "render"}
"""Steps of every kind: with rejects, with an artifact, with rejected parts of items, and with shards."""


class Killed(BaseException):
    """The process is gone."""


class Killer:
    """Lets a number of changes pass, and raises at every later one: nothing reaches the disk any more."""

    def __init__(self, num_allowed: int) -> None:
        self.num_left = num_allowed

    def guard(self, change: Callable) -> Callable:
        def guarded(*args, **options):
            if self.num_left >= 0 and f"/{DRIVERS}/" in str(args):
                return change(*args, **options)  # tells other drivers of this one, and is no part of the bank
            if self.num_left <= 0:
                self.num_left = -1
                raise Killed
            self.num_left -= 1
            return change(*args, **options)

        return guarded


@contextmanager
def killed_after(num_changes: int) -> Iterator[Killer]:
    """Kill the run at the next change after some; what a dead process leaves behind stays behind."""
    killer = Killer(num_changes)
    with pytest.MonkeyPatch.context() as patch:
        for owner, name in (*COMMITS, *CHANGES):
            patch.setattr(owner, name, killer.guard(getattr(owner, name)))
        yield killer


def resume_after_each_change(do: Callable[[], object]) -> int:
    """Let the runs make 1, 2 or 3 changes in turn, until one is left alive; how many were killed.

    A single change is not enough where a shard comes before the rejects and the rows of a slice.
    """
    for num_killed in range(40):
        with killed_after(1 + num_killed % 3) as killer:
            try:
                do()
            except Killed:
                continue
        assert killer.num_left >= 0, "it was killed, and went on"
        return num_killed
    raise AssertionError("it does not get on")


def run_on(folder: Path, bank: str) -> Run:
    keys = {
        "audio": str(folder / "sounds"), "images": str(folder / "images"), "workspace": str(folder / bank),
        "retrieve": {"num_neighbours": 2}, "fit": QUICK_FIT, "render": {"guidance": 1},
        "confidence": {"method": "none"},
        "run": {"commit_slices": 1, "max_reject_fraction": 1}, "pool": {"num_workers": 0, "slice_size": 3},
    }  # fmt: skip
    return open_run(make_config(**keys))


def steps_of(folder: Path, bank: str) -> Iterator[tuple[str, Callable[[], object]]]:
    """What a build, a rendering and the scores consist of; each step opens the bank anew, as the next process does."""
    for stage in run_on(folder, bank).stages:
        if stage.command == "build":
            yield stage.name, lambda name=stage.name: do_stage(run_on(folder, bank), name)
        if stage.name == "retrieve":
            yield "an image goes", lambda: remove_an_image(run_on(folder, bank))
    yield "render", lambda: do_render(run_on(folder, bank))
    yield "score", lambda: score(run_on(folder, bank))


def do_stage(run: Run, name: str) -> None:
    run.do(next(stage for stage in run.stages if stage.name == name))


def do_render(run: Run) -> None:
    render(run, jobs_of(run, {"seeds": 2, "prompt": ["a photo of *", "a photo of {label} *"]}))


def remove_an_image(run: Run) -> None:
    """The first image of the first clip is no longer where it was, so that a part of a clip is rejected in `fit`."""
    with run.query() as query:
        [row] = query.table(
            "SELECT uri FROM known_images JOIN (SELECT image_ids[1] AS image_id FROM neighbours ORDER BY clip_id "
            "LIMIT 1) USING (image_id)"
        ).to_pylist()
    Path(row["uri"]).rename(f"{row['uri']}.moved") if os.path.exists(row["uri"]) else None


@pytest.mark.parametrize(
    "kills",
    [pytest.param(None, id="all steps", marks=pytest.mark.slow), pytest.param(KILLS, id="steps of every kind")],
)
def test_killed_after_each_change_the_next_runs_leave_what_an_undisturbed_one_does(tmp_path, monkeypatch, kills):
    keep_models(monkeypatch)
    folder = write_files(tmp_path)
    for _, do in steps_of(folder, "undisturbed"):
        do()
    [moved] = (folder / "images").glob("*.moved")
    moved.rename(moved.with_suffix(""))
    expected = contents(run_on(folder, "undisturbed"))
    assert {stage for row in expected["rejects"] if (stage := json.loads(row)["stage"])} == {
        "ingest_images", "ingest_audio", "fit", "render",
    }  # fmt: skip
    num_killed = {}
    for name, do in steps_of(folder, "killed"):
        num_killed[name] = resume_after_each_change(do) if kills is None or name in kills else do()
    assert min(num_killed[name] for name in kills or num_killed.keys() - IDLE) > 0
    run = run_on(folder, "killed")
    assert contents(run) == expected
    health = run.workspace.health()
    assert (health.missing_shards, health.duplicates) == ([], {})
    assert set(find_garbage(run.workspace, 0.0).shards) == set(health.orphan_shards) != set()
