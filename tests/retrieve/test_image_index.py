"""The index artifact: written in pieces, read without loading its vectors, grown from an earlier version."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from aai.errors import BadConfig
from aai.identity import content_id, int64_of
from aai.retrieve.image_index import ImageIndex, ImageIndexWriter, keeps_kind
from aai.retrieve.options import IndexOptions

DIM, NUM = 16, 300
MEAN = np.linspace(-1, 1, DIM).astype(np.float32)
IDS = [content_id(b"%d" % number) for number in range(NUM)]
NUMBERS = np.array([int64_of(image_id) for image_id in IDS], np.int64)


def unit(rows: np.ndarray) -> np.ndarray:
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


VECTORS = unit(np.random.default_rng(0).normal(size=(NUM, DIM)))


def write(folder: Path, first: int, until: int, before: ImageIndex | None = None, size: int = 100) -> ImageIndex:
    """An artifact, to which images are added in pieces of a size."""
    folder.mkdir()
    writer = ImageIndexWriter(folder, until, VECTORS[:1], IndexOptions(), 0, before)
    for start in range(first, until, size):
        part = slice(start, min(start + size, until))
        writer.add(IDS[part], VECTORS[part])
    writer.finish(MEAN, 7)
    return ImageIndex(folder)


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> ImageIndex:
    return write(tmp_path_factory.mktemp("artifacts") / "whole", 0, NUM)


def test_it_knows_its_images_and_the_mean_query(whole):
    assert (whole.num_images, whole.dim, whole.num_clips) == (NUM, DIM, 7)
    assert whole.all_ids() == IDS and len(whole.index) == NUM
    assert np.array_equal(whole.query_mean, MEAN)


def test_a_search_leads_to_ids_and_vectors(whole):
    numbers, similarities = whole.index.search(VECTORS[:5], 3)
    assert [whole.ids_of(row)[0] for row in numbers] == IDS[:5]
    assert np.allclose(whole.vectors_of(numbers[:, 0]), VECTORS[:5], atol=1e-3)
    assert np.allclose(similarities[:, 0], 1, atol=1e-5)


def test_vectors_come_in_the_order_asked_for_and_in_full_precision(whole):
    some = [IDS[200], IDS[3], IDS[299]]
    vectors = whole.vectors_by_id(some)
    assert vectors.dtype == np.float32 and np.allclose(vectors, VECTORS[[200, 3, 299]], atol=1e-3)
    assert whole.ids_of(NUMBERS[[200, 3, 299]]) == some


def test_vectors_and_ids_are_mapped_and_not_loaded(whole):
    assert isinstance(whole.vectors, np.memmap) and isinstance(whole.ids, np.memmap)
    assert whole.vectors.dtype == np.float16


@pytest.mark.parametrize("size", [1, 7, NUM])
def test_the_artifact_does_not_depend_on_the_pieces(whole, tmp_path, size):
    other = write(tmp_path / "other", 0, NUM, size=size)
    for path in sorted(whole.folder.iterdir()):
        assert (other.folder / path.name).read_bytes() == path.read_bytes(), path.name


def test_a_grown_artifact_holds_old_and_new_images_and_leaves_the_old_one(whole, tmp_path):
    small = write(tmp_path / "small", 0, 100)
    grown = write(tmp_path / "grown", 100, NUM, small)
    assert grown.all_ids() == IDS and len(grown.index) == NUM
    numbers, _ = grown.index.search(VECTORS, 1)
    assert np.array_equal(numbers[:, 0], NUMBERS)
    assert np.array_equal(grown.vectors, whole.vectors)
    again = ImageIndex(small.folder)
    assert (again.num_images, len(again.index), len(again.vectors)) == (100, 100, 100)


def test_it_grows_as_long_as_its_kind_is_the_right_one(whole):
    assert keeps_kind(whole, 20_000, IndexOptions(max_exact=20_000))
    assert not keeps_kind(whole, 20_001, IndexOptions(max_exact=20_000))


def test_a_vector_that_is_not_of_length_one_is_refused(tmp_path):
    writer = ImageIndexWriter(tmp_path, 1, VECTORS[:1], IndexOptions(), 0)
    with pytest.raises(BadConfig, match="vector 0 has length 2, not 1"):
        writer.add(IDS[:1], VECTORS[:1] * 2)


@pytest.mark.parametrize("text", [None, "", "[]", "{}", '{"num_images": 3}'])
def test_a_damaged_artifact_is_refused_with_its_folder(tmp_path, text):
    if text is not None:
        (tmp_path / "index.json").write_text(text)
    with pytest.raises(BadConfig, match="missing or damaged: delete the folder of the index") as error:
        ImageIndex(tmp_path)
    assert error.value.uri == str(tmp_path / "index.json")


FILES = ["images.faiss", "vectors.f16", "ids.bin", "numbers.npy", "positions.npy", "query_mean.npy", "index.json"]
DAMAGES = {"gone": lambda data: None, "empty": lambda data: b"", "cut": lambda data: data[:-9], "noise": None}


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_file_is_named_with_the_place_that_the_index_came_from(whole, tmp_path, name, damage):
    folder = Path(shutil.copytree(whole.folder, tmp_path / "copy"))
    path = folder / name
    data = path.read_bytes()
    damaged = os.urandom(len(data) + 1) if damage == "noise" else DAMAGES[damage](data)
    path.unlink() if damaged is None else path.write_bytes(damaged)
    with pytest.raises(BadConfig, match="delete the folder of the index, and `aai build` makes it again") as error:
        _ = ImageIndex(folder, "s3://bank/index").index
    assert error.value.uri == f"s3://bank/index/{name}"


def test_a_mean_that_is_not_finite_is_refused(whole, tmp_path):
    folder = Path(shutil.copytree(whole.folder, tmp_path / "copy"))
    np.save(folder / "query_mean.npy", np.full(whole.dim, np.nan, np.float32))
    with pytest.raises(BadConfig) as error:
        ImageIndex(folder)
    assert error.value.uri == str(folder / "query_mean.npy")


def test_a_sample_does_not_depend_on_the_order_of_the_images(whole, tmp_path):
    smallest = np.argsort(NUMBERS)[:20]
    assert np.allclose(whole.sample(20), VECTORS[smallest], atol=1e-3)
    grown = write(tmp_path / "grown", 0, NUM, size=7)
    assert np.array_equal(grown.sample(20), whole.sample(20)) and len(whole.sample(NUM + 1)) == NUM
