"""The driver on a real workspace: what is pending is done once, whatever dies, and a second run does nothing."""

import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from random import Random
from threading import Event, Thread

import pyarrow as pa
import pytest

from aai.errors import BadConfig, BadItem
from aai.identity import content_id
from aai.workspace import SCHEMAS, Workspace
from tasks.runtime.driver import Stage, StageOptions, StageSummary, run_stage
from tasks.runtime.tables import TableSource
from tasks.runtime.work import Outcome, PoolOptions, Reject

UPSTREAM, RECIPE = "ab12", "cd34"
NUM_CLIPS = 400
BAD = {content_id(b"%d" % number) for number in range(0, NUM_CLIPS, 50)}
HERE = PoolOptions(num_workers=0, slice_size=10)


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
    """Nobody may need it."""

    def __init__(self):
        raise AssertionError("a worker was made")


def pairs(rows):
    return zip(rows["clip_id"].to_pylist(), rows["uri"].to_pylist(), strict=True)


def vectors(ids) -> pa.Table:
    return pa.table(
        {"clip_id": ids, "vector": [[float(int(id[:4], 16))] for id in ids]}, schema=SCHEMAS["aligned_vectors"].columns
    )


def stage_of(workspace, make_worker=Measure, **changes) -> Stage:
    source = TableSource(workspace, "clips", UPSTREAM, ("clip_id", "uri"))
    return Stage(**({"name": "align", "source": source, "sink": "aligned_vectors", "recipe": RECIPE,
                     "make_worker": make_worker} | changes))  # fmt: skip


def add_clips(workspace, first, last):
    columns = SCHEMAS["clips"].columns
    values = {c.name: pa.repeat(pa.scalar("1").cast(c.type), last - first) for c in columns}
    ids = [content_id(b"%d" % number) for number in range(first, last)]
    rows = values | {"clip_id": ids, "uri": [f"{number}.wav" for number in range(first, last)]}
    workspace.table("clips").append(UPSTREAM, pa.table(rows, schema=columns))


