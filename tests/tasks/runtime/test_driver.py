"""The driver on a real workspace: pending items are processed once, whatever dies, and a second run does nothing."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from random import Random
from threading import Event, Thread
from types import SimpleNamespace

import pyarrow as pa
import pytest

from aai.errors import BadConfig, BadItem, Transient
from aai.identity import content_id
from aai.workspace import SCHEMAS
from tasks.runtime.driver import StageRun, StageSummary, run_stage
from tasks.runtime.options import PoolOptions, RunOptions
from tasks.runtime.run import Run
from tasks.runtime.source import QuerySource
from tasks.runtime.stage import Stage
from tasks.runtime.work import LocalPool, Outcome, Reject
from tests.bank import add_files, append, run_on

ROOT = Path(__file__).parents[3]
NUM_CLIPS = 400
BAD = {content_id(b"%d" % number) for number in range(0, NUM_CLIPS, 50)}
LOCAL = PoolOptions(num_workers=0, slice_size=10)
MEASURED = Stage(name="align", table="aligned_vectors", reads=("clips",), rows="SELECT clip_id, uri FROM present_clips")


class Measure:
    """Makes a vector of each clip, from its id alone; slowly if asked to."""

    def __init__(self, pause_s=0.0, bad=frozenset()):
        self.pause_s, self.bad = pause_s, bad

    def __call__(self, rows: pa.Table) -> Outcome:
        time.sleep(self.pause_s)
        silent = BadItem("it is silent: record it again")
        good = [id for id in rows["clip_id"].to_pylist() if id not in self.bad]
        rejects = [Reject.of(id, silent, uri) for id, uri in pairs(rows) if id in self.bad]
        return Outcome(vectors(good), rejects)


class Untouched:
    """No run may need it."""

    def __init__(self):
        raise AssertionError("a worker was made")


def pairs(rows):
    return zip(rows["clip_id"].to_pylist(), rows["uri"].to_pylist(), strict=True)


def vectors(ids) -> pa.Table:
    return pa.table(
        {"clip_id": ids, "vector": [[float(int(id[:4], 16))] for id in ids]}, schema=SCHEMAS["aligned_vectors"].columns
    )


def stage_of(run: Run, make_worker=Measure) -> StageRun:
    return StageRun("align", QuerySource(run, MEASURED), "aligned_vectors", run.recipe("aligned_vectors"), make_worker)


def do(run: Run, make_worker=Measure, options: RunOptions | None = None, **others) -> StageSummary:
    return run_stage(run.workspace, stage_of(run, make_worker), LOCAL, options or RunOptions(), **others)


def add_clips(run: Run, numbers: Iterable[int]) -> None:
    ids = {number: content_id(b"%d" % number) for number in numbers}
    add_files(run, "audio", [{"uri": f"{number}.wav", "content_id": id} for number, id in ids.items()])
    append(run, "clips", [{"clip_id": id, "content_id": id} for id in ids.values()])


def ids_in(run: Run, table: str) -> list[str]:
    """The ids in a table of the stage, rejects included."""
    return run.workspace.table(table).ids(run.recipe("aligned_vectors")).to_pylist()


def drive(uri, num_workers, pause_s):
    """Run in a subprocess: prints how many items are finished, and at the end whether Ray was loaded."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell ignores it for processes in the background
    pool = PoolOptions(num_workers=int(num_workers), slice_size=10, grace_s=5)
    run, show = run_on(uri), partial(print, flush=True)
    stage = stage_of(run, partial(Measure, float(pause_s), BAD))
    run_stage(run.workspace, stage, pool, RunOptions(commit_slices=2), lambda done, *_: done and show("finished", done))
    show("ended", "ray" in sys.modules)


