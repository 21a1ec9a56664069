"""Blind preferences: a page with pairs of pictures by unknown methods, and the key to it.

A ballot is two files: the page says nothing of methods; the key says which picture is by which method, and stays with
whoever counts the votes.
"""

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations, islice, zip_longest
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import UInt8
from PIL import Image
from pydantic import Field

from aai.errors import BadConfig, BadItem
from aai.identity import content_id
from aai.media import images
from aai.options import Options
from aai.report import media
from aai.report.ballot import Ballot, BallotPair, ballot_page

CELLS = "cells.parquet"
_COLUMNS = ("clip_id", "method", "prompt", "seed", "photo", "image", "sound")
_SOUND_TYPES = {".mp3": "audio/mpeg", ".wav": "audio/wav", ".ogg": "audio/ogg", ".flac": "audio/flac"}
_ID_BYTES = 6


class BallotOptions(Options):
    """What a ballot asks."""

    pairs: int = Field(200, gt=0, le=10_000)
    """Maximum number of pairs, as many of each two methods."""

    methods: tuple[str, ...] = ()
    """Methods whose pictures are compared; by default all of the comparison."""

    question: str = Field("Which picture fits the sound better?", min_length=1, max_length=500)
    """Question above each pair."""

    max_px: int = Field(512, ge=16, le=4096)
    """Maximum side of a picture in the page, in pixels; larger ones are reduced."""

    seed: int = Field(0, ge=0, lt=2**63)
    """Seed of the choice of pairs and of their sides."""


@dataclass(frozen=True)
class Side:
    """One picture of a pair."""

    method: str
    image: str
    """Path, relative to the comparison's folder."""
    seed: int


@dataclass(frozen=True)
class Pair:
    """Two pictures of a clip for one prompt."""

    id: str
    clip_id: str
    prompt: str
    left: Side
    right: Side


@dataclass(frozen=True)
class MadeBallot:
    """A ballot, ready to be written."""

    page: str
    key: dict[str, Any]
    pairs: Sequence[Pair]
    notes: Sequence[str]
    """Sentences on what was left out."""


def make_ballot(folder: Path, options: BallotOptions) -> MadeBallot:
    """A ballot on the pictures of a comparison.

    Raises:
        BadConfig: the folder holds no comparison, or no clip has pictures of two methods.
    """
    cells = _read_cells(folder, options.methods)
    sounds = {row["clip_id"]: row["sound"] for row in cells if row["sound"]}
    notes = []
    if num_silent := len({row["clip_id"] for row in cells} - sounds.keys()):
        notes.append(f"{num_silent:,} clips have no sound in the comparison, and are left out")
    candidates = _candidates([row for row in cells if row["clip_id"] in sounds], options.seed)
    pairs, num_equal = _chosen(folder, candidates, options)
    if num_equal:
        notes.append(f"{num_equal:,} pairs of equal pictures are left out")
    if not pairs:
        raise BadConfig("no clip has different pictures of two methods: compare others", uri=str(folder))
    described = {pair.id: {name: value for name, value in asdict(pair).items() if name != "id"} for pair in pairs}
    ballot_id = content_id(json.dumps([described, options.question], sort_keys=True).encode())[:16]
    page = ballot_page(_ballot(folder, ballot_id, pairs, sounds, options))
    return MadeBallot(page, {"ballot": ballot_id, "folder": str(folder), "pairs": described}, pairs, notes)


def _read_cells(folder: Path, methods: Sequence[str]) -> list[dict[str, Any]]:
    """The pictures of a comparison, of some methods."""
    path = folder / CELLS
    try:
        table = pq.read_table(path, columns=list(_COLUMNS))
    except FileNotFoundError as error:
        parts = sorted(part.parent for part in folder.glob(f"*/{CELLS}"))
        remedy = f"such as {parts[0]}" if parts else "that `aai evaluate` has written"
        raise BadConfig(f"it is no comparison: name a folder {remedy}", uri=str(folder)) from error
    except (OSError, pa.ArrowInvalid, KeyError) as error:
        raise BadConfig("it cannot be read: run `aai evaluate` again", uri=str(path)) from error
    rows = table.to_pylist()
    known = list(dict.fromkeys(row["method"] for row in rows))
    for method in methods:
        if method not in known:
            raise BadConfig(f"there is no method {method!r}: choose from {', '.join(known)}", key="--method")
    if len(set(methods)) == 1:
        raise BadConfig(f"a ballot compares methods: name another one beside {methods[0]}", key="--method")
    return [row for row in rows if row["image"] and (not methods or row["method"] in methods)]


