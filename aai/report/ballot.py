"""A ballot: a self-contained page on which a voter hears a clip and chooses between two pictures, method unseen."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from aai.report.page import render


@dataclass(frozen=True)
class BallotPair:
    """Two pictures of a clip; nothing here says which methods they are of."""

    id: str
    sound: str
    """Key of the sound."""
    prompt: str
    left: str
    """The picture as a data URI."""
    right: str


@dataclass(frozen=True)
class Ballot:
    """Contents of the page."""

    id: str
    question: str
    pairs: Sequence[BallotPair]
    sounds: Mapping[str, str]
    """Data URIs by key."""

    def as_json(self) -> dict[str, Any]:
        """What the page's script reads."""
        return {
            "id": self.id,
            "question": self.question,
            "sounds": dict(self.sounds),
            "pairs": [asdict(pair) for pair in self.pairs],
        }


def ballot_page(ballot: Ballot) -> str:
    """The page as HTML."""
    return render("ballot.html", "ballot.js", ballot=ballot, data=ballot.as_json())