def driver(run: Run, num_workers=0, pause_s=0.0) -> subprocess.Popen:
    code = "import sys; from tests.tasks.runtime.test_driver import drive; drive(*sys.argv[1:])"
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])  # inherited by Ray's workers
    return subprocess.Popen(
        [sys.executable, "-c", code, run.workspace.uri, str(num_workers), str(pause_s)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": path},
    )


@pytest.fixture
def run(tmp_path) -> Run:
    run = run_on(tmp_path / "bank")
    add_clips(run, range(NUM_CLIPS))
    return run


def check_all_done(run: Run) -> None:
    """Each clip is there once: a row, the same as that of an undisturbed run, or a reject."""
    all_ids = run.workspace.table("clips").ids(run.recipe("clips")).to_pylist()
    rows = run.workspace.table("aligned_vectors").read(["clip_id", "vector"], run.recipe("aligned_vectors"))
    assert rows.sort_by("clip_id").to_pylist() == vectors(sorted(set(all_ids) - BAD)).to_pylist()
    assert sorted(ids_in(run, "rejects")) == sorted(BAD)


def test_everything_is_done_once_and_a_second_run_does_nothing(run):
    first = do(run, partial(Measure, bad=BAD))
    assert (first.stage, first.recipe) == ("align", run.recipe("aligned_vectors"))
    assert (first.done, first.new, first.rejected) == (0, 392, 8)
    assert first.rate == NUM_CLIPS / first.took_s and not first.stopped
    check_all_done(run)
    second = do(run, Untouched)
    assert (second.done, second.new, second.rejected) == (NUM_CLIPS, 0, 0)


def test_new_clips_are_done_alone(run):
    do(run)
    add_clips(run, range(NUM_CLIPS, NUM_CLIPS + 7))
    summary = do(run)
    assert (summary.done, summary.new) == (NUM_CLIPS, 7)


def test_a_reject_is_a_row_with_the_reason_and_the_file(run):
    do(run, partial(Measure, bad=BAD))
    [row] = [row for row in run.workspace.table("rejects").read().to_pylist() if row["uri"] == "50.wav"]
    assert row.pop("rejected_at") > 1_767_225_600_000_000  # microseconds since 1970
    assert row == {
        "id": content_id(b"50"), "stage": "align", "uri": "50.wav", "error": "BadItem", "part_of": None,
        "sentence": "it is silent: record it again", "job_file": None, "recipe": run.recipe("aligned_vectors"),
    }  # fmt: skip


def test_rejects_are_tried_again_on_request(run):
    do(run, partial(Measure, bad=BAD))
    again = do(run, options=RunOptions(retry_rejects=True))
    assert (again.done, again.new, again.rejected) == (NUM_CLIPS - len(BAD), len(BAD), 0)
    after = do(run, Untouched)
    assert (after.done, after.new, after.rejected) == (NUM_CLIPS, 0, 0)


def test_too_many_rejects_stop_the_stage_and_finished_slices_are_committed(run):
    everything = frozenset(run.workspace.table("clips").ids(run.recipe("clips")).to_pylist()[100:])
    sentence = (
        r"align rejected 110 of 400 items, more than 0.25, at last \d+.wav \(it is silent: record it again\): look"
    )
    with pytest.raises(BadConfig, match=sentence) as error:
        do(run, partial(Measure, bad=everything), RunOptions(max_reject_fraction=0.25))
    assert error.value.key == "run.max_reject_fraction"
    assert len(ids_in(run, "rejects")) == 110
    assert 0 < len(ids_in(run, "aligned_vectors")) <= 100


def test_a_bad_new_item_among_many_finished_ones_does_not_stop_the_stage(run):
    do(run)
    add_clips(run, [NUM_CLIPS])
    summary = do(run, partial(Measure, bad={content_id(b"%d" % NUM_CLIPS)}), RunOptions(max_reject_fraction=0.01))
    assert (summary.done, summary.new, summary.rejected) == (NUM_CLIPS, 0, 1)


def test_rejects_of_earlier_runs_count_for_the_limit(run):
    do(run, partial(Measure, bad=BAD), RunOptions(max_reject_fraction=0.02))
    add_clips(run, [NUM_CLIPS])
    with pytest.raises(BadConfig, match="rejected 9 of 401 items"):
        do(run, partial(Measure, bad={content_id(b"%d" % NUM_CLIPS)}), RunOptions(max_reject_fraction=0.02))


def test_a_part_that_is_rejected_neither_counts_for_the_limit_nor_as_the_item(run):
    class Partial(Measure):
        def __call__(self, rows):
            parts = [Reject.of(f"image of {id}", BadItem("gone"), part_of=id) for id in rows["clip_id"].to_pylist()]
            return Outcome(vectors(rows["clip_id"].to_pylist()), parts)

    summary = do(run, Partial, RunOptions(max_reject_fraction=0))
    assert (summary.new, summary.rejected) == (NUM_CLIPS, NUM_CLIPS)
    assert do(run, Untouched).done == NUM_CLIPS


def test_a_part_that_several_items_lack_is_rejected_for_each_of_them(run):
    class Sharing(Measure):
        def __call__(self, rows):
            ids = rows["clip_id"].to_pylist()
            return Outcome(vectors(ids), [Reject.of("one image", BadItem("gone"), part_of=id) for id in ids])

    do(run, Sharing)
    rejects = run.workspace.table("rejects").read().to_pylist()
    assert sorted(row["part_of"] for row in rejects) == sorted(ids_in(run, "aligned_vectors"))


def test_what_belongs_to_an_item_is_committed_before_the_row_that_marks_it_as_done(run, monkeypatch):
    committed = []

    class Both(Measure):
        def __call__(self, rows):
            ids = rows["clip_id"].to_pylist()
            images = pa.table({"image_id": ids, "width": [1] * 10, "height": [1] * 10, "format": ["PNG"] * 10})
            return Outcome(vectors(ids), extra_tables={"images": images.cast(SCHEMAS["images"].columns)})

    append_to = type(run.workspace.table("images")).append
    monkeypatch.setattr(
        "aai.workspace.table.Table.append",
        lambda table, *others: committed.append(table.name) or append_to(table, *others),
    )
    do(run, Both, RunOptions(commit_slices=100, commit_s=1000))
    assert [name for name in committed if name != "rejects"] == ["images", "aligned_vectors"]
    assert sorted(ids_in(run, "images")) == sorted(ids_in(run, "aligned_vectors"))


def test_a_bug_leaves_what_was_finished_before(run):
    class Breaking(Measure):
        calls = 0

        def __call__(self, rows):
            self.calls += 1
            assert self.calls < 4, "a bug"
            return super().__call__(rows)

    with pytest.raises(AssertionError, match="a bug"):
        do(run, Breaking)
    assert len(ids_in(run, "aligned_vectors")) == 30


def test_an_error_of_the_driver_releases_the_workers_before_the_last_commit(run, monkeypatch):
    events = []

    class Pool(LocalPool):
        def map(self, slices, stop):
            try:
                yield from super().map(slices, stop)
            finally:
                events.append("released")

    def fail(*others):
        events.append("commit")
        raise Transient("the disk is full")

    monkeypatch.setattr("tasks.runtime.workers.LocalPool", Pool)
    monkeypatch.setattr("aai.workspace.table.Table.append", fail)
    with pytest.raises(Transient) as kept:  # and with it the frames that hold the pool
        do(run, options=RunOptions(commit_slices=1))
    assert kept.value.sentence == "the disk is full" and events == ["commit", "released", "commit"]


def test_fast_slices_share_a_commit(run):
    do(run, options=RunOptions(commit_slices=16, commit_s=1000))
    assert num_commits(run) == 3  # of 40 slices
    other = run_on(run.workspace.uri, models={"dtype": "bfloat16"})  # another recipe
    do(other, options=RunOptions(commit_slices=1))
    assert num_commits(run) == 3 + 40


def test_a_finished_slice_is_committed_once_it_has_waited_long_enough(run, monkeypatch):
    """By a clock of which each slice takes a minute; by their number alone, all would be committed at the end."""
    now_s, seen = [0.0], []
    monkeypatch.setattr("tasks.runtime.driver.time", SimpleNamespace(monotonic=lambda: now_s[0], time_ns=time.time_ns))

    class Slow(Measure):
        def __call__(self, rows):
            now_s[0] += 60
            return super().__call__(rows)

    options, pool = RunOptions(commit_slices=100, commit_s=50), PoolOptions(num_workers=0, slice_size=100)
    look = lambda done, *_: done and seen.append(len(ids_in(run, "aligned_vectors")))  # noqa: E731
    run_stage(run.workspace, stage_of(run, Slow), pool, options, look)
    assert len(seen) == 4 and all(100 * slices - committed <= 100 for slices, committed in enumerate(seen, start=1))


def test_progress_tells_the_total_first_and_then_counts_finished_items(run):
    calls = []
    do(run, progress=lambda *now: calls.append(now))
    assert [(done, total) for done, total, _ in calls] == [(done, NUM_CLIPS) for done in range(0, NUM_CLIPS + 1, 10)]
    assert calls[0][2] == 0 and all(rate > 0 for *_, rate in calls[1:])


def test_in_a_thread_which_may_not_handle_signals_an_event_stops_the_stage(run):
    stop, summaries = Event(), []
    work = partial(do, run, progress=lambda done, *_: done and stop.set(), stop=stop)
    thread = Thread(target=lambda: summaries.append(work()))
    thread.start()
    thread.join()
    assert (summaries[0].new, summaries[0].stopped) == (10, True)
    assert len(ids_in(run, "aligned_vectors")) == 10


def test_the_handlers_of_signals_are_restored(run):
    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]
    do(run)
    assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)] == before


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, pytest.param(signal.SIGHUP, marks=pytest.mark.slow)])
def test_a_signal_commits_what_is_finished_and_ends_the_process(run, number):
    ran = driver(run, pause_s=0.05)
    for _ in range(5):
        last = ran.stdout.readline()
    ran.send_signal(number)
    out, err = ran.communicate(timeout=120)
    last = out.splitlines()[-1] if out else last
    assert "ended" not in out and ran.returncode == -number
    assert f"align: stopped with {last.split()[1]} of 400 items finished; starting it again does the rest" in err
    num_done = len(ids_in(run, "aligned_vectors")) + len(ids_in(run, "rejects"))
    assert num_done == int(last.split()[1]) < NUM_CLIPS
    do(run, partial(Measure, bad=BAD))
    check_all_done(run)