def _candidates(cells: Sequence[Mapping[str, Any]], seed: int) -> list[list[tuple[str, str, Side, Side]]]:
    """For each two methods all pairs of their pictures, in random order, on random sides."""
    shown: dict[tuple[str, str, str], dict[str, list[Side]]] = {}
    for row in sorted(cells, key=lambda row: (row["clip_id"], row["prompt"], row["seed"])):
        by_method = shown.setdefault((row["clip_id"], row["prompt"], row["photo"] or ""), {})
        by_method.setdefault(row["method"], []).append(Side(row["method"], row["image"], row["seed"]))
    methods = sorted({row["method"] for row in cells})
    rng = np.random.default_rng(seed)
    found = []
    for first, second in combinations(methods, 2):
        pairs = [
            (clip_id, prompt, *(sides if rng.random() < 0.5 else sides[::-1]))
            for (clip_id, prompt, _), by_method in shown.items()
            for sides in zip(by_method.get(first, ()), by_method.get(second, ()), strict=False)
        ]
        found.append([pairs[index] for index in rng.permutation(len(pairs))])
    return found


def _chosen(
    folder: Path, candidates: Sequence[Sequence[tuple[str, str, Side, Side]]], options: BallotOptions
) -> tuple[list[Pair], int]:
    """Pairs of different pictures, as many of each two methods, and the number of equal ones that were met."""
    rng = np.random.default_rng([options.seed, 1])
    equal = Counter[str]()
    pairs = [
        Pair(rng.bytes(_ID_BYTES).hex(), *each)
        for each in islice(_in_turns([_different(folder, some, equal) for some in candidates]), options.pairs)
    ]
    return [pairs[index] for index in rng.permutation(len(pairs))], equal.total()


def _different(
    folder: Path, pairs: Iterable[tuple[str, str, Side, Side]], equal: Counter[str]
) -> Iterator[tuple[str, str, Side, Side]]:
    """Pairs of different pictures; equal ones are counted."""
    for clip_id, prompt, left, right in pairs:
        if left.image == right.image or np.array_equal(_pixels(folder / left.image), _pixels(folder / right.image)):
            equal[clip_id] += 1
        else:
            yield clip_id, prompt, left, right


def _in_turns(iterators: Sequence[Iterator[Any]]) -> Iterator[Any]:
    """One of each, then the next of each, until all are at their end."""
    nothing = object()
    for turn in zip_longest(*iterators, fillvalue=nothing):
        yield from (each for each in turn if each is not nothing)


def _ballot(
    folder: Path, ballot_id: str, pairs: Sequence[Pair], sounds: Mapping[str, str], options: BallotOptions
) -> Ballot:
    keys = {clip_id: f"s{number}" for number, clip_id in enumerate(dict.fromkeys(pair.clip_id for pair in pairs))}
    return Ballot(
        ballot_id,
        options.question,
        [
            BallotPair(
                pair.id,
                keys[pair.clip_id],
                pair.prompt,
                _embedded(folder / pair.left.image, options.max_px),
                _embedded(folder / pair.right.image, options.max_px),
            )
            for pair in pairs
        ],
        {key: _sound(folder / sounds[clip_id]) for clip_id, key in keys.items()},
    )


def _pixels(path: Path) -> UInt8[np.ndarray, "height width 3"]:
    try:
        return images.decode(path.read_bytes(), str(path), images.RENDERED).pixels
    except (OSError, BadItem) as error:
        raise BadConfig("the picture cannot be read: run `aai evaluate` again", uri=str(path)) from error


def _embedded(path: Path, max_px: int) -> str:
    """A picture as a data URI, encoded anew: its own metadata would say how it was made."""
    picture = Image.fromarray(_pixels(path))
    picture.thumbnail((max_px, max_px), Image.Resampling.LANCZOS)
    return media.data_uri("image/webp", media.encode_webp(np.asarray(picture)))


def _sound(path: Path) -> str:
    try:
        return media.data_uri(_SOUND_TYPES.get(path.suffix, "audio/mpeg"), path.read_bytes())
    except OSError as error:
        raise BadConfig("the sound cannot be read: run `aai evaluate` again", uri=str(path)) from error
