"""The headers of each tar become rows, with the metadata of sidecars; a tar that cannot be read is a reject."""

import io
import json
import tarfile
from pathlib import Path

from tasks import describe_members
from tasks.describe_members import IMAGE_MEMBER_METADATA
from tasks.ingest import IMAGES
from tasks.list_files import look
from tasks.read_tars import IMAGE_TARS
from tasks.runtime.run import Run
from tasks.views.plan import plan
from tests.bank import rows_of
from tests.collection import run_on


def write_tar(path: Path, members: dict[str, bytes]) -> None:
    with tarfile.open(path, "w") as archive:
        for name, data in members.items():
            header = tarfile.TarInfo(name)
            header.size = len(data)
            archive.addfile(header, io.BytesIO(data))


def images_of(collection: Path) -> list[bytes]:
    return [path.read_bytes() for path in sorted((collection / "images").glob("*.png"))]


def read(collection: Path, **keys) -> Run:
    """List the folder `tars`, and read the tars there."""
    run = run_on(collection, images=str(collection / "tars"), run={"max_reject_fraction": 1}, **keys)
    run.do(run.stage_of("image_listing"))
    run.do(IMAGE_TARS)
    return run


def rejects_of(run: Run) -> dict[str, str]:
    rows = run.workspace.table("rejects").read().to_pylist()
    return {row["uri"].rsplit("/", 1)[-1]: row["sentence"] for row in rows}


def test_members_become_rows_with_the_metadata_of_their_sidecars(collection):
    (collection / "tars").mkdir()
    first, second = images_of(collection)[:2]
    sidecar = json.dumps({"caption": "heavy rain", "licence": "CC0", "place": "Oslo"}).encode()
    members = {"1.png": first, "1.json": sidecar, "2.png": second, "2.cls": b"fire", "notes.md": b"no image"}
    write_tar(collection / "tars" / "a.tar", members)
    run = read(collection)
    [one, two] = sorted(rows_of(run, "image_members"), key=lambda row: row["name"])
    assert (one["caption"], one["licence"], one["attributes"]) == ("heavy rain", "CC0", '{"place": "Oslo"}')
    assert (two["label"], two["caption"]) == ("fire", None)
    tar = (collection / "tars" / "a.tar").read_bytes()
    assert tar[two["offset"] : two["offset"] + two["num_bytes"]] == second
    assert run.do(IMAGE_TARS).new == 0
    assert run.do(IMAGES).new == 2


def described(run: Run) -> dict[str, tuple]:
    """Label, caption and licence of the members of tars, by the names of tar and member."""
    run.do(run.stage_of("image_listing"))
    run.do(IMAGE_TARS)
    run.do(IMAGE_MEMBER_METADATA)
    with run.query() as query:
        rows = query.table(
            "SELECT i.*, m.name FROM image_items i JOIN image_members m USING (file_id) WHERE is_present"
        ).to_pylist()
    return {f"{Path(row['uri']).name}#{row['name']}": (row["label"], row["caption"], row["licence"]) for row in rows}


def write_tars(collection: Path, table: str) -> Path:
    """Two tars with members of which some share a name, and a table beside them."""
    (collection / "tars").mkdir(exist_ok=True)
    first, second, third = images_of(collection)[:3]
    sidecar = b'{"caption": "wet", "licence": "CC0"}'
    write_tar(collection / "tars" / "a.tar", {"1.png": first, "1.json": sidecar, "x/2.png": second})
    write_tar(collection / "tars" / "b.tar", {"1.png": third, "3.png": first})
    (collection / "tars" / "m.csv").write_text(table)
    return collection / "tars" / "m.csv"


def test_rows_name_members_and_tars(collection):
    rows = ["a.tar,tar,CC BY", "a.tar#1.png,rain,", "b.tar/1.png,fire,", "3.png,snow,", "x/2.png,hail,"]
    table = write_tars(collection, "\n".join(["file,label,licence", *rows]))
    run = read(collection, metadata=[str(table)])
    assert described(run) == {
        "a.tar#1.png": ("rain", "wet", "CC0"),
        "a.tar#x/2.png": ("hail", None, "CC BY"),
        "b.tar#1.png": ("fire", None, None),
        "b.tar#3.png": ("snow", None, None),
    }
    [note] = describe_members.look(run, "image").notes
    assert (
        f"{collection}/tars/a.tar#1.png: licence 'CC BY' (its tar) and 'CC0' (its sidecar)" in note or "label" in note
    )
    assert run.do(IMAGE_MEMBER_METADATA).new == 0 and look(run, "image_listing").notes == []


