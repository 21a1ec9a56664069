"""Figures equal their definitions."""

import numpy as np
import pytest

from aai.align.evaluation import (
    Evaluation,
    Gallery,
    abstain,
    beside,
    chance_of_recall,
    evaluate,
    hub_interval,
    hubness,
    mean_interval,
    search,
)

EYE = np.eye(4, dtype=np.float32)
OWN = np.stack([np.arange(4), np.arange(4)], axis=1)


def value(found: Evaluation, name: str, direction: str = "sound to image", queries: str = "raw") -> float:
    [figure] = [
        each for each in found.figures if (each.name, each.direction, each.queries) == (name, direction, queries)
    ]
    assert figure.low <= figure.value <= figure.high
    return figure.value


def test_perfect_retrieval_has_recall_one_in_both_directions():
    found = evaluate(Gallery(EYE, EYE, OWN, list("abab"), list("abab")))
    for direction in ("sound to image", "image to sound"):
        assert [value(found, f"R@{rank}", direction) for rank in (1, 5, 10)] == [1, 1, 1]
        assert value(found, "class precision@1", direction) == 1
        assert value(found, "class precision@10", direction) == 0.5
    assert [row.precision for row in found.abstention] == [1] * 6


def test_recall_counts_the_best_of_several_own_images():
    clips = np.array([[1, 0], [0, 1]], np.float32)
    images = np.array([[0.6, 0.8], [1, 0], [0, 1]], np.float32)
    found = search(Gallery(clips, images, np.array([[0, 0], [0, 1], [1, 0]])), centred=False)
    assert found.ranks.tolist() == [0, 1]
    assert found.top[:, 0].tolist() == [1, 2]


def test_centring_takes_hits_from_a_hub():
    rng = np.random.default_rng(0)
    clips = rng.normal(size=(100, 8)) + 4
    images = np.concatenate([rng.normal(size=(99, 8)) / 3, [np.full(8, 1.0)]])
    clips, images = (each / np.linalg.norm(each, axis=1, keepdims=True) for each in (clips, images))
    found = evaluate(Gallery(clips, images, np.empty((0, 2), int), ["a"] * 100, ["a"] * 100))
    assert value(found, "hubness", queries="centred") < value(found, "hubness")


def test_hubness_is_the_share_of_the_most_frequent_hundredth():
    assert hubness(np.arange(200).reshape(20, 10), 200) == 0.01
    assert hubness(np.zeros((5, 2), int), 200) == 1


def test_the_interval_of_hubness_holds_its_value():
    top = np.random.default_rng(3).integers(120, size=(20, 10))
    value, low, high = hub_interval(top, 120, np.random.default_rng(0))
    assert low < value < high


def test_the_interval_of_equal_hits_is_not_empty():
    assert mean_interval(np.ones(13), np.random.default_rng(0)) == pytest.approx((1, 0.772, 1), abs=1e-3)


def test_clips_without_a_label_that_images_have_are_left_out():
    found = evaluate(Gallery(EYE, EYE, np.empty((0, 2), int), ["a", None, "z", "a"], ["a", "b", None, "b"]))
    [figure] = [each for each in found.figures if each.name == "class precision@1"][:1]
    assert figure.num == 2 and figure.value == 0.5
    assert found.correct == "the best image has the clip's label"


def test_abstaining_leaves_the_least_confident_out():
    rows = abstain(np.array([3.0, 2.0, 1.0, 0.0]), np.array([1.0, 1.0, 0.0, 0.0]), np.random.default_rng(0))
    assert [(row.coverage, row.precision, row.num) for row in rows][::3] == [(1.0, 0.5, 4), (0.5, 1.0, 2)]


def test_without_labels_the_own_image_among_ten_is_correct():
    found = evaluate(Gallery(EYE, EYE, OWN))
    assert found.correct == "the clip's own image is among the best 10" and found.abstention[0].precision == 1


@pytest.mark.parametrize("share", [0.2, 0.5])
def test_the_interval_is_that_of_a_proportion(share):
    hits = (np.arange(400) < share * 400).astype(float)
    mean, low, high = mean_interval(hits, np.random.default_rng(0))
    half = 1.96 * np.sqrt(share * (1 - share) / 400)
    assert mean == share
    assert np.allclose([low, high], [share - half, share + half], atol=0.01)


def test_chance_is_what_a_random_order_reaches():
    rng = np.random.default_rng(0)
    pairs = np.stack([np.arange(60) % 40, np.arange(60)], axis=1)  # 20 clips of two images, 20 of one
    labels = ["a"] * 15 + ["b"] * 45
    gallery = Gallery(*rng.normal(size=(2, 60, 8)), pairs, labels[:40] + [None] * 20, labels)
    found = {each.name: each.chance for each in evaluate(gallery).figures if each.direction == "sound to image"}
    first = [np.argsort(rng.random((60, 60)), axis=1)[:, :k] for k in (1, 5, 10) for _ in range(100)]
    for number, k in enumerate((1, 5, 10)):
        drawn = [
            np.mean([np.isin(top[clip], pairs[pairs[:, 0] == clip, 1]).any() for clip in range(40)])
            for top in first[number * 100 : number * 100 + 100]
        ]
        assert found[f"R@{k}"] == pytest.approx(np.mean(drawn), abs=0.02)
    assert found["class precision@1"] == found["class precision@10"] == pytest.approx((15 * 15 + 25 * 45) / 40 / 60)
    assert found["hubness"] == pytest.approx(1 / 60)


def test_the_recall_by_chance_among_fewer_items_than_k_is_one():
    assert chance_of_recall({1: 4}, 4, 10) == 1
    assert chance_of_recall({1: 1, 2: 1}, 4, 1) == pytest.approx((1 / 4 + 2 / 4) / 2)


def test_recalls_that_chance_comes_near_to_are_noted():
    few, many = (np.eye(num, dtype=np.float32) for num in (20, 50))
    notes = evaluate(Gallery(few, few, np.stack([np.arange(20)] * 2, axis=1))).notes
    assert notes == [
        "sound to image: among 20 images a random order reaches R@5 0.25, R@10 0.50, so that says little",
        "image to sound: among 20 clips a random order reaches R@5 0.25, R@10 0.50, so that says little",
    ]
    assert not evaluate(Gallery(many, many, np.stack([np.arange(50)] * 2, axis=1))).notes


def test_another_aligner_stands_beside():
    found = beside(evaluate(Gallery(EYE, EYE, OWN)), "other", evaluate(Gallery(EYE[[1, 0, 3, 2]], EYE, OWN)))
    assert found.other == "other"
    recalls = {(each.value, each.other) for each in found.figures if each.name == "R@1"}
    assert recalls == {(1.0, 0.0)}
