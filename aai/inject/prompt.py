"""Prompts: words, with a `*` wherever a cue stands.

    a photo of *                      the cue
    a photo of *rain and *fire        two cues by name
    a photo of *:0.5 and *fire:1.5    a weaker and a stronger cue than they are, in what the model makes of them

A name begins with a letter right after the star, and goes on with letters, digits, `_` and `-`. A strength is a number
after a colon; 1 is the cue as it is, 0 none of it.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

from aai.errors import BadItem
from aai.options import PLACEHOLDER

LEAST_STRENGTH, MOST_STRENGTH = -2.0, 2.0

UNNAMED = ""
"""The name of the cue that a star alone stands for."""

_DECIMALS = 6  # of a strength, so that it can be written again
_SLOT = re.compile(
    rf"{re.escape(PLACEHOLDER)}(?P<name>[^\W\d_](?:[\w-]*\w)?)?(?::(?P<strength>[-+]?\.?\d[\w.]*(?<!\.)))?"
)


@dataclass(frozen=True)
class Slot:
    """A place of a cue in a prompt."""

    name: str = UNNAMED
    """Which cue stands there."""

    strength: float = 1.0
    """How much of it, in [-2, 2]."""

    def __str__(self) -> str:
        """As it is written in a prompt."""
        said = "" if self.strength == 1 else f":{self.strength:.{_DECIMALS}f}".rstrip("0").rstrip(".")
        return f"{PLACEHOLDER}{self.name}{said}"


@dataclass(frozen=True)
class Prompt:
    """A prompt, taken apart."""

    pieces: tuple[str, ...]
    """The words before, between and after the slots: one more than these."""

    slots: tuple[Slot, ...]
    """Where cues stand, in order."""

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the different cues, as they first come."""
        return tuple(dict.fromkeys(slot.name for slot in self.slots))

    @property
    def changed(self) -> dict[str, float]:
        """The strengths that are not 1, by name."""
        return {slot.name: slot.strength for slot in self.slots if slot.strength != 1}

    def in_words(self, words: Mapping[str, str]) -> str:
        """The prompt with words where the cues stood."""
        said = [words[slot.name] for slot in self.slots]
        return "".join(f"{piece}{word}" for piece, word in zip(self.pieces, [*said, ""], strict=True))

    def __str__(self) -> str:
        """As it is written; what follows a slot and would be taken for a part of it is kept apart by a space."""
        text = self.pieces[0]
        for slot, piece in zip(self.slots, self.pieces[1:], strict=True):
            own = str(slot)
            found = _SLOT.match(own + piece)
            text += own + (piece if found and found.end() == len(own) else f" {piece}")
        return text


@lru_cache(maxsize=4_096)
def parse(text: str) -> Prompt:
    """A prompt taken apart; written again, it is the same prompt.

    Raises:
        BadItem: a strength is no number or out of range, or one cue has two.
    """
    pieces, slots, end = [], [], 0
    for found in _SLOT.finditer(text):
        pieces.append(text[end : found.start()])
        slots.append(Slot(found["name"] or UNNAMED, _strength(found)))
        end = found.end()
    strengths: dict[str, float] = {}
    for slot in slots:
        other = strengths.setdefault(slot.name, slot.strength)
        if other != slot.strength:
            raise BadItem(
                f"{PLACEHOLDER}{slot.name} has two strengths, {other:g} and {slot.strength:g}: give it one everywhere"
            )
    return Prompt((*pieces, text[end:]), tuple(slots))


def _strength(found: re.Match[str]) -> float:
    said = found["strength"]
    if said is None:
        return 1.0
    try:
        strength = round(float(said), _DECIMALS)
    except ValueError as error:
        raise BadItem(f"{found[0]}: {said!r} is no strength: write a number, as in {PLACEHOLDER}:0.6") from error
    if not LEAST_STRENGTH <= strength <= MOST_STRENGTH:
        raise BadItem(
            f"{found[0]}: a strength is from {LEAST_STRENGTH:g} to {MOST_STRENGTH:g}, and 1 leaves the cue as it is"
        )
    return strength
