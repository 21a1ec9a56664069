"""The split of pairs: what shares a recording or an image, directly or through others, is on one side."""

import numpy as np
from jaxtyping import Int64

from aai.align.pair_vectors import HELD_OUT, TRAIN, VALIDATION
from aai.align.train_options import PairOptions
from aai.identity import seed_of

_LARGE = 0.1
"""The share of the pairs from which on a group that must stay together is worth a sentence."""


def split(
    recordings: Int64[np.ndarray, " pairs"],
    pictures: Int64[np.ndarray, " pairs"],
    names: list[str],
    options: PairOptions,
    seed: int,
) -> Int64[np.ndarray, " pairs"]:
    """The part of each pair; pairs that share a recording or an image, directly or by others, have the same."""
    groups = _groups(recordings, pictures)
    first: dict[int, str] = {}
    for group, name in zip(groups.tolist(), names, strict=True):
        first[group] = min(first.get(group, name), name)
    at = {group: seed_of(seed, "align", name, "part") / 2**63 for group, name in first.items()}
    drawn = np.array([at[group] for group in groups.tolist()])
    parts = np.full(len(groups), TRAIN)
    parts[drawn < options.held_out + options.validation] = VALIDATION
    parts[drawn < options.held_out] = HELD_OUT
    return parts


def shared_images(
    recordings: Int64[np.ndarray, " pairs"], pictures: Int64[np.ndarray, " pairs"], are_videos: bool
) -> list[str]:
    """A sentence on recordings that common images keep on one side, if these are a large part of all."""
    groups = _groups(recordings, pictures)
    largest = np.flatnonzero(groups == np.bincount(groups).argmax())
    num, share = len(np.unique(recordings[largest])), len(largest) / len(groups)
    if num < 2 or share <= _LARGE:
        return []
    links = np.unique(np.stack([pictures[largest], recordings[largest]]), axis=1)
    most = np.bincount(links[0]).max()
    what, remedy = ("videos", "frames, such as black ones or titles") if are_videos else ("recordings", "images")
    return [
        f"{num:,} of {len(np.unique(recordings)):,} {what} share images, directly or through others, so their pairs "
        f"({share:.0%} of all) are on one side of the split; one image belongs to {most:,} of them: leave out {remedy} "
        "that many have in common"
    ]


def _groups(recordings: Int64[np.ndarray, " pairs"], pictures: Int64[np.ndarray, " pairs"]) -> np.ndarray:
    """The number of the connected group that each pair belongs to."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    num = int(recordings.max()) + 1
    size = num + int(pictures.max()) + 1
    links = coo_array((np.ones(len(recordings)), (recordings, num + pictures)), shape=(size, size))
    _, groups = connected_components(links, directed=False)
    numbers: np.ndarray = groups[recordings]
    return numbers
