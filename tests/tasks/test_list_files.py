"""The listing is a log of the source folders; what it says of a file is joined late, so no vector is recomputed."""

import csv
import shutil
from pathlib import Path
from unicodedata import normalize

import pytest

from aai.errors import BadConfig
from aai.jobs.selection import CueFilter
from aai.media.files import read_sidecars
from tasks import list_files as list_module
from tasks.list_files import look
from tasks.render_source import RenderSource
from tasks.runtime.run import Run
from tasks.views.export import ExportSource
from tasks.views.metadata import disputed_contents
from tasks.views.plan import metadata_notes, plan
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


def test_a_file_with_other_contents_is_counted_once_and_is_neither_new_nor_gone(collection):
    run = run_on(collection)
    list_audio(run)
    shutil.copy(collection / "sounds" / "rain-0.9.flac", collection / "sounds" / "rain-0.2.flac")
    listing = look(run, "audio_listing")
    assert (listing.num_new, listing.num_replaced, listing.num_changed, listing.num_gone) == (0, 1, 0, 0)
    assert listing.num_unchanged == NUM_CLIPS - 1 and listing.changes.num_rows == 2
    shutil.copy(collection / "sounds" / "rain-0.9.flac", collection / "sounds" / "new.flac")
    (collection / "sounds" / "fire-0.2.flac").unlink()
    assert look(run, "audio_listing").notes[0] == "files of audio: 1 new, 1 with other contents than before, 1 gone"
    assert list_audio(run) == 3


def test_a_file_that_is_as_it_was_long_ago_is_counted_once(collection):
    run, path = run_on(collection), collection / "sounds" / "rain-0.2.flac"
    list_audio(run)
    kept = path.rename(collection / "kept")
    shutil.copy(collection / "sounds" / "rain-0.9.flac", path)
    assert list_audio(run) == 1
    path.unlink()
    kept.rename(path)
    listing = look(run, "audio_listing")
    assert (listing.num_new, listing.num_replaced, listing.num_changed, listing.num_gone) == (0, 1, 0, 0)
    path.unlink()
    assert list_audio(run) == 1 and look(run, "audio_listing").num_to_note == 0


def described(run: Run, table: str = "audio_listing") -> dict[str, tuple]:
    """Label, caption and licence of the files of a listing that have any, by their names."""
    rows = look(run, table).current.to_pylist()
    found = {Path(row["uri"]).name: (row["label"], row["caption"], row["licence"]) for row in rows}
    return {name: values for name, values in found.items() if any(values)}


def write_table(collection: Path, *rows: str, name: str = "m.csv", header: str = "file,label") -> Run:
    """A run whose only metadata table has these rows."""
    (collection / name).parent.mkdir(exist_ok=True)
    (collection / name).write_text("\n".join([header, *rows]) + "\n")
    return run_on(collection, metadata=[str(collection / name)])


def test_metadata_that_names_no_file_is_counted_with_an_example(collection):
    table = collection / "said.csv"
    table.write_text(
        table.read_text() + "sounds/none.flac,rain,0.5\nnone.png,rain,0.5\nRAIN-0.9.flac,rain,0.5\nx.tar,,\n"
    )
    run = run_on(collection)
    [image] = look(run, "image_listing").notes
    [sound] = look(run, "audio_listing").notes
    assert f"{table}: {NUM_IMAGES} of {NUM_IMAGES + 1} rows name a file that is there; for example line 19" in image
    assert f"{table}: {NUM_CLIPS} of {NUM_CLIPS + 3} rows name a file" in sound
    assert sound.endswith(
        f"for example line 18, sounds/none.flac: no location of audio or images has {collection}/sounds/none.flac"
    )


def test_a_name_in_other_case_is_a_hint(collection):
    [note] = look(write_table(collection, "Sounds/Rain-0.2.FLAC,rain"), "audio_listing").notes
    name = "Sounds/Rain-0.2.FLAC"
    assert note == (
        f"metadata: {collection}/m.csv: 0 of 1 rows name a file that is there; for example line 2, {name}: "
        f"no location of audio or images has {collection}/{name} or {Path.cwd()}/{name}; "
        f"perhaps {collection}/sounds/rain-0.2.flac is meant"
    )


