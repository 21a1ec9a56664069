"""A new stage is its declaration alone: here one is defined, and the rest of the product takes it as it is."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pytest
from pydantic import Field

from aai.errors import BadConfig, BadItem
from aai.options import SPEED_ONLY, Options
from aai.workspace import Schema
from tasks.runtime.run import Run
from tasks.runtime.stage import Context, Stage, sections_of
from tasks.runtime.work import Outcome, Reject
from tasks.stages import STAGES, load_config, make_config, open_run
from tasks.views.plan import plan
from tasks.views.report import gather
from tests.bank import rows_of
from tests.collection import NUM_CLIPS, build, write_collection

ROOT = Path(__file__).parents[3]


class ToyOptions(Options):
    """How clips become toys."""

    factor: float = Field(2.0, gt=0)
    """Size of a toy relative to the length of its clip."""

    max_s: float = Field(100.0, gt=0)
    """Maximum length of a clip."""

    log: str = Field("toys.log", json_schema_extra=SPEED_ONLY)
    """File to which a worker appends the ids of its items."""


class Toymaker:
    """Multiplies the length of clips."""

    def __init__(self, context: Context) -> None:
        self.options = context.options(ToyOptions)

    def __call__(self, rows: pa.Table) -> Outcome:
        """Map a slice."""
        with open(self.options.log, "a") as log:
            log.writelines(f"{clip_id}\n" for clip_id in rows["clip_id"].to_pylist())
        good = [row for row in rows.to_pylist() if row["duration_s"] <= self.options.max_s]
        toys = [{"clip_id": row["clip_id"], "size": row["duration_s"] * self.options.factor} for row in good]
        too_long = BadItem("the clip is too long: cut it")
        rejects = [Reject.of(row["clip_id"], too_long, row["uri"]) for row in rows.to_pylist() if row not in good]
        return Outcome(pa.Table.from_pylist(toys, schema=COLUMNS), rejects)


COLUMNS = pa.schema([pa.field("clip_id", pa.string(), False), pa.field("size", pa.float64(), False)])
TOY = Stage(
    name="make_toys",
    table="toys",
    schema=Schema(("clip_id",), COLUMNS),
    reads=("clips",),
    rows="SELECT clip_id, uri, duration_s FROM present_clips",
    options=ToyOptions,
    section="toy",
    worker=Toymaker,
    slice_size=1,
    label="toys",
)
ALL = (*STAGES, TOY)


def config_of(folder: Path, **keys):
    log = {"log": str(folder / "toys.log")}
    locations = {"audio": str(folder / "sounds"), "images": str(folder / "images"), "workspace": str(folder / "bank")}
    others = {"pool": {"num_workers": 0}, "run": {"commit_slices": 1, "max_reject_fraction": 1}, "toy": log}
    return make_config(ALL, **(locations | others | keys | {"toy": log | keys.get("toy", {})}))


def toys_of(run: Run) -> dict[str, float]:
    return {row["clip_id"]: row["size"] for row in rows_of(run, "toys")}


@pytest.fixture
def folder(tmp_path) -> Path:
    """A collection whose clips are ingested."""
    folder = write_collection(tmp_path)
    build(open_run(config_of(folder), stages=ALL), until="ingest_audio")
    return folder


def test_its_options_are_a_section_of_the_configuration(tmp_path):
    assert make_config(ALL, toy={"factor": 3}).options(ToyOptions).factor == 3
    assert sections_of(ALL) == sections_of(STAGES) | {"toy": ToyOptions}
    (tmp_path / "aai.yaml").write_text("toy: {factor: 4}\npools: {make_toys: {slice_size: 9}}\n")
    config = load_config(tmp_path / "aai.yaml", stages=ALL)
    assert (config.options(ToyOptions).factor, config.pool_of("make_toys", 1).slice_size) == (4, 9)
    with pytest.raises(BadConfig):
        make_config(STAGES, toy={"factor": 3})


@pytest.mark.parametrize(
    ("keys", "key"),
    [
        ({"toy": {"size": 3}}, "toy.size"),
        ({"toy": {"factor": 0}}, "toy.factor"),
        ({"pools": {"toy": {}}}, "pools.toy"),
        ({"pools": {"make_toys": {"workers": 3}}}, "pools.make_toys.workers"),
    ],
)
def test_a_wrong_key_of_its_section_and_of_its_workers_is_named(keys, key):
    with pytest.raises(BadConfig) as error:
        make_config(ALL, **keys)
    assert error.value.key == key


def test_it_is_planned_run_once_and_then_has_nothing_to_do(folder):
    run = open_run(config_of(folder), stages=ALL)
    before = next(stage for stage in plan(run).stages if stage.stage == "make_toys")
    assert (before.new, before.done) == (NUM_CLIPS, 0)
    assert run.do(TOY).new == NUM_CLIPS
    assert set(toys_of(run).values()) == {2 * row["duration_s"] for row in rows_of(run, "clips")}
    after = next(stage for stage in plan(run).stages if stage.stage == "make_toys")
    assert (after.new, after.done) == (0, NUM_CLIPS)
    assert run.do(TOY).new == 0


def test_an_option_that_changes_results_redoes_it_alone_and_the_old_rows_stay(folder):
    first = open_run(config_of(folder), stages=ALL)
    first.do(TOY)
    second = open_run(config_of(folder, toy={"factor": 3, "log": str(folder / "other.log")}), stages=ALL)
    [changed] = [stage for stage in plan(second).stages if stage.new and stage.stage == "make_toys"]
    assert changed.stale == NUM_CLIPS
    assert {name for name, recipe in first.recipes.items() if second.recipes[name] != recipe} == {"toys"}
    assert build(second, "ingest_audio")["ingest_audio"].new == 0 and second.do(TOY).new == NUM_CLIPS
    assert toys_of(second) == {clip_id: size * 1.5 for clip_id, size in toys_of(first).items()}
    third = open_run(config_of(folder, toy={"log": str(folder / "third.log")}), stages=ALL)
    assert third.do(TOY).new == 0, "the log changes no result"


def test_the_report_has_its_total_its_time_its_rejects_and_its_recipe(folder):
    run = open_run(config_of(folder, toy={"max_s": 1.0}), stages=ALL)
    run.do(TOY)
    report = gather(run, 1)
    assert ("toys", 0, "") in report.totals and ("rejects", NUM_CLIPS, "") in report.totals
    [time] = [each for each in report.stages if each.stage == "make_toys"]
    assert (time.num_runs, time.new, time.rejected) == (1, 0, NUM_CLIPS)
    [kind] = report.rejects
    assert (kind.stage, kind.num, kind.reason) == ("make_toys", NUM_CLIPS, "the clip is too long: cut it")
    [origin] = [each for each in report.origins if each.name == "toys"]
    assert origin.recipe == run.recipe("toys") and '"max_s": 1.0' in origin.options


def drive(folder: str) -> None:
    """Run in a subprocess: the stage, which waits after each slice."""

    def wait(finished: int, total: int, rate: float) -> None:
        sys.stdout.write(f"{finished}\n")
        sys.stdout.flush()
        sys.stdin.readline()

    open_run(config_of(Path(folder)), lambda stage: wait, ALL).do(TOY)


def test_killed_in_the_middle_it_is_resumed_with_nothing_lost_or_repeated(folder):
    code = "import sys; from tests.tasks.runtime.test_stage import drive; drive(sys.argv[1])"
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    command, environment = [sys.executable, "-c", code, str(folder)], os.environ | {"PYTHONPATH": path}
    with subprocess.Popen(command, env=environment, **pipes) as driver:
        for finished in (0, 1):
            assert driver.stdout.readline() == f"{finished}\n"
            driver.stdin.write("\n")
            driver.stdin.flush()
        assert driver.stdout.readline() == "2\n"
        driver.kill()
        assert driver.wait() == -signal.SIGKILL
    run, log = open_run(config_of(folder), stages=ALL), folder / "toys.log"
    finished = set(toys_of(run))
    assert len(finished) == 2 and set(log.read_text().split()) == finished
    log.unlink()
    assert run.do(TOY).new == NUM_CLIPS - 2
    assert not finished & set(log.read_text().split()), "a finished item was processed again"
    assert set(toys_of(run)) == {row["clip_id"] for row in rows_of(run, "clips")}
    assert run.workspace.health().duplicates == {}
