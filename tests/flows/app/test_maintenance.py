"""`aai bank compact` and `aai bank prune`: files go, and no row that anything refers to."""

import os
import shutil
import time
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from aai.workspace.drivers import DriverFile, Process, list_drivers, new_name, write_driver
from aai.workspace.shards import read_picture
from flows.app.cli import app
from flows.steps import build, render
from tasks.runtime.run import Run
from tasks.stages import load_config, open_run
from tasks.views.report import gather
from tests.bank import jobs_of, rows_of
from tests.collection import NUM_CLIPS, write_collection

SMALL_FILES = {"pools": {"embed_images": {"slice_size": 1}}, "run": {"commit_slices": 1}}
TABLES = ("clips", "images", "image_vectors", "neighbours", "cues", "renders")


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> Path:
    """A collection, its bank with many small files, and a picture of each cue."""
    source = write_collection(tmp_path_factory.mktemp("maintenance") / "source")
    write_config(source, source, SMALL_FILES)
    run = run_of(source)
    build(run)
    render(run, jobs_of(run, {}))
    return source


@pytest.fixture
def folder(source, tmp_path, monkeypatch) -> Path:
    """A folder with a copy of the bank."""
    shutil.copytree(source / "bank", tmp_path / "here" / "bank")
    monkeypatch.chdir(tmp_path / "here")
    return write_config(tmp_path / "here", source)


def write_config(folder: Path, source: Path, changes: dict | None = None) -> Path:
    keys = {
        "audio": str(source / "sounds"), "images": str(source / "images"), "metadata": str(source / "said.csv"),
        "fit": {"method": "mapper"}, "retrieve": {"num_neighbours": 2}, "pool": {"num_workers": 0},
        "confidence": {"method": "none"},
        "render": {"guidance": 1},
    }  # fmt: skip
    (folder / "aai.yaml").write_text(yaml.safe_dump(keys | (changes or {})))
    return folder


def run_of(folder: Path) -> Run:
    return open_run(load_config(folder / "aai.yaml"))


def call(*arguments: str) -> str:
    done = CliRunner().invoke(app, ["bank", *arguments])
    assert done.exit_code == 0, done.output
    return " ".join(done.output.split())


def rows_and_pictures(run: Run) -> list[list[dict]]:
    """All rows that matter; every picture can be read."""
    assert all(read_picture(run.workspace, row) for row in rows_of(run))
    return [rows_of(run, name) for name in TABLES]


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in (folder / "bank").rglob("*") if path.is_file()}


def test_compaction_merges_files_and_keeps_every_row(folder):
    run, before = run_of(folder), rows_and_pictures(run_of(folder))
    num_before = len(run.workspace.table("image_vectors").files(run.recipe("image_vectors")))
    assert num_before > 4
    assert f"image_vectors: {num_before} files merged into 1" in call("compact")
    assert rows_and_pictures(run_of(folder)) == before
    assert call("compact") == "nothing to do: no table has small files to merge"
    assert [summary.new for summary in build(run_of(folder)) if summary.new] == []


def test_without_yes_nothing_is_removed(folder):
    call("compact")
    before = files(folder)
    assert call("prune", "--older-than", "0").startswith("would remove, with --yes: ")
    assert files(folder) == before


def test_orphans_of_a_minimum_age_are_removed_and_nothing_else(folder):
    run, before = run_of(folder), rows_and_pictures(run_of(folder))
    old, new = (Path(run.workspace.shard_uri("renders", run.recipe("renders"), f"{n}.tar")) for n in ("old", "new"))
    begun = Path(run.workspace.table("renders").files(run.recipe("renders"))[0] + "#1")  # a killed writer left it
    for path in (old, new, begun):
        path.touch()
    two_days_ago_s = time.time() - 2 * 24 * 3600
    for path in (old, begun):
        os.utime(path, (two_days_ago_s, two_days_ago_s))
    said = call("prune", "--yes")
    assert "1 shards that no row names" in said and "1 data files" in said
    assert not old.exists() and new.exists() and not begun.exists()
    assert call("prune", "--yes") == "nothing to remove that is older than 24 hours"
    assert rows_and_pictures(run_of(folder)) == before


