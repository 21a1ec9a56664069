"""Hubs lose their hold, duplicates never take two places, and the choice depends on nothing but its inputs."""

import numpy as np
import pytest

from aai.retrieve.index import build_index
from aai.retrieve.neighbours import (
    centre,
    choose_diverse,
    choose_neighbours,
    drop_near_duplicates,
    retrieve,
)
from aai.retrieve.options import IndexOptions, RetrieveOptions

OPTIONS = RetrieveOptions()


def unit(rows: np.ndarray) -> np.ndarray:
    return (rows / np.linalg.norm(rows, axis=-1, keepdims=True)).astype(np.float32)


def draw(seed: int, num: int, dim: int = 32) -> np.ndarray:
    return unit(np.random.default_rng(seed).normal(size=(num, dim)))


def numbered(num: int, start: int = 0) -> np.ndarray:
    return np.arange(start, start + num, dtype=np.int64)


@pytest.mark.parametrize("strength", [0.0, 0.5, 0.75, 1.0])
def test_centring_is_nearest_neighbour_normalisation_over_the_whole_bank(strength):
    queries, bank, images = draw(0, 20), draw(1, 600), draw(2, 100)
    mean = bank.mean(axis=0)
    explicit = queries @ images.T - strength * (bank @ images.T).mean(axis=0)
    assert np.abs(centre(queries, mean, strength) @ images.T - explicit).max() < 1e-6


class Hubs:
    """Classes of images and clips; clips share an offset, to which some images of no class are near."""

    def __init__(self) -> None:
        rng = np.random.default_rng(0)
        offset, classes = rng.normal(size=32) * 2, rng.normal(size=(20, 32))
        self.labels = rng.integers(20, size=1000)
        self.queries = unit(classes[rng.integers(20, size=600)] + offset)
        self.truth = np.argmax(centre(self.queries, self.queries.mean(axis=0), 1.0) @ unit(classes).T, axis=1)
        images = unit(classes[self.labels] + 0.5 * rng.normal(size=(1000, 32)))
        images[:20] = unit(offset + 0.3 * rng.normal(size=(20, 32)))
        self.labels[:20] = -1
        self.images = images
        self.index = build_index(images, numbered(1000), IndexOptions())

    def vectors_of(self, numbers: np.ndarray) -> np.ndarray:
        return self.images[numbers]

    def share_right(self, mean: np.ndarray | None) -> float:
        found = retrieve(self.queries, self.index.search, self.vectors_of, OPTIONS, mean)
        return float(np.mean([self.labels[each.numbers] == t for each, t in zip(found, self.truth, strict=True)]))


@pytest.fixture(scope="module")
def hubs() -> Hubs:
    return Hubs()


def test_centring_frees_queries_from_hubs(hubs):
    assert hubs.share_right(None) < 0.7
    assert hubs.share_right(hubs.queries.mean(axis=0)) > 0.8


def test_a_clip_gets_the_same_images_alone_and_in_a_crowd(hubs):
    mean = hubs.queries.mean(axis=0)
    together = retrieve(hubs.queries, hubs.index.search, hubs.vectors_of, OPTIONS, mean)
    assert len(together) == 600  # more than are taken at once
    for clip in (0, 255, 256, 599):
        [alone] = retrieve(hubs.queries[clip : clip + 1], hubs.index.search, hubs.vectors_of, OPTIONS, mean)
        assert np.array_equal(alone.numbers, together[clip].numbers)
        assert np.allclose(alone.similarities, together[clip].similarities, atol=1e-6)


def test_images_come_best_first_with_the_cosine_to_the_centred_query(hubs):
    mean = hubs.queries.mean(axis=0)
    [found] = retrieve(hubs.queries[:1], hubs.index.search, hubs.vectors_of, OPTIONS, mean)
    query = unit(hubs.queries[0] - 0.75 * mean)
    assert found.numbers.dtype == np.int64 and found.similarities.dtype == np.float32
    assert (np.diff(found.similarities) <= 0).all() and len(found.numbers) == 5
    assert np.allclose(found.similarities, hubs.images[found.numbers] @ query, atol=1e-6)


