"""The listing is a log of the source folders; what it says of a file is joined late, so no vector is recomputed."""

import csv
import shutil
from pathlib import Path

import pytest

from aai.errors import BadConfig
from aai.jobs.selection import CueFilter
from tasks.list_files import look
from tasks.render_source import RenderSource
from tasks.runtime.run import Run
from tasks.views.export import ExportSource
from tests.bank import jobs_of, rows_of
from tests.collection import NUM_CLIPS, NUM_IMAGES, build, num_new, run_on


def list_audio(run: Run) -> int:
    """Bring the listing of recordings up to date; the number of its new rows."""
    return run.do(run.stage_of("audio_listing")).new


def clips_of(run: Run, view: str = "present_clips") -> dict[str, dict]:
    """Rows of a view of clips, by the name of the file."""
    with run.query() as query:
        return {Path(row["uri"]).name: row for row in query.table(f"SELECT * FROM {view}").to_pylist()}


def rewrite(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def test_files_become_rows_with_their_metadata(collection):
    run = run_on(collection)
    assert list_audio(run) == NUM_CLIPS
    [row] = [row for row in rows_of(run, "audio_listing") if row["uri"].endswith("rain-0.9.flac")]
    assert (row["label"], row["attributes"], row["is_present"], row["is_tar"]) == (
        "rain",
        '{"intensity": "0.9"}',
        True,
        False,
    )
    assert row["num_bytes"] == Path(row["uri"]).stat().st_size and row["fault"] is None


def test_a_second_listing_adds_nothing(collection):
    run = run_on(collection)
    assert (list_audio(run), list_audio(run)) == (NUM_CLIPS, 0)
    assert run.workspace.table("runs").read().num_rows == 1


def test_a_look_counts_the_changes_and_writes_nothing(collection):
    run = run_on(collection)
    assert look(run, "audio_listing").num_new == NUM_CLIPS and rows_of(run, "audio_listing") == []
    list_audio(run)
    rewrite(collection / "said.csv", "rain-0.2.flac,rain", "rain-0.2.flac,drizzle")
    (collection / "sounds" / "fire-0.2.flac").unlink()
    shutil.copy(collection / "sounds" / "rain-0.9.flac", collection / "sounds" / "new.flac")
    listing = look(run, "audio_listing")
    assert (listing.num_new, listing.num_changed, listing.num_gone) == (1, 1, 1)
    assert listing.current.num_rows == NUM_CLIPS and listing.changes.num_rows == 3
    assert len(rows_of(run, "audio_listing")) == NUM_CLIPS


def test_a_file_with_other_contents_is_new_and_not_gone(collection):
    run = run_on(collection)
    list_audio(run)
    shutil.copy(collection / "sounds" / "rain-0.9.flac", collection / "sounds" / "rain-0.2.flac")
    listing = look(run, "audio_listing")
    assert (listing.num_new, listing.num_changed, listing.num_gone) == (1, 0, 0) and listing.notes == []
    assert listing.num_unchanged == NUM_CLIPS - 1 and listing.changes.num_rows == 2


def test_metadata_that_names_no_file_is_counted(collection):
    table = collection / "said.csv"
    table.write_text(table.read_text() + "sounds/none.flac,rain,0.5\nnone.png,rain,0.5\n")
    run = run_on(collection)
    [sound] = look(run, "audio_listing").notes
    [image] = look(run, "image_listing").notes
    assert f"{table}: {NUM_CLIPS} of {NUM_CLIPS + 1} rows name a file" in sound
    assert f"{table}: {NUM_IMAGES} of {NUM_IMAGES + 1} rows name a file" in image


def test_equal_names_in_two_folders_do_not_share_metadata(collection):
    sounds, source = collection / "sounds", collection / "sounds" / "rain-0.2.flac"
    for folder, name in (("a", "rain-0.9"), ("b", "fire-0.9")):
        (sounds / folder).mkdir()
        (sounds / f"{name}.flac").rename(sounds / folder / "001.flac")
    (sounds / "a" / "meta.csv").write_text("file,label,licence\n001.flac,thunder,CC0\n")
    source.rename(sounds / "001.flac")
    run = run_on(collection, metadata=[str(sounds / "a" / "meta.csv")])
    list_audio(run)
    found = {Path(row["uri"]).parent.name: (row["label"], row["licence"]) for row in rows_of(run, "audio_listing")}
    assert found["a"] == ("thunder", "CC0") and found["b"] == found["sounds"] == (None, None)


def test_new_metadata_reaches_cues_exports_and_jobs_and_no_vector_is_recomputed(collection):
    run = run_on(collection, metadata=[])
    build(run)
    assert {row["label"] for row in clips_of(run).values()} == {None}
    (collection / "late.csv").write_text("file,label,licence,place\nsounds/rain-0.2.flac,drizzle,CC BY 4.0,Oslo\n")
    run = run_on(collection, metadata=[str(collection / "late.csv")])
    assert num_new(run) == {"list_audio": 1}
    clip_id = clips_of(run)["rain-0.2.flac"]["clip_id"]
    source = ExportSource(run, CueFilter(labels=("drizzle",)), None)
    [(entry, _)] = source.cues("diffusers")
    assert (entry.clip_id, entry.label, entry.licence) == (clip_id, "drizzle", "CC BY 4.0")
    job = {"prompt": "a * {label} in {place}", "cues": "licence = 'CC BY 4.0'"}
    [row] = [row for rows in RenderSource(run, jobs_of(run, job)).pending().rows for row in rows.to_pylist()]
    assert (row["clip_ids"], row["prompt"], row["licences"]) == ([clip_id], "a * drizzle in Oslo", ["CC BY 4.0"])


def test_corrected_and_withdrawn_metadata_take_effect(built, collection):
    rewrite(collection / "said.csv", "rain-0.2.flac,rain,0.2", "rain-0.2.flac,drizzle,")
    assert num_new(built) == {"list_audio": 1}
    row = clips_of(built)["rain-0.2.flac"]
    assert (row["label"], row["attributes"]) == ("drizzle", None)
    rewrite(collection / "said.csv", "sounds/rain-0.2.flac,drizzle,\n", "")
    assert num_new(built) == {"list_audio": 1} and clips_of(built)["rain-0.2.flac"]["label"] is None


def test_a_removed_file_is_gone_but_known_and_pending_nowhere(built, collection):
    gone = collection / "sounds" / "fire-0.2.flac"
    data = gone.read_bytes()
    gone.unlink()
    assert num_new(built) == {"list_audio": 1}
    assert gone.name not in clips_of(built) and clips_of(built, "known_clips")[gone.name]["label"] == "fire"
    other = run_on(collection, fit={"method": "inversion", "steps": 0})
    assert other.pending(other.stage_of("cues")).num == NUM_CLIPS - 1
    gone.write_bytes(data)  # with another time of change
    assert num_new(built) == {"list_audio": 1, "ingest_audio": 1} and gone.name in clips_of(built)


def test_clips_of_a_moved_folder_are_found_and_nothing_is_recomputed(built, collection):
    moved = collection / "elsewhere"
    (collection / "sounds").rename(moved)
    rewrite(collection / "said.csv", "sounds/", "elsewhere/")
    before = clips_of(built)
    run = run_on(collection, audio=str(moved))
    assert num_new(run) == {"list_audio": 2 * NUM_CLIPS, "ingest_audio": NUM_CLIPS}  # gone, and new
    after = clips_of(run)
    assert {row["uri"] for row in after.values()} == {str(moved / name) for name in before}
    assert {name: row["clip_id"] for name, row in after.items()} == {
        name: row["clip_id"] for name, row in before.items()
    }
    assert {name: row["label"] for name, row in after.items()} == {name: row["label"] for name, row in before.items()}


def test_a_location_without_files_is_named(collection):
    (collection / "empty").mkdir()
    with pytest.raises(BadConfig, match="holds no file of a known kind") as error:
        list_audio(run_on(collection, audio=str(collection / "empty")))
    assert error.value.key == "audio"


def test_a_metadata_table_without_files_is_named(collection):
    path = collection / "wrong.csv"
    with path.open("w", newline="") as stream:
        csv.writer(stream).writerows([["name", "label"], ["rain-0.2.flac", "rain"]])
    with pytest.raises(BadConfig, match="there is no column `file`") as error:
        list_audio(run_on(collection, metadata=str(path)))
    assert (error.value.key, error.value.uri) == ("metadata", str(path))