def test_changed_and_withdrawn_rows_of_members_take_effect(collection):
    table = write_tars(collection, "file,label,licence\na.tar#1.png,rain,CC1\n")
    run = read(collection, metadata=[str(table)])
    assert described(run)["a.tar#1.png"] == ("rain", "wet", "CC1")
    table.write_text("file,label\na.tar#1.png,fire\n")
    planned = plan(run)
    assert planned.notes[0] == "tar members with other metadata than before: 1" and not planned.is_empty
    assert {stage.stage: (stage.done, stage.new) for stage in planned.stages}["describe_image_members"] == (3, 1)
    assert described(run)["a.tar#1.png"] == ("fire", "wet", "CC0")
    table.write_text("file,label\n")
    assert described(run)["a.tar#1.png"] == (None, "wet", "CC0")
    assert run.do(IMAGE_MEMBER_METADATA).new == 0


def test_rows_that_name_no_member_or_one_of_several_are_counted(collection):
    table = write_tars(collection, "file,label\n1.png,rain\na.tar#none.png,fire\n3.png,snow\n")
    run = read(collection, metadata=[str(table)])
    assert look(run, "image_listing").notes == []
    assert described(run)["b.tar#3.png"] == ("snow", None, None)
    [note] = describe_members.look(run, "image").notes
    tars = collection / "tars"
    assert note == (
        f"metadata: {table}: 1 of 3 rows name a file that is there; for example line 2, 1.png: "
        f"no location of audio or images has {tars}/1.png; perhaps {tars}/a.tar#1.png is meant"
    )


def test_a_sidecar_in_a_tar_that_cannot_be_read_is_counted(collection):
    (collection / "tars").mkdir()
    first, second = images_of(collection)[:2]
    write_tar(collection / "tars" / "a.tar", {"1.png": first, "1.json": b"{", "2.png": second, "2.cls": b"rain"})
    run = read(collection, metadata=[])
    [note] = describe_members.look(run, "image").notes
    name = f"{collection}/tars/a.tar#1.json"
    assert note == f"metadata: tar members with a sidecar that cannot be read: 1, for example {name} is not JSON"


def test_a_member_with_a_fault_is_rejected_by_ingest_and_the_others_are_used(collection):
    (collection / "tars").mkdir()
    first, second = images_of(collection)[:2]
    write_tar(collection / "tars" / "a.tar", {"1.png": first, "../2.png": second})
    run = read(collection)
    assert len(rows_of(run, "image_members")) == 2 and rejects_of(run) == {}
    done = run.do(IMAGES)
    assert (done.new, done.rejected) == (1, 1)
    assert "leads out of the tar" in rejects_of(run)["2.png"]


def test_a_tar_that_was_cut_short_gives_the_members_before(collection):
    (collection / "tars").mkdir()
    path = collection / "tars" / "a.tar"
    write_tar(path, {f"{number}.png": data for number, data in enumerate(images_of(collection)[:3])})
    path.write_bytes(path.read_bytes()[: 512 * 4])
    run = read(collection)
    *_, end = sorted(rows_of(run, "image_members"), key=lambda row: row["name"])
    assert end["name"] == "the end" and "cut short" in end["fault"]


def test_tars_without_a_usable_member_are_rejected_with_the_reason(collection):
    (collection / "tars").mkdir()
    (collection / "tars" / "text.tar").write_text("not a tar" * 200)
    (collection / "tars" / "zipped.tar").write_bytes(b"\x1f\x8b" + bytes(600))
    (collection / "tars" / "empty.tar").write_bytes(b"")
    write_tar(collection / "tars" / "sounds.tar", {"1.flac": b"sound"})
    run = read(collection)
    rejects = rejects_of(run)
    assert rejects.keys() == {"text.tar", "zipped.tar", "empty.tar", "sounds.tar"}
    assert "not a tar" in rejects["text.tar"] and "compressed" in rejects["zipped.tar"]
    assert "no member is of a known kind (it has 1 file of other kinds: .flac 1)" in rejects["sounds.tar"]
    assert "empty" in rejects["empty.tar"]
    assert run.do(IMAGE_TARS).done == 4, "they are not read again"


def test_members_of_other_kinds_are_counted_and_those_of_the_system_are_no_rejects(collection, caplog):
    (collection / "tars").mkdir()
    first, second = images_of(collection)[:2]
    for name, data in (("a", first), ("b", second)):
        members = {
            "1.png": data,
            "1.json": b"{}",
            "1.npy": b"1",
            "notes.md": b"2",
            "._1.png": b"3",
            "__MACOSX/1.png": b"4",
        }
        write_tar(collection / "tars" / f"{name}.tar", members)
    run = read(collection)
    assert "read_image_tars: left aside 4 files of other kinds: .md 2, .npy 2" in caplog.messages
    assert run.do(IMAGES).rejected == 0 and rejects_of(run) == {}


def test_the_members_of_two_tars_are_different_files_with_one_content(collection):
    (collection / "tars").mkdir()
    for name in ("a", "b"):
        write_tar(collection / "tars" / f"{name}.tar", {"1.png": images_of(collection)[0]})
    run = read(collection)
    assert run.do(IMAGES).new == 2
    assert len({row["file_id"] for row in rows_of(run, "image_files")}) == 2
    assert len(rows_of(run, "images")) == 1