def test_a_second_signal_does_not_wait_for_the_slice_in_flight(run):
    reached = []

    class Signalled(Measure):
        def __call__(self, rows: pa.Table) -> Outcome:
            if reached:
                for moment in ("between", "after"):
                    signal.raise_signal(signal.SIGINT)
                    reached.append(moment)
            reached.append("first slice")
            return super().__call__(rows)

    with pytest.raises(KeyboardInterrupt):
        do(run, Signalled)
    assert reached == ["first slice", "between"]
    assert len(ids_in(run, "aligned_vectors")) == 10  # finished before, so committed


def kill_and_resume(run: Run, seed, num_workers, num_kills, pause_s):
    random = Random(seed)
    for _ in range(num_kills):
        ran = driver(run, num_workers, pause_s)
        ran.stdout.readline()
        time.sleep(random.uniform(0, 0.3))
        ran.kill()
        ran.communicate()
        assert ran.returncode == -signal.SIGKILL
    out, err = driver(run).communicate(timeout=120)
    assert out.splitlines()[-1].startswith("ended"), err
    check_all_done(run)
    assert run.workspace.health().duplicates == {}


def test_a_killed_driver_loses_and_repeats_nothing(run):
    kill_and_resume(run, 0, num_workers=0, num_kills=2, pause_s=0.04)


