"""Every kind of index finds what it was given, survives its file, and refuses what is no set of unit vectors."""

import subprocess
import sys

import faiss
import numpy as np
import pytest
from pydantic import ValidationError

from aai.errors import BadConfig
from aai.retrieve.index import (
    IndexOptions,
    VectorIndex,
    build_index,
    choose_kind,
    faiss_build,
    load_index,
    measure_recall,
    new_index,
    num_lists,
)

DIM, NUM = 16, 12_000
SMALL = {
    "exact": IndexOptions(),
    "scalar": IndexOptions(max_exact=9984),
    "product": IndexOptions(max_exact=9984, max_scalar=0, code_bytes=5),  # 4 divide the dimension
}
KINDS = sorted(SMALL)


def unit(rows: np.ndarray) -> np.ndarray:
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


VECTORS = unit(np.random.default_rng(0).normal(size=(NUM, DIM)))
NUMBERS = np.random.default_rng(1).permutation(NUM).astype(np.int64) + 2**62
QUERIES = unit(np.random.default_rng(2).normal(size=(50, DIM)))


@pytest.fixture(scope="module")
def indexes() -> dict[str, VectorIndex]:
    return {kind: build_index(VECTORS, NUMBERS, options) for kind, options in SMALL.items()}


def small(num: int = 5, dim: int = 4) -> tuple[VectorIndex, np.ndarray]:
    vectors = unit(np.random.default_rng(3).normal(size=(num, dim)))
    return build_index(vectors, np.arange(num, dtype=np.int64), IndexOptions()), vectors


def refusal(vectors: np.ndarray, numbers: np.ndarray | None = None) -> str:
    numbers = np.arange(len(vectors), dtype=np.int64) if numbers is None else numbers
    with pytest.raises(BadConfig) as caught:
        build_index(vectors, numbers, IndexOptions())
    return str(caught.value)


def test_the_kind_follows_from_the_size():
    options = IndexOptions(max_exact=10_000, max_scalar=20_000)
    kinds = [choose_kind(num, options) for num in (0, 10_000, 10_001, 20_000, 20_001)]
    assert kinds == ["exact", "exact", "scalar", "scalar", "product"]
    assert num_lists(1_000_000) == 4096


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_is_built_and_holds_everything(indexes, kind):
    assert (indexes[kind].kind, len(indexes[kind]), indexes[kind].dim) == (kind, NUM, DIM)


def test_an_exact_search_is_the_sorted_matrix_product(indexes):
    numbers, similarities = indexes["exact"].search(QUERIES, 7)
    products = QUERIES @ VECTORS.T
    order = np.argsort(-products, axis=1)[:, :7]
    assert numbers.dtype == np.int64 and similarities.dtype == np.float32
    assert np.array_equal(numbers, NUMBERS[order])
    assert np.allclose(similarities, np.take_along_axis(products, order, axis=1), atol=1e-6)


def test_queries_of_another_length_find_the_same(indexes):
    assert np.array_equal(indexes["exact"].search(QUERIES * 0.3, 5)[0], indexes["exact"].search(QUERIES, 5)[0])


def test_recall_is_whole_where_search_is_exact_and_good_elsewhere(indexes):
    recalls = {kind: measure_recall(indexes[kind], VECTORS, NUMBERS, QUERIES, 10) for kind in KINDS}
    assert recalls["exact"] == 1
    assert recalls["scalar"] > 0.8
    assert recalls["product"] > 0.3  # two bits a dimension, before ranking anew
    assert measure_recall(indexes["exact"], VECTORS[:3], NUMBERS[:3], QUERIES, 10) < 1  # it finds others


def test_more_probes_find_more():
    def recall(num_probes: int) -> float:
        index = build_index(VECTORS, NUMBERS, IndexOptions(max_exact=9984, num_probes=num_probes))
        return measure_recall(index, VECTORS, NUMBERS, QUERIES, 10)

    assert recall(1) < 0.5
    assert recall(512) > 0.95


def test_an_image_as_near_as_another_counts_as_found():
    vectors = np.repeat(unit(np.eye(4)), 5, axis=0)
    numbers = np.arange(20, dtype=np.int64)
    backwards = build_index(vectors[::-1].copy(), numbers[::-1].copy(), IndexOptions())
    assert measure_recall(backwards, vectors, numbers, unit(np.eye(4)), 2) == 1


@pytest.mark.parametrize("kind", KINDS)
def test_a_saved_index_finds_the_same(indexes, kind, tmp_path):
    indexes[kind].save(tmp_path / "index.faiss")
    again = load_index(tmp_path / "index.faiss")
    assert again.kind == kind and len(again) == NUM
    for found, before in zip(again.search(QUERIES, 9), indexes[kind].search(QUERIES, 9), strict=True):
        assert np.array_equal(found, before)


@pytest.mark.parametrize("kind", KINDS)
def test_an_index_grows_also_after_it_was_saved(indexes, kind, tmp_path):
    indexes[kind].save(tmp_path / "index.faiss")
    index = load_index(tmp_path / "index.faiss")
    more, numbers = unit(np.random.default_rng(4).normal(size=(9, DIM))), np.arange(9, dtype=np.int64)
    index.add(more, numbers)
    assert (len(index), len(indexes[kind])) == (NUM + 9, NUM)
    found, _ = index.search(more, 50)
    assert all(number in row for number, row in zip(numbers, found, strict=True))


