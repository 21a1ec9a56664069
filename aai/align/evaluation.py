"""Quality of an aligner: retrieval among held-out pairs, hubness, and what abstaining gains."""

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int64

CENTRING = 0.75
"""How much of the mean query centred queries leave out, as `retrieve.centring_strength` by default."""

RANKS = (1, 5, 10)
_TOP = 10
_HUB_SHARE = 0.01
_COVERAGES = (1.0, 0.9, 0.75, 0.5, 0.25, 0.1)
_RESAMPLES = 1_000
_CHUNK = 1_024
_MAX_CHANCE = 0.25
"""The recall by chance from which on a recall says little."""
_LOW, _HIGH, _Z95 = 2.5, 97.5, 1.96


@dataclass(frozen=True)
class Gallery:
    """Clips, images, and which of them are pairs."""

    clips: Float[np.ndarray, "clips dim"]
    """Aligned unit vectors."""
    images: Float[np.ndarray, "images dim"]
    pairs: Int64[np.ndarray, "pairs 2"]
    """Rows of a clip and its image; empty if there are no pairs."""
    clip_labels: Sequence[str | None] = ()
    image_labels: Sequence[str | None] = ()

    @property
    def reversed(self) -> "Gallery":
        """Images as queries among clips."""
        return Gallery(self.images, self.clips, self.pairs[:, ::-1], self.image_labels, self.clip_labels)


@dataclass(frozen=True)
class Figure:
    """A value with its 95 % bootstrap interval over the queries."""

    name: str
    direction: str
    queries: str
    """`raw` or `centred`."""
    value: float
    low: float
    high: float
    num: int
    """Number of queries."""
    chance: float
    """What a random order of the items reaches; of hubness, if all images were retrieved equally often."""
    other: float | None = None
    """The value of another aligner on the same clips and images."""


@dataclass(frozen=True)
class Abstention:
    """Precision of the queries that are answered, if the least confident ones are not."""

    coverage: float
    precision: float
    low: float
    high: float
    num: int


@dataclass(frozen=True)
class Evaluation:
    """All figures of an aligner."""

    num_clips: int
    num_images: int
    figures: list[Figure]
    abstention: list[Abstention]
    correct: str
    """What counts as correct for the precision of the abstention."""
    other: str = ""
    """The other aligner, if there is one."""
    notes: list[str] = field(default_factory=list)
    """What was left out, and which figures say little."""

    def as_json(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)


@dataclass(frozen=True)
class Found:
    """What queries retrieve."""

    top: Int64[np.ndarray, "queries top"]
    """The most similar items, best first."""
    ranks: Int64[np.ndarray, " queries"]
    """Items that are more similar than the most similar own one, from 0; -1 for a query without a pair."""
    margins: Float[np.ndarray, " queries"]
    """How far the best item is above all items, in standard deviations of their similarities."""


def evaluate(gallery: Gallery, seed: int = 0) -> Evaluation:
    """Recall in both directions, class precision, hubness and abstention; with raw and centred queries."""
    rng, figures = np.random.default_rng(seed), list[Figure]()
    for direction, own in (("sound to image", gallery), ("image to sound", gallery.reversed)):
        for queries in ("raw", "centred"):
            found = search(own, centred=queries == "centred")
            figures += [
                Figure(name, direction, queries, *interval, num, chance)
                for name, interval, num, chance in _figures(own, found, direction, rng)
            ]
            if direction == "sound to image" and queries == "centred":
                correct, name = _correct(own, found)
                abstention = abstain(found.margins, correct, rng)
    sizes = {
        "sound to image": f"{len(gallery.images):,} images",
        "image to sound": f"{len(gallery.clips):,} clips",
    }
    notes = _saying_little(figures, sizes)
    return Evaluation(len(gallery.clips), len(gallery.images), figures, abstention, name, notes=notes)


def beside(found: Evaluation, name: str, other: Evaluation) -> Evaluation:
    """An evaluation with the values of another aligner on the same gallery."""
    values = {(each.name, each.direction, each.queries): each.value for each in other.figures}
    figures = [replace(each, other=values.get((each.name, each.direction, each.queries))) for each in found.figures]
    return replace(found, figures=figures, other=name)