@pytest.mark.chaos
def test_a_killed_driver_with_ray_loses_and_repeats_nothing(run):
    kill_and_resume(run, 7, num_workers=1, num_kills=1, pause_s=0.1)
    out, err = driver(run, num_workers=1).communicate(timeout=120)
    assert out.split() == ["ended", "False"]  # nothing to do: no Ray
    assert err == ""


def test_a_signal_commits_what_is_finished_with_ray(run):
    ran = driver(run, num_workers=1, pause_s=0.1)
    first = ran.stdout.readline()
    ran.terminate()
    out, err = ran.communicate(timeout=120)
    last = (first + out).splitlines()[-1]
    assert ran.returncode == -signal.SIGTERM and "ended" not in out
    assert err.splitlines()[-1:] == [
        f"align: stopped with {last.split()[1]} of 400 items finished; starting it again does the rest"
    ]
    num_done = len(ids_in(run, "aligned_vectors")) + len(ids_in(run, "rejects"))
    assert num_done == int(last.split()[1]) < NUM_CLIPS


def num_commits(run: Run) -> int:
    log = Path(run.workspace.table("aligned_vectors").uri, "_delta_log")
    return len([name for name in os.listdir(log) if name.endswith(".json")]) - 1  # the first one made the table


def test_the_rate_of_a_summary_counts_rejects_and_is_0_without_time():
    assert StageSummary("align", "cd34", done=0, new=3, rejected=1, took_s=2.0).rate == 2.0
    assert StageSummary.nothing("align", "cd34", done=7) == StageSummary("align", "cd34", 7, 0, 0, 0.0)
    assert StageSummary.nothing("align", "cd34").rate == 0
