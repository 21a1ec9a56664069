"""Clips come with the locations of their images, in the order of the neighbours; an image that is gone has none."""

from pathlib import Path

import pyarrow as pa
import pytest

from aai.identity import content_id
from tasks.runtime.run import Run
from tasks.runtime.supervision import SUPERVISED_CLIPS, image_locations, locations_of, with_images
from tests.bank import CLIPS, add_clips, add_files, append, run_on

IMAGES = [content_id(b"image %d" % number) for number in range(4)]
GONE = content_id(b"gone")
NEIGHBOURS = {CLIPS[0]: [IMAGES[2], IMAGES[0]], CLIPS[1]: [GONE, IMAGES[3]], CLIPS[2]: []}


@pytest.fixture
def run(tmp_path) -> Run:
    run = run_on(tmp_path / "bank")
    add_clips(run)
    add_files(run, "image", [{"uri": f"/images/{id}.png", "content_id": id} for id in IMAGES])
    append(run, "images", [{"image_id": id} for id in IMAGES])
    append(run, "aligned_vectors", [{"clip_id": id, "vector": [1.0, 0.0]} for id in NEIGHBOURS])
    rows = [{"clip_id": id, "image_ids": ids, "similarities": [0.5] * len(ids)} for id, ids in NEIGHBOURS.items()]
    append(run, "neighbours", rows)
    return run


def images_of(tables) -> dict[str, list[tuple[str, str | None]]]:
    return {
        row["clip_id"]: [(image["image_id"], image["uri"]) for image in row["images"]]
        for rows in tables
        for row in rows.to_pylist()
    }


EXPECTED = {
    clip_id: [(id, None if id == GONE else f"/images/{id}.png") for id in ids] for clip_id, ids in NEIGHBOURS.items()
}


def test_locations_on_disk_and_in_memory_are_those_of_the_images(run, tmp_path):
    with run.query() as query:
        rows = query.table(SUPERVISED_CLIPS)
        assert images_of(with_images([rows], locations_of(query, rows))) == EXPECTED
        assert images_of(with_images([rows], image_locations(query, tmp_path))) == EXPECTED


def test_a_slice_of_rows_has_its_own_images(run, tmp_path):
    with run.query() as query:
        rows, locations = query.table(SUPERVISED_CLIPS), image_locations(query, tmp_path)
    slices = [rows.slice(first, 1) for first in range(rows.num_rows)]
    assert images_of(with_images(slices, locations)) == EXPECTED


def test_rows_without_any_image_have_empty_lists(run, tmp_path):
    with run.query() as query:
        rows, locations = query.table(SUPERVISED_CLIPS), image_locations(query, tmp_path)
    alone = rows.filter(pa.compute.equal(rows["clip_id"], CLIPS[2]))
    assert images_of(with_images([alone], locations)) == {CLIPS[2]: []}


def test_clips_that_left_the_source_folders_are_left_out(run):
    [listed] = [row for row in run.workspace.table("audio_listing").read().to_pylist() if Path(row["uri"]).stem == "0"]
    row = {name: value for name, value in listed.items() if name != "recipe"}
    append(run, "audio_listing", [row | {"is_present": False, "listed_at": row["listed_at"] + 1}])
    with run.query() as query:
        assert set(query.table(SUPERVISED_CLIPS)["clip_id"].to_pylist()) == {CLIPS[1], CLIPS[2]}