def test_names_from_the_current_folder_count_if_none_is_relative_to_the_folder_of_the_table(collection, monkeypatch):
    monkeypatch.chdir(collection)
    run = write_table(collection, "sounds/rain-0.2.flac,drizzle", "sounds/none.flac,x", name="sounds/m.csv")
    assert described(run) == {"rain-0.2.flac": ("drizzle", None, None)}
    [note] = look(run, "audio_listing").notes
    assert "1 of 2 rows" in note and f"{collection}/sounds/sounds/none.flac or {collection}/sounds/none.flac" in note
    run = write_table(collection, "sounds/rain-0.2.flac,drizzle", "fire-0.2.flac,x", name="sounds/m.csv")
    assert described(run) == {"fire-0.2.flac": ("x", None, None)}, "a table has one folder"


@pytest.mark.parametrize("stored", ["NFC", "NFD"])
def test_names_are_equal_in_any_unicode_normal_form(collection, stored):
    for name in ("Möwe.flac", "Bär.flac"):
        shutil.copy(collection / "sounds" / "rain-0.2.flac", collection / "sounds" / normalize(stored, name))
    run = write_table(
        collection, f"sounds/{normalize('NFC', 'Möwe')}.flac,gull", f".\\sounds\\{normalize('NFD', 'Bär')}.flac,bear"
    )
    found = {normalize("NFC", name): label for name, (label, _, _) in described(run).items()}
    assert found == {"Möwe.flac": "gull", "Bär.flac": "bear"} and look(run, "audio_listing").notes == []


def test_where_both_normal_forms_exist_a_row_names_the_one_that_it_has(collection):
    for form in ("NFC", "NFD"):
        shutil.copy(collection / "sounds" / "rain-0.2.flac", collection / "sounds" / normalize(form, "Möwe.flac"))
    run = write_table(collection, f"sounds/{normalize('NFD', 'Möwe.flac')},gull")
    assert list(described(run)) == [normalize("NFD", "Möwe.flac")]


def test_of_several_rows_the_last_value_of_each_column_counts_and_disputes_are_noted(collection):
    first, second = collection / "first.csv", collection / "second.csv"
    first.write_text("file,label,licence\nsounds/rain-0.2.flac,rain,CC0\nsounds/rain-0.9.flac,rain,CC0\n")
    second.write_text("file,licence,caption\nsounds/rain-0.2.flac,CC BY,wet\nsounds/rain-0.9.flac,CC0,\n")
    run = run_on(collection, metadata=[str(first), str(second)])
    assert described(run) == {"rain-0.2.flac": ("rain", "wet", "CC BY"), "rain-0.9.flac": ("rain", None, "CC0")}
    assert look(run, "audio_listing").notes == [
        "metadata: files of which several rows say different things: 1, for example "
        f"{collection}/sounds/rain-0.2.flac: licence 'CC0' ({first}, line 2) and 'CC BY' ({second}, line 2); "
        "the later row counts, and the later table"
    ]


def test_sidecars_are_read_and_a_table_counts_more(collection):
    sounds = collection / "sounds"
    (sounds / "rain-0.2.json").write_text('{"label": "drizzle", "license": "CC0"}')
    (sounds / "rain-0.2.txt").write_text("light rain")
    (sounds / "fire-0.2.flac.json").write_text('{"label": "ember"}')
    run = write_table(collection, "sounds/fire-0.2.flac,blaze")
    assert described(run) == {"rain-0.2.flac": ("drizzle", "light rain", "CC0"), "fire-0.2.flac": ("blaze", None, None)}
    listing = look(run, "audio_listing")
    [note] = listing.corrections
    assert (listing.warnings, listing.notes) == ([], [note]) and ": 1, for example" in note
    assert (
        f"label 'ember' (its sidecar) and 'blaze' ({collection}/m.csv, line 2); a row counts more than sidecars" in note
    )
    assert described(run_on(collection, metadata=[], sidecars=False)) == {}