def drive(uri, num_workers, pause_s, *options):
    """What a subprocess runs: says when the first items are committed, and in the end what it did."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # what runs the tests in the background has it ignored
    workspace = Workspace(uri)
    pool = PoolOptions(num_workers=int(num_workers), slice_size=10, grace_s=5)
    rhythm = StageOptions(commit_slices=2)
    say = partial(print, flush=True)
    make_worker = partial(Measure, float(pause_s), BAD)
    run_stage(workspace, stage_of(workspace, make_worker), pool, rhythm, lambda done, *_: say("finished", done))
    say("ended", "ray" in sys.modules)


def driver(workspace, num_workers=0, pause_s=0.0) -> subprocess.Popen:
    code = "import sys; from test_driver import drive; drive(*sys.argv[1:])"
    arguments = [workspace.uri, str(num_workers), str(pause_s)]
    path = os.pathsep.join([str(Path(__file__).parent), *sys.path])  # inherited by Ray's workers
    return subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": path},
    )


@pytest.fixture
def workspace(tmp_path) -> Workspace:
    workspace = Workspace(tmp_path / "bank")
    add_clips(workspace, 0, NUM_CLIPS)
    return workspace


def check_all_done(workspace):
    """Each clip once: a row, the same as of an undisturbed run, or a reject."""
    all_ids = workspace.table("clips").ids(UPSTREAM).to_pylist()
    rows = workspace.table("aligned_vectors").read(["clip_id", "vector"], RECIPE).sort_by("clip_id")
    good = pa.chunked_array([sorted(set(all_ids) - BAD)])
    assert rows.to_pylist() == vectors(good.to_pylist()).to_pylist()
    assert sorted(workspace.table("rejects").ids(RECIPE).to_pylist()) == sorted(BAD)


def test_everything_is_done_once_and_a_second_run_does_nothing(workspace):
    make = partial(Measure, bad=BAD)
    first = run_stage(workspace, stage_of(workspace, make), HERE, StageOptions())
    assert (first.stage, first.recipe, first.done, first.new, first.rejected) == ("align", RECIPE, 0, 392, 8)
    assert first.rate == pytest.approx(NUM_CLIPS / first.took_s, rel=0.01) and not first.stopped
    check_all_done(workspace)
    second = run_stage(workspace, stage_of(workspace, Untouched), HERE, StageOptions())
    assert (second.done, second.new, second.rejected) == (NUM_CLIPS, 0, 0)


def test_new_clips_are_done_alone(workspace):
    run_stage(workspace, stage_of(workspace), HERE, StageOptions())
    add_clips(workspace, NUM_CLIPS, NUM_CLIPS + 7)
    summary = run_stage(workspace, stage_of(workspace), HERE, StageOptions())
    assert (summary.done, summary.new) == (NUM_CLIPS, 7)


def test_rejects_say_what_is_wrong_and_with_which_file(workspace):
    run_stage(workspace, stage_of(workspace, partial(Measure, bad=BAD)), HERE, StageOptions())
    [row] = [row for row in workspace.table("rejects").read().to_pylist() if row["uri"] == "50.wav"]
    assert row == {
        "id": content_id(b"50"), "stage": "align", "uri": "50.wav", "error": "BadItem",
        "sentence": "it is silent: record it again", "recipe": RECIPE,
    }  # fmt: skip


def test_rejects_are_tried_again_if_asked_for(workspace):
    run_stage(workspace, stage_of(workspace, partial(Measure, bad=BAD)), HERE, StageOptions())
    again = run_stage(workspace, stage_of(workspace), HERE, StageOptions(retry_rejects=True))
    assert (again.done, again.new, again.rejected) == (NUM_CLIPS - len(BAD), len(BAD), 0)


def test_too_many_rejects_stop_the_stage_and_what_is_done_stays(workspace):
    everything = frozenset(workspace.table("clips").ids(UPSTREAM).to_pylist()[100:])
    sentence = r"max_reject_fraction: align rejected \d+ of 400 items, more than 0.25, at last \w+ \(it is silent"
    with pytest.raises(BadConfig, match=sentence):
        options = StageOptions(max_reject_fraction=0.25)
        run_stage(workspace, stage_of(workspace, partial(Measure, bad=everything)), HERE, options)
    assert len(workspace.table("rejects").ids(RECIPE)) == 110
    done = len(workspace.table("aligned_vectors").ids(RECIPE))
    assert 0 < done <= 100


def test_a_bug_leaves_what_was_done_before(workspace):
    class Breaking(Measure):
        calls = 0

        def __call__(self, rows):
            self.calls += 1
            assert self.calls < 4, "a bug"
            return super().__call__(rows)

    with pytest.raises(AssertionError, match="a bug"):
        run_stage(workspace, stage_of(workspace, Breaking), HERE, StageOptions())
    assert len(workspace.table("aligned_vectors").ids(RECIPE)) == 30


def test_fast_slices_share_a_commit(workspace):
    run_stage(workspace, stage_of(workspace), HERE, StageOptions(commit_slices=16, commit_s=100))
    assert num_commits(workspace) == 3  # of 40 slices
    run_stage(workspace, stage_of(workspace, recipe="ef56"), HERE, StageOptions(commit_slices=1))
    assert num_commits(workspace) == 3 + 40


def test_a_slow_slice_does_not_wait_for_others(workspace):
    seen = []

    def look(done, total, rate):
        seen.append((done, len(workspace.table("aligned_vectors").ids(RECIPE))))

    pool = PoolOptions(num_workers=0, slice_size=100)
    run_stage(workspace, stage_of(workspace, partial(Measure, 0.2)), pool, StageOptions(commit_s=0.1), look)
    assert seen == [(100, 0), (200, 200), (300, 200), (400, 400)]


def test_progress_is_told(workspace):
    told = []
    run_stage(workspace, stage_of(workspace), HERE, StageOptions(), lambda *now: told.append(now))
    assert [(done, total) for done, total, _ in told] == [(done, NUM_CLIPS) for done in range(10, NUM_CLIPS + 1, 10)]
    assert all(rate > 0 for *_, rate in told)


def test_who_may_not_handle_signals_stops_by_an_event(workspace):
    stop, summaries = Event(), []

    def work():
        progress = lambda *now: stop.set()  # noqa: E731
        summaries.append(run_stage(workspace, stage_of(workspace), HERE, StageOptions(), progress, stop))

    thread = Thread(target=work)
    thread.start()
    thread.join()
    assert (summaries[0].new, summaries[0].stopped) == (10, True)
    assert len(workspace.table("aligned_vectors").ids(RECIPE)) == 10


def test_signals_find_their_handlers_again(workspace):
    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]
    run_stage(workspace, stage_of(workspace), HERE, StageOptions())
    assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)] == before


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_commits_what_is_finished_and_ends_the_process(workspace, number):
    ran = driver(workspace, pause_s=0.05)
    for _ in range(5):
        last = ran.stdout.readline()
    ran.send_signal(number)
    out, err = ran.communicate(timeout=30)
    last = out.splitlines()[-1] if out else last
    assert "ended" not in out and ran.returncode == -number
    assert f"align: stopped with {last.split()[1]} of 400 items finished; starting it again does the rest" in err
    num_done = len(workspace.table("aligned_vectors").ids(RECIPE)) + len(workspace.table("rejects").ids(RECIPE))
    assert num_done == int(last.split()[1]) < NUM_CLIPS
    driver(workspace).communicate(timeout=30)
    check_all_done(workspace)


def test_a_second_signal_does_not_wait_for_the_slice_in_flight(workspace):
    reached = []

    class Signalled(Measure):
        def __call__(self, rows: pa.Table) -> Outcome:
            if reached:
                for place in ("between", "after"):
                    signal.raise_signal(signal.SIGINT)
                    reached.append(place)
            reached.append("first slice")
            return super().__call__(rows)

    with pytest.raises(KeyboardInterrupt):
        run_stage(workspace, stage_of(workspace, Signalled), HERE, StageOptions())
    assert reached == ["first slice", "between"]
    assert len(workspace.table("aligned_vectors").ids(RECIPE)) == 10  # finished before, so committed


def kill_and_resume(workspace, seed, num_workers, num_kills, pause_s):
    random = Random(seed)
    for _ in range(num_kills):
        ran = driver(workspace, num_workers, pause_s)
        ran.stdout.readline()
        time.sleep(random.uniform(0, 0.3))
        ran.kill()
        ran.communicate()
        assert ran.returncode == -signal.SIGKILL
    out, err = driver(workspace).communicate(timeout=60)
    assert out.splitlines()[-1].startswith("ended"), err
    check_all_done(workspace)
    assert workspace.health().duplicates == {}


def test_a_killed_driver_loses_and_repeats_nothing(workspace):
    kill_and_resume(workspace, 0, num_workers=0, num_kills=2, pause_s=0.04)


@pytest.mark.chaos
def test_a_killed_driver_with_ray_loses_and_repeats_nothing(workspace):
    kill_and_resume(workspace, 7, num_workers=1, num_kills=1, pause_s=0.1)
    out, err = driver(workspace, num_workers=1).communicate(timeout=60)
    assert out.split() == ["ended", "False"]  # nothing to do: no Ray
    assert err == ""


def test_a_signal_commits_what_is_finished_with_ray(workspace):
    ran = driver(workspace, num_workers=1, pause_s=0.1)
    first = ran.stdout.readline()
    ran.terminate()
    out, err = ran.communicate(timeout=60)
    last = (first + out).splitlines()[-1]
    assert ran.returncode != 0 and "ended" not in out
    assert err.splitlines() == [
        f"align: stopped with {last.split()[1]} of 400 items finished; starting it again does the rest"
    ]
    num_done = len(workspace.table("aligned_vectors").ids(RECIPE)) + len(workspace.table("rejects").ids(RECIPE))
    assert num_done == int(last.split()[1]) < NUM_CLIPS


def num_commits(workspace) -> int:
    log = Path(workspace.table("aligned_vectors").uri, "_delta_log")
    return len([name for name in os.listdir(log) if name.endswith(".json")]) - 1  # the first one made the table


def test_a_summary_can_be_compared_and_printed():
    assert StageSummary("align", RECIPE, 0, 1, 0, 2.0, 0.5) == StageSummary("align", RECIPE, 0, 1, 0, 2.0, 0.5)
