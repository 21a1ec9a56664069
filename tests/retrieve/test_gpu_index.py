"""Search on GPUs through FAISS's interface. No GPU is needed: a stand-in copies indexes into shards on the CPU."""

from types import SimpleNamespace

import faiss
import numpy as np
import pytest

from aai.retrieve.index import VectorIndex, build_index, load_index, measure_recall
from tests.retrieve.test_index import DIM, KINDS, NUMBERS, QUERIES, SMALL, VECTORS, unit


class Gpus:
    """As a FAISS for GPUs: exact vectors are sharded, and codes are copied; calls are recorded."""

    GpuMultipleClonerOptions = SimpleNamespace

    def __init__(self, num: int = 4, fails: bool = False) -> None:
        self.num, self.fails = num, fails
        self.calls: list[tuple[type, bool, bool]] = []

    def get_num_gpus(self) -> int:
        return self.num

    def index_cpu_to_all_gpus(self, index, co):
        self.calls.append((type(index), co.shard, co.useFloat16))
        if self.fails:
            raise RuntimeError("out of memory")
        if not isinstance(index, faiss.IndexFlatIP):
            return faiss.clone_index(index)
        shards = faiss.IndexShards(index.d, True, True)
        self.parts = []  # IndexShards does not own them
        for part in np.array_split(index.reconstruct_n(0, index.ntotal), self.num):
            self.parts.append(faiss.IndexFlatIP(index.d))
            self.parts[-1].add(part)
            shards.add_shard(self.parts[-1])
        return shards


@pytest.fixture(scope="module")
def indexes() -> dict[str, VectorIndex]:
    return {kind: build_index(VECTORS, NUMBERS, options) for kind, options in SMALL.items()}


@pytest.mark.parametrize("kind", KINDS)
def test_neighbours_on_gpus_are_those_on_a_cpu(indexes, kind, tmp_path):
    indexes[kind].save(tmp_path / "index.faiss")
    on_gpus, gpus = load_index(tmp_path / "index.faiss"), Gpus()
    assert on_gpus.use_gpus(gpus)
    found, similarities = on_gpus.search(QUERIES, 10)
    expected, before = indexes[kind].search(QUERIES, 10)
    assert np.array_equal(found, expected) and np.allclose(similarities, before, atol=1e-6)
    recalls = [measure_recall(index, VECTORS, NUMBERS, QUERIES, 10) for index in (on_gpus, indexes[kind])]
    assert recalls[0] == recalls[1] and (kind != "exact" or recalls[0] == 1)


@pytest.mark.parametrize(
    ("kind", "copied", "half"),
    [
        ("exact", faiss.IndexFlatIP, False),
        ("scalar", faiss.IndexIVFScalarQuantizer, False),
        ("product", faiss.IndexIVFPQ, True),
    ],
)
def test_vectors_stay_exact_and_are_sharded(indexes, kind, copied, half):
    gpus = Gpus()
    indexes[kind].use_gpus(gpus)
    assert gpus.calls == [(copied, True, half)]
    indexes[kind].use_gpus(Gpus(num=0))


def test_what_is_not_there_is_minus_one(indexes):
    few = build_index(VECTORS[:3], NUMBERS[:3], SMALL["exact"])
    few.use_gpus(Gpus(num=1))
    numbers, similarities = few.search(QUERIES, 5)
    assert (numbers[:, 3:] == -1).all() and (similarities[:, 3:] == -np.inf).all() and (numbers[:, :3] > 0).all()


def test_without_a_gpu_the_cpu_searches(indexes):
    gpus = Gpus(num=0)
    assert not indexes["exact"].use_gpus(gpus) and gpus.calls == []
    assert not indexes["exact"].use_gpus()  # the FAISS that is installed here


def test_an_index_that_does_not_fit_stays_on_the_cpu_and_says_so(indexes, caplog):
    assert not indexes["exact"].use_gpus(Gpus(fails=True))
    assert "stays on CPUs" in caplog.text and "out of memory" in caplog.text
    assert (indexes["exact"].search(QUERIES, 3)[0] >= 0).all()


def test_more_candidates_than_a_gpu_finds_are_searched_on_the_cpu():
    index = build_index(VECTORS, NUMBERS, SMALL["exact"])
    index.use_gpus(Gpus())
    index._on_gpus.search = None
    assert index.search(QUERIES[:1], 2_049)[0].shape == (1, 2_049)


def test_an_index_that_grows_is_searched_whole():
    index = build_index(VECTORS[:100], NUMBERS[:100], SMALL["exact"])
    index.use_gpus(Gpus())
    more = unit(np.random.default_rng(5).normal(size=(1, DIM)))
    index.add(more, np.array([7]))
    assert index.search(more, 1)[0].tolist() == [[7]]