@pytest.mark.parametrize("location", ["sounds/*.flac", "sounds/rain-0.2.flac"])
def test_sidecars_of_a_glob_and_of_a_single_file_are_read(collection, location):
    (collection / "sounds" / "rain-0.2.txt").write_text("light rain")
    run = run_on(collection, audio=str(collection / location), metadata=[])
    assert described(run) == {"rain-0.2.flac": (None, "light rain", None)}


def test_only_changed_sidecars_are_read_again(collection, monkeypatch):
    sidecar = collection / "sounds" / "rain-0.2.cls"
    sidecar.write_text("drizzle")
    run = run_on(collection, metadata=[])
    assert list_audio(run) == NUM_CLIPS
    read = []
    monkeypatch.setattr(list_module, "read_sidecars", lambda file: read.append(file.uri) or read_sidecars(file))
    assert list_audio(run) == 0 and described(run) == {"rain-0.2.flac": ("drizzle", None, None)} and read == []
    sidecar.write_text("downpour")
    assert list_audio(run) == 1 and len(read) == 1
    assert described(run) == {"rain-0.2.flac": ("downpour", None, None)}
    sidecar.unlink()
    assert list_audio(run) == 1 and list_audio(run) == 0 and described(run) == {}


def test_a_sidecar_that_cannot_be_read_is_counted_until_it_is_mended(collection):
    sidecar = collection / "sounds" / "rain-0.2.json"
    sidecar.write_text('{"label": ')
    run = run_on(collection, metadata=[])
    note = f"metadata: sidecars that cannot be read: 1, for example {sidecar} is not JSON; mend or delete them"
    assert look(run, "audio_listing").notes == [note]
    list_audio(run)
    assert look(run, "audio_listing").notes == [note] and list_audio(run) == 0
    sidecar.write_text('{"label": "drizzle"}')
    assert look(run, "audio_listing").warnings == [] and list_audio(run) == 1


def test_files_of_other_kinds_are_counted_except_for_metadata_and_sidecars(collection):
    sounds = collection / "sounds"
    for name in ("notes.txt", "b.txt", "cover.jpg", "rain-0.2.json", "._rain-0.2.flac"):
        (sounds / name).write_text("text")
    (collection / "said.csv").rename(sounds / "said.csv")
    run = run_on(collection, metadata=[str(sounds / "said.csv")])
    note = "audio: left aside 3 files of other kinds: .txt 2, .jpg 1"
    assert note in look(run, "audio_listing").notes
    shared = run_on(collection, images=str(collection), metadata=[str(sounds / "said.csv")])
    assert "audio: left aside 2 files of other kinds: .txt 2" in look(shared, "audio_listing").notes


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


def test_contents_with_two_names_and_two_licences_are_noted_and_the_first_name_counts(collection):
    """What the first name does not say, the second does."""
    sounds = collection / "sounds"
    shutil.copy(sounds / "rain-0.2.flac", sounds / "another.flac")
    rows = ["sounds/another.flac,,CC BY,wet,Ann", "sounds/rain-0.2.flac,rain,CC0,,", "sounds/rain-0.9.flac,rain,CC0,,"]
    run = write_table(collection, *rows, header="file,label,licence,caption,author")
    build(run, until="ingest_audio")
    [note] = disputed_contents(run)
    assert note == (
        "metadata: recordings that lie under several names with different metadata: 1, for example "
        f"{sounds}/another.flac (licence 'CC BY') and {sounds}/rain-0.2.flac (licence 'CC0'); what counts is 'CC BY': "
        "give all the same, or remove one"
    )
    assert metadata_notes(run) == ([note], [])
    assert plan(run).notes[:1] == [note]
    values = ("label", "licence", "caption", "attributes")
    assert [clips_of(run)["rain-0.2.flac"][name] for name in values] == ["rain", "CC BY", "wet", '{"author": "Ann"}']
    (sounds / "another.flac").unlink()
    list_audio(run)
    assert [clips_of(run)["rain-0.2.flac"][name] for name in values] == ["rain", "CC0", None, None]
    assert disputed_contents(run) == []
