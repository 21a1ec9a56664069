"""The tally of a ballot's votes: files of voters in, win rates and a ranking of methods out."""

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import AwareDatetime, Field

from aai.errors import BadConfig
from aai.evaluate.preferences import Ranking, Vote, ranking_of
from aai.options import Options
from tasks.evaluate.figures import plain_data
from tasks.runtime.config import read_options

_KEY_ENDING = "-key.json"

_MAX_BYTES = 200_000_000
_SHARES = {"left": 1.0, "tie": 0.5, "right": 0.0}
_WHERE = "a file of votes is what the button `Save votes` of a ballot writes"


class _Cast(Options):
    """A vote."""

    pair: str
    choice: Literal["left", "tie", "right"]
    seconds: float | None = None


class _VotesFile(Options):
    """The votes of a voter."""

    ballot: str
    voter: str = Field(min_length=1)
    saved_at: AwareDatetime | None = None
    votes: tuple[_Cast, ...]


@dataclass(frozen=True)
class Tally:
    """What the votes come to."""

    ranking: Ranking
    num_ties: int
    left_share: float
    """Share of votes for the left picture, ties as halves: 0.5 unless voters prefer a side."""
    notes: list[str]
    """Sentences on votes that do not count."""

    def as_json(self) -> dict[str, Any]:
        """All figures as plain data, without NaN."""
        return plain_data(asdict(self.ranking)) | {
            "num_ties": self.num_ties,
            "left_share": self.left_share,
            "notes": self.notes,
        }


def key_of(page: Path) -> Path:
    """Where the key of a ballot's page is written: beside it, as ballot-key.json."""
    return page.with_name(page.stem + _KEY_ENDING)


def check_key(path: Path, ballot: str) -> None:
    """Check that a ballot's key does not replace that of another one, whose votes could no longer be counted.

    Raises:
        BadConfig: there is a key of another ballot, or another file.
    """
    if path.exists() and ballot not in _read_keys([path]):
        raise BadConfig(
            "it is the key of another ballot, whose votes need it: name another page by --output, or move the key away",
            uri=str(path),
        )


def tally(paths: Sequence[Path], keys: Sequence[Path] = (), seed: int = 0) -> Tally:
    """Count the votes in some files.

    Args:
        paths: files of votes. Of two votes of a voter on a pair the one in the file that was saved last counts.
        keys: keys of the ballots; by default all beside the votes or in the current folder.
        seed: of the resamples.

    Raises:
        BadConfig: a file cannot be used, a ballot has no key, or there are no votes.
    """
    files = [_read_votes(path) for path in paths]
    keys = keys or _keys_beside(paths)
    known = _read_keys(keys)
    notes: list[str] = []
    cast: dict[tuple[str, str, str], str] = {}
    counts = Counter[str]()
    for path, votes in sorted(zip(paths, files, strict=True), key=lambda each: _saved_s(each[1])):
        if votes.ballot not in known:
            others = f"{', '.join(map(str, keys))}: keys of other ballots; " if keys else ""
            sentence = "the key of its ballot is not there: name the one that was written beside the page by --key"
            raise BadConfig(others + sentence, uri=str(path))
        for vote in votes.votes:
            place = votes.ballot, vote.pair, votes.voter
            counts["unknown"] += vote.pair not in known[votes.ballot]
            counts["again"] += place in cast
            if vote.pair in known[votes.ballot]:
                cast[place] = vote.choice
    if counts["unknown"]:
        notes.append(f"{counts['unknown']:,} votes are on pairs that their ballot does not have, and do not count")
    if counts["again"]:
        notes.append(f"{counts['again']:,} votes are replaced by a later vote of the same voter on the same pair")
    if not cast:
        raise BadConfig("they hold no votes: vote on the ballot, and save the votes", uri=str(paths[0]))
    counted = [_vote(known[ballot][pair], voter, choice) for (ballot, pair, voter), choice in cast.items()]
    shares = [_SHARES[choice] for choice in cast.values()]
    return Tally(ranking_of(counted, seed=seed), shares.count(0.5), sum(shares) / len(shares), notes)


def _saved_s(votes: _VotesFile) -> float:
    """When a file was saved; those that do not say so were saved first, in the order in which they are named."""
    return votes.saved_at.timestamp() if votes.saved_at else -math.inf


def _vote(pair: Mapping[str, str], voter: str, choice: str) -> Vote:
    return Vote(pair["clip_id"], voter, (pair["left"], pair["right"]), _SHARES[choice])


def _read_votes(path: Path) -> _VotesFile:
    return read_options(_VotesFile, _read_json(path, _WHERE), _WHERE, str(path))


def _keys_beside(votes: Sequence[Path]) -> list[Path]:
    """Files beside the votes or in the current folder that are keys of ballots by their name and contents."""
    folders = dict.fromkeys([*(path.parent for path in votes), Path()])
    found = sorted(path for folder in folders for path in folder.glob(f"*{_KEY_ENDING}"))
    return [path for path in found if path.is_file() and b'"ballot"' in path.read_bytes()]


def _read_keys(paths: Sequence[Path]) -> dict[str, dict[str, dict[str, str]]]:
    """The pairs of each ballot: clip, and the method of each side."""
    known: dict[str, dict[str, dict[str, str]]] = {}
    for path in paths:
        key = _read_json(path, "`aai evaluate ballot` writes a ballot's key beside its page")
        try:
            known[key["ballot"]] = {
                pair: {"clip_id": _text(row["clip_id"])}
                | {side: _text(row[side]["method"]) for side in ("left", "right")}
                for pair, row in key["pairs"].items()
            }
        except (KeyError, TypeError, AttributeError) as error:
            raise BadConfig("it is no key of a ballot: name another file", uri=str(path)) from error
    return known


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError("it is no text")
    return value


def _read_json(path: Path, remedy: str) -> Any:
    try:
        with path.open("rb") as file:
            data = file.read(_MAX_BYTES + 1)
        if len(data) > _MAX_BYTES:
            raise BadConfig(f"it has more than {_MAX_BYTES:,} bytes: {remedy}", uri=str(path))
        found = json.loads(data)
    except FileNotFoundError as error:
        raise BadConfig(f"there is no such file: {remedy}", uri=str(path)) from error
    except (OSError, ValueError, RecursionError) as error:
        raise BadConfig(f"it cannot be read as JSON: {remedy}", uri=str(path)) from error
    if not isinstance(found, dict):
        raise BadConfig(f"it is no mapping: {remedy}", uri=str(path))
    return found