def test_an_index_may_be_filled_in_pieces(indexes):
    whole = indexes["scalar"]
    index = new_index(VECTORS, NUM, SMALL["scalar"])
    for start in range(0, NUM, 5_000):
        index.add(VECTORS[start : start + 5_000], NUMBERS[start : start + 5_000])
    assert len(index) == NUM
    assert np.mean(index.search(QUERIES, 10)[0] == whole.search(QUERIES, 10)[0]) > 0.9


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_seed_builds_the_same_index(indexes, kind):
    again = build_index(VECTORS, NUMBERS, SMALL[kind])
    for found, before in zip(again.search(QUERIES, 9), indexes[kind].search(QUERIES, 9), strict=True):
        assert np.array_equal(found, before)


def test_another_seed_draws_other_cells(indexes):
    other = build_index(VECTORS, NUMBERS, SMALL["scalar"], seed=1)
    assert not np.array_equal(other.search(QUERIES, 50)[1], indexes["scalar"].search(QUERIES, 50)[1])


def test_what_is_not_there_is_minus_one_and_infinitely_far():
    index, vectors = small(num=2)
    numbers, similarities = index.search(vectors, 5)
    assert (numbers[:, 2:] == -1).all() and (similarities[:, 2:] == -np.inf).all()
    assert (numbers[:, :2] >= 0).all() and np.isfinite(similarities[:, :2]).all()


def test_an_empty_index_finds_nothing():
    index, _ = small(num=0)
    numbers, similarities = index.search(QUERIES[:, :4].copy(), 3)
    assert (numbers == -1).all() and (similarities == -np.inf).all()
    assert index.search(QUERIES[:0, :4].copy(), 3)[0].shape == (0, 3)


def test_vectors_need_not_lie_side_by_side_in_memory():
    index, vectors = small()
    index.add(np.asfortranarray(vectors), np.arange(20, dtype=np.int64)[10::2])
    assert np.array_equal(index.search(np.asfortranarray(vectors), 2)[0], index.search(vectors, 2)[0])
    assert set(index.search(vectors[:1], 2)[0][0]) == {0, 10}


def test_vectors_of_another_dimension_are_refused():
    index, _ = small()
    message = r"dimension 4, these have 3: use the image-text encoder that it was built with"
    with pytest.raises(BadConfig, match=message):
        index.add(unit(np.ones((1, 3))), np.array([9]))
    with pytest.raises(BadConfig, match=message):
        index.search(np.ones((1, 3), dtype=np.float32), 1)


@pytest.mark.parametrize(("value", "length"), [(0, "0"), (2, "4"), (np.nan, "nan"), (np.inf, "inf"), (0.51, "1.02")])
def test_only_unit_vectors_are_taken(value, length):
    vectors = np.full((70_000, 4), 0.5, dtype=np.float32)
    vectors[66_000] = value
    assert refusal(vectors) == f"vector 66000 has length {length}, not 1: normalise embeddings first"


def test_vectors_of_half_precision_are_taken():
    build_index(VECTORS.astype(np.float16).astype(np.float32), NUMBERS, IndexOptions())


@pytest.mark.parametrize("numbers", [[0, 0], [-1, 2]])
def test_numbers_are_distinct_and_not_negative(numbers):
    assert "negative or a duplicate" in refusal(unit(np.eye(2)), np.array(numbers))


def test_a_refused_addition_leaves_the_index_as_it_was():
    index, vectors = small()
    with pytest.raises(BadConfig):
        index.add(np.concatenate([vectors, vectors[:1] * 3]), np.arange(10, 16))
    assert len(index) == 5


def test_a_query_that_is_no_number_is_refused():
    index, vectors = small()
    vectors[3, 1] = np.nan
    with pytest.raises(BadConfig, match="query 3 is not finite"):
        index.search(vectors, 1)


def test_too_small_a_sample_is_refused():
    with pytest.raises(BadConfig, match="100 vectors are too few to train an index"):
        new_index(VECTORS[:100], 2_000_000, IndexOptions())
    with pytest.raises(ValidationError):
        IndexOptions(max_exact=100)


def test_a_missing_index_is_told_from_a_damaged_one(tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no index"):
        load_index(tmp_path / "index.faiss")
    index, _ = small(num=100)
    index.save(tmp_path / "index.faiss")
    data = (tmp_path / "index.faiss").read_bytes()
    for damaged in (b"", b"not an index at all", data[:-10], data[:30], b"\xff" * len(data)):
        (tmp_path / "index.faiss").write_bytes(damaged)
        with pytest.raises(BadConfig, match="damaged, or not a FAISS index"):
            load_index(tmp_path / "index.faiss")


@pytest.mark.parametrize("foreign", [faiss.IndexFlatL2(4), faiss.IndexHNSWFlat(4, 8), faiss.IndexLSH(4, 8)])
def test_an_index_of_another_type_is_refused(foreign, tmp_path):
    faiss.write_index(foreign, str(tmp_path / "index.faiss"))
    with pytest.raises(BadConfig, match="which aai does not build"):
        load_index(tmp_path / "index.faiss")


def install(folder, name: str) -> None:
    info = folder / f"{name.replace('-', '_')}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")


def test_which_faiss_is_installed_is_known(monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    assert faiss_build() == "none"
    install(tmp_path, "faiss-gpu-cu12")
    assert faiss_build() == "gpu"
    install(tmp_path, "faiss-cpu")
    assert faiss_build() == "both"


def test_here_is_exactly_one_faiss():
    assert faiss_build() in ("cpu", "gpu")


def test_importing_the_index_pulls_in_nothing_heavy():
    probe = (
        "import sys, aai.retrieve.index; sys.exit(bool({'torch', 'transformers', 'diffusers'} & sys.modules.keys()))"
    )
    assert subprocess.run([sys.executable, "-c", probe]).returncode == 0