def _saying_little(figures: Sequence[Figure], sizes: Mapping[str, str]) -> list[str]:
    """A sentence per direction on recalls that a random order comes near to, because there are few items."""
    notes = []
    for direction, size in sizes.items():
        own = [each for each in figures if (each.direction, each.queries) == (direction, "raw")]
        easy = [each for each in own if each.name.startswith("R@") and each.chance >= _MAX_CHANCE]
        if easy:
            values = ", ".join(f"{each.name} {each.chance:.2f}" for each in easy)
            notes.append(f"{direction}: among {size} a random order reaches {values}, so that says little")
    return notes


def search(gallery: Gallery, centred: bool) -> Found:
    """Exact search of all queries."""
    queries = gallery.clips - (CENTRING * gallery.clips.mean(axis=0) if centred else 0)
    own = _own_items(gallery.pairs, len(gallery.clips))
    parts = [
        _found(queries[start : start + _CHUNK] @ gallery.images.T, own[start : start + _CHUNK])
        for start in range(0, len(queries), _CHUNK)
    ]
    return Found(*(np.concatenate([getattr(part, name) for part in parts]) for name in ("top", "ranks", "margins")))


def _own_items(pairs: np.ndarray, num: int) -> list[list[int]]:
    own: list[list[int]] = [[] for _ in range(num)]
    for query, item in pairs.tolist():
        own[query].append(item)
    return own


def _found(similarities: np.ndarray, own: list[list[int]]) -> Found:
    num = min(_TOP, similarities.shape[1])
    top = np.argpartition(-similarities, num - 1, axis=1)[:, :num]
    order = np.argsort(-np.take_along_axis(similarities, top, axis=1), axis=1, kind="stable")
    top = np.take_along_axis(top, order, axis=1)
    ranks = [int((row > row[items].max()).sum()) if items else -1 for row, items in zip(similarities, own, strict=True)]
    best, spread = np.take_along_axis(similarities, top[:, :1], axis=1)[:, 0], similarities.std(axis=1)
    margins = (best - similarities.mean(axis=1)) / np.maximum(spread, np.finfo(np.float32).tiny)
    return Found(top, np.array(ranks, np.int64), margins)


def _figures(
    gallery: Gallery, found: Found, direction: str, rng: np.random.Generator
) -> Iterator[tuple[str, tuple[float, float, float], int, float]]:
    """Name, value with its interval, number of queries, and value by chance."""
    has_pair, num = found.ranks >= 0, len(gallery.images)
    if has_pair.any():
        counts = Counter(Counter(gallery.pairs[:, 0].tolist()).values())
        for rank in RANKS:
            hits = (found.ranks[has_pair] < rank).astype(float)
            yield f"R@{rank}", mean_interval(hits, rng), len(hits), chance_of_recall(counts, num, rank)
    right, has_label = class_hits(gallery, found.top)
    if has_label.any():
        chance = _chance_of_class(gallery, has_label)
        for rank in (1, _TOP):
            shares = right[has_label, :rank].mean(axis=1)
            yield f"class precision@{rank}", mean_interval(shares, rng), len(shares), chance
    if direction == "sound to image":
        yield "hubness", hub_interval(found.top, num, rng), len(found.top), _num_hubs(num) / num


def chance_of_recall(counts: Mapping[int, int], num: int, rank: int) -> float:
    """The expected R@k of a random order.

    Args:
        counts: number of queries by the number of their own items.
        num: number of items.
        rank: k.
    """
    k = min(rank, num)
    missed = {own: math.comb(num - own, k) / math.comb(num, k) for own in counts}
    return 1 - sum(missed[own] * queries for own, queries in counts.items()) / sum(counts.values())


def _chance_of_class(gallery: Gallery, has_label: Bool[np.ndarray, " queries"]) -> float:
    """The share of items with a query's label, as a mean over the queries."""
    shares = Counter(gallery.image_labels)
    labels = [label for label, known in zip(gallery.clip_labels, has_label, strict=True) if known]
    return sum(shares[label] for label in labels) / len(labels) / len(gallery.images)


