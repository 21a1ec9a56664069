"""A plan counts each stage's pending items, including those that earlier stages will pass on, and writes nothing."""

import tarfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from aai.errors import BadConfig
from aai.format import duration
from aai.workspace import Table
from tasks.runtime.driver import StageSummary
from tasks.runtime.estimates import Estimates
from tasks.runtime.run import Run
from tasks.views.plan import StagePlan, plan
from tests.collection import NUM_CLIPS, NUM_IMAGES, build, run_on

AUDIO = ("ingest_audio", "embed_audio", "align", "retrieve", "fit")


def by_stage(run: Run) -> dict[str, StagePlan]:
    return {stage.stage: stage for stage in plan(run).stages}


def new_of(run: Run) -> dict[str, int]:
    return {name: stage.new for name, stage in by_stage(run).items() if stage.new}


def files_of(folder: Path) -> set[str]:
    return {str(path) for path in folder.rglob("*")}


def test_before_a_build_everything_is_new_and_nothing_is_written(collection):
    run, before = run_on(collection), files_of(collection)
    assert new_of(run) == {
        "list_images": NUM_IMAGES, "ingest_images": NUM_IMAGES, "embed_images": NUM_IMAGES, "list_audio": NUM_CLIPS,
    } | dict.fromkeys(AUDIO, NUM_CLIPS)  # fmt: skip
    planned = plan(run)
    assert all(stage.estimate.seconds is None and stage.done == 0 for stage in planned.stages)
    total, advice = planned.times
    assert total == "in total: unknown, without index" and advice.startswith("a trial tells more: ")
    assert files_of(collection) == before


def test_after_a_build_nothing_is_new(built):
    planned = plan(built)
    assert planned.is_empty and planned.notes == []
    assert by_stage(built)["fit"].done == NUM_CLIPS and by_stage(built)["embed_images"].done == NUM_IMAGES


def test_a_new_file_is_an_item_of_every_stage_after_it(built, collection):
    source = collection / "sounds" / "rain-0.2.flac"
    (collection / "sounds" / "new.flac").write_bytes(source.read_bytes() + b"\0")
    assert new_of(built) == {"list_audio": 1} | dict.fromkeys(AUDIO, 1)
    assert {name for name, summary in build(built).items() if summary.new or summary.rejected} >= {"list_audio"}


def test_the_estimate_is_by_what_earlier_runs_took_and_the_total_is_their_sum(built, collection):
    (collection / "sounds" / "new.flac").write_bytes((collection / "sounds" / "rain-0.2.flac").read_bytes() + b"\0")
    planned, estimates = plan(built), Estimates(built)
    found = {stage.stage: stage.estimate.seconds for stage in planned.stages if stage.new}
    assert found.keys() == {"list_audio", *AUDIO}
    for name in ("align", "fit"):
        [row] = rows_of(built.workspace.table("runs"), name)
        assert 0 < row["loading_s"] + row["worked_s"] <= row["took_s"] and row["num_workers"] == 1
        assert found[name] == row["loading_s"] + row["worked_s"] / NUM_CLIPS
    assert planned.times[0] == (
        f"in total: about {duration(sum(found.values()))}, without index "
        f"({duration(estimates.last_s(built.stage_of('index')))} last time)"
    )
    assert [line.split(":")[0].strip() for line in planned.times[2:]] == list(found)


def test_the_total_is_told_for_the_nodes_of_a_job_too(built, collection):
    (collection / "sounds" / "new.flac").write_bytes((collection / "sounds" / "rain-0.2.flac").read_bytes() + b"\0")
    run = run_on(collection, submit={"nodes": 4, "gpus": 0})
    assert plan(run).times[1].startswith("as a job of the section `submit` (4 nodes of 8 CPUs and 0 GPUs), in total: ")
    told = plan(run_on(collection, submit={"nodes": 4, "gpus": 2})).times[1]
    assert "at least" in told and told.endswith("embed_audio, align, fit will take (no run on GPUs yet)")


def rows_of(table: Table, stage: str) -> list[dict[str, Any]]:
    return [row for row in table.read().to_pylist() if row["stage"] == stage]


