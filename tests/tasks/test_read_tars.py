"""The headers of each tar become rows, with the metadata of sidecars; a tar that cannot be read is a reject."""

import io
import json
import tarfile
from pathlib import Path

from tasks.ingest import IMAGES
from tasks.read_tars import IMAGE_TARS
from tasks.runtime.run import Run
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
    assert "no member is of a known kind" in rejects["sounds.tar"] and "empty" in rejects["empty.tar"]
    assert run.do(IMAGE_TARS).done == 4, "they are not read again"


def test_the_members_of_two_tars_are_different_files_with_one_content(collection):
    (collection / "tars").mkdir()
    for name in ("a", "b"):
        write_tar(collection / "tars" / f"{name}.tar", {"1.png": images_of(collection)[0]})
    run = read(collection)
    assert run.do(IMAGES).new == 2
    assert len({row["file_id"] for row in rows_of(run, "image_files")}) == 2
    assert len(rows_of(run, "images")) == 1