def test_earlier_generations_go_on_request_and_the_present_one_stays(folder, source):
    first = run_of(folder)
    old_shards = {row["shard"] for row in rows_of(first)}
    write_config(folder, source, {"retrieve": {"num_neighbours": 1}})
    run = run_of(folder)
    build(run)
    render(run, jobs_of(run, {}))
    before = rows_and_pictures(run)
    call("prune", "--yes", "--older-than", "0")
    assert run.workspace.table("cues").recipes() == {run.recipe("cues"): NUM_CLIPS, first.recipe("cues"): NUM_CLIPS}
    output = call("prune", "--generations", "--yes", "--older-than", "0")
    assert f"cues: {NUM_CLIPS} rows of recipe {first.recipe('cues')}" in output
    again = run_of(folder)
    assert again.workspace.table("cues").recipes() == {run.recipe("cues"): NUM_CLIPS}
    assert rows_and_pictures(again) == before
    call("prune", "--yes", "--older-than", "0")
    assert not any((folder / "bank" / shard).exists() for shard in old_shards)
    assert (
        rows_and_pictures(run_of(folder)) == before and [done.new for done in build(run_of(folder)) if done.new] == []
    )


def test_rows_of_removed_files_go_on_request(folder, source):
    """A file is removed where the configuration no longer names it."""
    gone, *others = sorted(map(str, (source / "sounds").iterdir()))
    write_config(folder, source, {"audio": others})
    build(run_of(folder))
    call("prune", "--yes", "--older-than", "0")
    assert len(rows_of(run_of(folder), "cues")) == NUM_CLIPS
    output = call("prune", "--removed", "--yes", "--older-than", "0")
    assert "cues: 1 rows of recipe" in output and "renders: 1 rows of recipe" in output
    assert "audio_files: 1 rows of recipe" in output and "clips: 1 rows of recipe" in output
    run = run_of(folder)
    assert ("clips", len(others), "") in gather(run, 1).totals and len(rows_of(run, "audio_files")) == len(others)
    assert len(rows_of(run, "cues")) == len(rows_of(run)) == len(others)
    assert all(read_picture(run.workspace, row) for row in rows_of(run))
    assert [done.new for done in build(run) if done.new] == []
    write_config(folder, source)  # the file is back
    new = {done.stage: done.new for done in build(run_of(folder)) if done.new}
    assert new.keys() >= {"ingest_audio", "embed_audio", "align", "retrieve", "fit"} and new["fit"] == 1
    assert len(rows_of(run_of(folder), "cues")) == NUM_CLIPS


def test_what_is_announced_is_what_is_removed(folder, source):
    """Files of rows that are removed now stay for the readers of earlier versions, until a later prune."""
    gone, *others = sorted(map(str, (source / "sounds").iterdir()))
    write_config(folder, source, {"audio": others})
    build(run_of(folder))
    call("compact")
    arguments = ("prune", "--removed", "--older-than", "0")
    announced = call(*arguments).removeprefix("would remove, with --yes: ")
    assert call(*arguments, "--yes").removeprefix("removed: ").startswith(announced)
    assert "data files that no commit names" in call("prune", "--older-than", "0")


def test_nothing_young_is_removed_while_a_run_is_at_work(folder):
    run = run_of(folder)
    name = new_name("cues", run.recipe("cues"))
    write_driver(run.workspace.store, name, DriverFile(process=Process.here()))
    refused = CliRunner().invoke(app, ["bank", "prune", "--older-than", "0", "--yes"])
    assert refused.exit_code == 2 and f"a run is at work (host {Process.here().host}, process" in refused.output
    assert CliRunner().invoke(app, ["bank", "prune", "--yes"]).exit_code == 0
    assert [file.name for file in list_drivers(run.workspace.store)] == [name]
