"""The index grows by versions, is built anew when its kind changes, and holds the images that are there."""

from pathlib import Path

import numpy as np
import pytest

from aai.errors import BadConfig
from aai.identity import content_id
from aai.retrieve.image_index import ImageIndex
from aai.retrieve.options import IndexOptions
from tasks.index import build_index
from tasks.runtime.run import Run
from tests.bank import CLIPS, add_clips, add_files, append, run_on, unit_vectors

MIN_EXACT = next(bound.ge for bound in IndexOptions.model_fields["max_exact"].metadata)


def add_images(run: Run, numbers: range) -> None:
    """Images whose vectors are noise; a number always has the same."""
    ids = [content_id(b"image %d" % number) for number in numbers]
    files = [{"uri": f"/images/{number}.png", "content_id": id} for number, id in zip(numbers, ids, strict=True)]
    add_files(run, "image", files)
    append(run, "images", [{"image_id": id} for id in ids])
    vectors = unit_vectors(numbers.stop)[numbers.start :]
    rows = [{"image_id": id, "vector": vector} for id, vector in zip(ids, vectors, strict=True)]
    append(run, "image_vectors", rows)


def add_aligned(run: Run, clip_ids, seed: int = 1) -> np.ndarray:
    vectors = unit_vectors(len(clip_ids), seed=seed)
    append(
        run,
        "aligned_vectors",
        [{"clip_id": id, "vector": vector} for id, vector in zip(clip_ids, vectors, strict=True)],
    )
    return vectors


def versions(run: Run) -> list[int]:
    return [artifact.version for artifact in run.workspace.artifacts() if artifact.name == "index"]


def newest(run: Run, tmp_path: Path) -> ImageIndex:
    return ImageIndex(run.workspace.newest_artifact("index", run.recipe("index")).fetch(tmp_path))


@pytest.fixture
def run(tmp_path) -> Run:
    run = run_on(tmp_path / "bank", index={"max_exact": MIN_EXACT})
    add_clips(run)
    return run


def test_the_index_holds_all_images_and_the_mean_query(run, tmp_path):
    add_images(run, range(20))
    vectors = add_aligned(run, CLIPS)
    assert build_index(run).new == 20
    index = newest(run, tmp_path)
    assert sorted(index.all_ids()) == sorted(content_id(b"image %d" % number) for number in range(20))
    assert (index.num_images, index.num_clips, index.index.kind) == (20, len(CLIPS), "exact")
    np.testing.assert_allclose(index.query_mean, vectors.mean(axis=0), atol=1e-6)
    [[nearest]], _ = index.index.search(unit_vectors(20)[7:8], 1)
    assert index.ids_of(np.array([nearest])) == [content_id(b"image 7")]


def test_a_second_call_does_nothing(run):
    add_images(run, range(5))
    build_index(run)
    assert (build_index(run).new, versions(run)) == (0, [1])


def test_new_images_make_a_new_version_that_holds_the_old_ones_too(run, tmp_path):
    add_images(run, range(5))
    build_index(run)
    add_images(run, range(5, 8))
    assert build_index(run).new == 3 and versions(run) == [1, 2]
    index = newest(run, tmp_path)
    assert index.num_images == 8
    for number in range(8):
        [stored] = index.vectors_by_id([content_id(b"image %d" % number)])
        np.testing.assert_allclose(stored, unit_vectors(8)[number], atol=1e-3)  # half precision


def test_an_index_past_the_limit_of_its_kind_is_built_anew(run, tmp_path):
    add_images(run, range(10))
    build_index(run)
    assert newest(run, tmp_path).index.kind == "exact"
    add_images(run, range(10, MIN_EXACT + 16))
    assert build_index(run).new == MIN_EXACT + 16
    index = newest(run, tmp_path)
    assert (index.index.kind, index.num_images, versions(run)) == ("scalar", MIN_EXACT + 16, [1, 2])
    numbers, _ = index.index.search(unit_vectors(10)[:3], 1)
    assert index.ids_of(numbers[:, 0]) == [content_id(b"image %d" % number) for number in range(3)]


def test_images_that_are_gone_are_left_out_of_a_new_version(run, tmp_path):
    add_images(run, range(5))
    build_index(run)
    listed = run.workspace.table("image_listing").read(["file_id", "uri"]).to_pylist()
    [gone] = [row for row in listed if row["uri"] == "/images/3.png"]
    append(run, "image_listing", [gone | {"is_present": False, "listed_at": 1_767_225_600_000_001}])
    assert build_index(run).new == 4 and versions(run) == [1, 2]
    assert content_id(b"image 3") not in newest(run, tmp_path).all_ids()


def test_the_mean_query_is_computed_again_once_the_bank_has_doubled(run, tmp_path):
    add_images(run, range(5))
    add_aligned(run, CLIPS[:2])
    build_index(run)
    add_aligned(run, CLIPS[2:3], seed=2)
    assert build_index(run).done == 1 and versions(run) == [1]
    add_aligned(run, CLIPS[3:], seed=3)
    build_index(run)
    assert versions(run) == [1, 2] and newest(run, tmp_path).num_clips == len(CLIPS)


def test_the_mean_query_does_not_depend_on_the_order_of_commits(tmp_path):
    means = []
    for number, order in enumerate((range(5), reversed(range(5)))):
        run = run_on(tmp_path / f"bank {number}")
        add_clips(run)
        add_images(run, range(3))
        vectors = unit_vectors(5)
        for index in order:
            append(run, "aligned_vectors", [{"clip_id": CLIPS[index], "vector": vectors[index]}])
        build_index(run)
        means.append(newest(run, tmp_path).query_mean)
    assert np.array_equal(*means)


def test_without_any_image_the_build_stops(run):
    with pytest.raises(BadConfig, match="no image could be used") as error:
        build_index(run)
    assert error.value.key == "images"