def test_compressed_similarities_of_the_index_do_not_decide(hubs):
    def coarse(queries: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        numbers, similarities = hubs.index.search(queries, k)
        return numbers[:, ::-1], np.zeros_like(similarities)

    exact = retrieve(hubs.queries[:9], hubs.index.search, hubs.vectors_of, OPTIONS)
    for found, wanted in zip(retrieve(hubs.queries[:9], coarse, hubs.vectors_of, OPTIONS), exact, strict=True):
        assert np.array_equal(found.numbers, wanted.numbers)


def test_fewer_images_than_asked_for_are_no_trouble():
    images = draw(0, 3)
    index = build_index(images, numbered(3), IndexOptions())
    [found] = retrieve(draw(1, 1), index.search, lambda numbers: images[numbers], OPTIONS)
    assert sorted(found.numbers) == [0, 1, 2]
    empty = build_index(images[:0], numbered(0), IndexOptions())
    [nothing] = retrieve(draw(1, 1), empty.search, lambda numbers: images[numbers], OPTIONS)
    assert len(nothing.numbers) == 0
    assert retrieve(draw(1, 0), index.search, lambda numbers: images[numbers], OPTIONS) == []


@pytest.mark.parametrize("diversity", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("seed", range(5))
def test_planted_duplicates_never_occupy_two_places(seed, diversity):
    rng = np.random.default_rng(seed)
    query, origins = draw(seed, 1)[0], np.repeat(numbered(40), 5)
    base = unit(0.4 * draw(seed + 100, 40) + 0.6 * query)
    copies = unit(base[origins] + 0.01 * rng.normal(size=(200, 32)))
    order = rng.permutation(200)
    options = RetrieveOptions(diversity=diversity, duplicate_similarity=0.95)
    found = choose_neighbours(order, copies[order], copies[order] @ query, options)
    likeness = copies[found.numbers] @ copies[found.numbers].T
    assert len(found.numbers) == 5
    assert np.triu(likeness, k=1).max() <= 0.95
    assert len(set(origins[found.numbers])) == 5


def test_the_better_of_two_duplicates_stays_and_what_is_like_a_dropped_one_may_stay():
    angles = np.deg2rad([0, 15, 30, 90])  # neighbours are alike (cosine .966), the first and the third are not (.866)
    vectors = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    assert drop_near_duplicates(vectors, 0.95).tolist() == [0, 2, 3]
    assert drop_near_duplicates(vectors, 1.0).tolist() == [0, 1, 2, 3]
    assert drop_near_duplicates(vectors[:0], 0.95).tolist() == []


def by_the_book(scores: np.ndarray, vectors: np.ndarray, num: int, diversity: float) -> list[int]:
    """Maximal marginal relevance as the paper writes it."""
    chosen: list[int] = []
    while len(chosen) < num:
        left = [i for i in range(len(scores)) if i not in chosen]
        values = [
            (1 - diversity) * scores[i] - diversity * max((vectors[i] @ vectors[j] for j in chosen), default=0.0)
            for i in left
        ]
        chosen.append(left[int(np.argmax(values))])
    return chosen


@pytest.mark.parametrize("diversity", [0.0, 0.3, 0.9, 1.0])
def test_diverse_choice_is_maximal_marginal_relevance(diversity):
    vectors, scores = draw(0, 60), np.random.default_rng(1).random(60).astype(np.float32)
    assert choose_diverse(scores, vectors, 6, diversity).tolist() == by_the_book(scores, vectors, 6, diversity)


def test_more_diversity_is_less_alike_and_less_fitting():
    query, vectors = draw(0, 1)[0], draw(1, 200, 32)
    scores = vectors @ query
    likeness, fit = [], []
    for diversity in (0.0, 0.3, 0.8):
        chosen = choose_diverse(scores, vectors, 5, diversity)
        likeness.append(np.triu(vectors[chosen] @ vectors[chosen].T, k=1).sum() / 10)
        fit.append(scores[chosen].mean())
    assert likeness[0] > likeness[1] > likeness[2]
    assert fit[0] > fit[1] > fit[2]


@pytest.mark.parametrize("seed", range(5))
def test_ties_go_to_the_lower_number_whatever_the_order(seed):
    order = np.random.default_rng(seed).permutation(8)
    vectors, similarities = np.eye(8, dtype=np.float32)[order], np.full(8, 0.5, dtype=np.float32)
    found = choose_neighbours(order, vectors, similarities, OPTIONS)
    assert found.numbers.tolist() == [0, 1, 2, 3, 4]