def test_stale_rows_are_explained_by_the_configuration_file_that_made_them(built, collection):
    def said(run: Run) -> list[str]:
        return [note for note in plan(run).notes if note.startswith("stale")]

    assert said(run_on(collection, fit={"method": "mapper", "steps": 3})) == []  # no file is known
    built.file = "/x/aai.yaml"
    for table in ("neighbours", "cues"):
        done = StageSummary(built.stage_of(table).name, built.recipe(table), 0, 1, 0, 1.0)
        built.record(datetime(2026, 1, 2, tzinfo=UTC), done)
    run = run_on(collection, retrieve={"num_neighbours": 1})
    run.file = "/x/other.yaml"
    assert said(run) == [
        "stale rows of retrieve, fit are of another configuration, /x/aai.yaml (last run on 2026-01-02), which still "
        "finds them done"
    ]
    run.file = built.file
    [note] = said(run)
    assert note.startswith("stale rows of retrieve, fit are of earlier options of /x/aai.yaml")


def test_a_changed_option_makes_rows_stale_and_their_items_new(built, collection):
    run = run_on(collection, fit={"method": "mapper", "steps": 3}, retrieve={"num_neighbours": 1})
    planned = by_stage(run)
    assert new_of(run) == {"retrieve": NUM_CLIPS, "fit": NUM_CLIPS}
    assert (planned["retrieve"].stale, planned["fit"].stale, planned["align"].stale) == (NUM_CLIPS, NUM_CLIPS, 0)


def test_a_removed_file_is_noted_and_pending_in_no_stage(collection):
    run = run_on(collection)
    build(run, until="align")
    (collection / "sounds" / "fire-0.2.flac").unlink()
    planned = plan(run)
    assert planned.notes == [
        "files of audio: 1 gone",
        f"metadata: {collection}/said.csv: {NUM_CLIPS - 1} of {NUM_CLIPS} rows name a file that is there; for example "
        f"line 4, sounds/fire-0.2.flac: no location of audio or images has {collection}/sounds/fire-0.2.flac",
        "not counted: index",
    ]
    assert new_of(run) == {"list_audio": 1, "retrieve": NUM_CLIPS - 1, "fit": NUM_CLIPS - 1}
    done = build(run)
    assert (done["retrieve"].new, done["fit"].new) == (NUM_CLIPS - 1, NUM_CLIPS - 1)
    assert plan(run).is_empty


def test_changed_metadata_is_noted_and_only_what_was_made_from_labels_is_new(built, collection):
    table = collection / "said.csv"
    table.write_text(table.read_text().replace("rain-0.2.flac,rain", "rain-0.2.flac,drizzle"))
    assert new_of(built) == {"list_audio": 1}
    assert plan(built).notes == ["files of audio: 1 with other metadata than before"]
    by_label = run_on(collection, retrieve={"num_neighbours": 2, "method": "label"})
    table.write_text(table.read_text().replace("rain-0.2.flac,drizzle", "rain-0.2.flac,fire"))
    build(by_label, until="retrieve")
    table.write_text(table.read_text().replace("rain-0.2.flac,fire", "rain-0.2.flac,rain"))
    planned = by_stage(by_label)["retrieve"]
    assert (planned.done, planned.new) == (NUM_CLIPS - 1, 1)


def test_rejected_items_are_counted_and_not_new(collection):
    (collection / "sounds" / "bad.wav").write_text("not a sound")
    run = run_on(collection)
    build(run, until="ingest_audio")
    planned = by_stage(run)["ingest_audio"]
    assert (planned.rejected, planned.done, planned.new) == (1, NUM_CLIPS, 0)
    retried = by_stage(run_on(collection, run={"retry_rejects": True}))["ingest_audio"]
    assert (retried.rejected, retried.new) == (0, 1)


def test_a_tar_that_is_not_read_yet_is_noted(collection):
    with tarfile.open(collection / "images" / "more.tar", "w") as archive:
        for path in list((collection / "images").rglob("*.png"))[:2]:
            archive.add(path, path.name)
    planned = plan(run_on(collection))
    assert "tars to be read: 1; each counts as one item until then" in planned.notes
    assert planned.notes[-1] == "not counted: index"


def test_equal_plans_of_different_stages_are_all_shown(collection):
    names = [stage.stage for stage in plan(run_on(collection)).stages]
    assert len(names) == len(set(names)) and {"read_image_tars", "read_audio_tars"} <= set(names)


@pytest.mark.parametrize("key", ["audio", "images"])
def test_a_location_that_does_not_exist_is_named(collection, key):
    with pytest.raises(BadConfig) as error:
        plan(run_on(collection, **{key: str(collection / "none")}))
    assert error.value.key == key