def _num_hubs(num_items: int) -> int:
    return max(1, round(_HUB_SHARE * num_items))


def class_hits(
    gallery: Gallery, top: Int64[np.ndarray, "queries top"]
) -> tuple[Bool[np.ndarray, "queries top"], Bool[np.ndarray, " queries"]]:
    """Which retrieved items have the query's label, and which queries have one that an item has as well."""
    if not (gallery.clip_labels and gallery.image_labels):
        return np.zeros(top.shape, bool), np.zeros(len(top), bool)
    queries, items = np.array(gallery.clip_labels, object), np.array(gallery.image_labels, object)
    known = {label for label in gallery.image_labels if label is not None}
    has_label = np.array([label in known for label in gallery.clip_labels])
    return (items[top] == queries[:, None]) & has_label[:, None], has_label


def _correct(gallery: Gallery, found: Found) -> tuple[Float[np.ndarray, " queries"], str]:
    """Whether each query is answered correctly, NaN if that is unknown; and what that means."""
    right, has_label = class_hits(gallery, found.top)
    if has_label.any():
        return np.where(has_label, right[:, 0], np.nan).astype(float), "the best image has the clip's label"
    is_near = (found.ranks < _TOP).astype(float)
    return np.where(found.ranks >= 0, is_near, np.nan), "the clip's own image is among the best 10"


def abstain(
    confidence: Float[np.ndarray, " queries"], correct: Float[np.ndarray, " queries"], rng: np.random.Generator
) -> list[Abstention]:
    """Precision at some coverages; the least confident queries are not answered."""
    is_known = ~np.isnan(correct)
    order = np.argsort(-confidence[is_known], kind="stable")
    ranked = correct[is_known][order]
    rows = []
    for coverage in _COVERAGES if len(ranked) else ():
        answered = ranked[: max(1, round(coverage * len(ranked)))]
        rows.append(Abstention(coverage, *mean_interval(answered, rng), len(answered)))
    return rows


def hubness(top: Int64[np.ndarray, "queries top"], num_items: int) -> float:
    """The share of all hits that the most frequent 1 % of the items take; 0.01 if hits are spread evenly."""
    counts = np.sort(np.bincount(top.ravel(), minlength=num_items))[::-1]
    return float(counts[: _num_hubs(num_items)].sum() / max(counts.sum(), 1))


def hub_interval(top: np.ndarray, num_items: int, rng: np.random.Generator) -> tuple[float, float, float]:
    """Hubness with its interval: that of the share which the same items take in other samples of queries."""
    counts = np.bincount(top.ravel(), minlength=num_items)
    hubs = np.argsort(-counts, kind="stable")[: _num_hubs(num_items)]
    is_hub = np.isin(top, hubs).mean(axis=1)
    return _interval(len(top), lambda chosen: float(is_hub[chosen].mean()), hubness(top, num_items), rng)


def mean_interval(values: Float[np.ndarray, " queries"], rng: np.random.Generator) -> tuple[float, float, float]:
    """A mean with its interval; for zeros and ones Wilson's, which is also right where all are equal."""
    if np.isin(values, (0, 1)).all():
        return _wilson(float(values.mean()), len(values))
    return _interval(len(values), lambda chosen: float(values[chosen].mean()), float(values.mean()), rng)


def _wilson(share: float, num: int) -> tuple[float, float, float]:
    """A share with its 95 % score interval.

    Source: Wilson 1927, "Probable inference, the law of succession, and statistical inference".
    """
    squared = _Z95 * _Z95
    centre = (share + squared / (2 * num)) / (1 + squared / num)
    reach = _Z95 / (1 + squared / num) * math.sqrt(share * (1 - share) / num + squared / (4 * num * num))
    return share, max(0.0, centre - reach), min(1.0, centre + reach)


def _interval(
    num: int, measure: Callable[[np.ndarray], float], value: float, rng: np.random.Generator
) -> tuple[float, float, float]:
    """A value with the percentiles of its bootstrap distribution."""
    drawn = [measure(rng.integers(num, size=num)) for _ in range(_RESAMPLES)]
    low, high = np.percentile(drawn, [_LOW, _HIGH])
    return value, min(value, float(low)), max(value, float(high))
