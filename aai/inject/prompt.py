"""Prompt syntax: text with a `*` wherever a cue is injected.

    a photo of *                      the cue
    a photo of *rain and *fire        two cues by name
    a photo of *:0.5 and *fire:1.5    a weaker and a stronger cue

A name starts with a letter right after the star and continues with letters, digits, `_` and `-`. A strength is a number
after a colon: 1 applies the cue unchanged, 0 not at all. Any other word right after the colon is an error.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from aai.errors import BadItem
from aai.options import PLACEHOLDER

MIN_STRENGTH, MAX_STRENGTH = -2.0, 2.0

UNNAMED = ""
"""The name of the cue at a star without a name."""

_DECIMALS = 6  # of a strength, so that formatting and parsing it is exact
_SLOT = re.compile(
    rf"{re.escape(PLACEHOLDER)}(?P<name>[^\W\d_](?:[\w-]*\w)?)?(?::(?P<strength>[-+]?\.?[^\W_][\w.]*(?<!\.)))?"
)


@dataclass(frozen=True)
class Slot:
    """A placeholder of a prompt."""

    name: str = UNNAMED
    """Name of the cue that is injected here."""

    strength: float = 1.0
    """Weight of the cue, in [-2, 2]."""

    def __str__(self) -> str:
        """The placeholder as prompt text."""
        suffix = "" if self.strength == 1 else f":{self.strength:.{_DECIMALS}f}".rstrip("0").rstrip(".")
        return f"{PLACEHOLDER}{self.name}{suffix}"


@dataclass(frozen=True)
class Prompt:
    """A parsed prompt."""

    pieces: tuple[str, ...]
    """The text before, between and after the slots: one more than there are slots."""

    slots: tuple[Slot, ...]
    """The placeholders, in order."""

    @property
    def names(self) -> tuple[str, ...]:
        """The distinct cue names, in order of first appearance."""
        return tuple(dict.fromkeys(slot.name for slot in self.slots))

    @property
    def scaled(self) -> dict[str, float]:
        """The strengths other than 1, by cue name."""
        return {slot.name: slot.strength for slot in self.slots if slot.strength != 1}

    def in_words(self, words: Mapping[str, str]) -> str:
        """The prompt with each placeholder replaced by the word for its cue name."""
        fillers = [words[slot.name] for slot in self.slots]
        return "".join(f"{piece}{word}" for piece, word in zip(self.pieces, [*fillers, ""], strict=True))

    def __str__(self) -> str:
        """The prompt as text; a space separates a slot from text that would otherwise be parsed as part of it."""
        text = self.pieces[0]
        for slot, piece in zip(self.slots, self.pieces[1:], strict=True):
            placeholder = str(slot)
            match = _SLOT.match(placeholder + piece)
            text += placeholder + (piece if match and match.end() == len(placeholder) else f" {piece}")
        return text


@lru_cache(maxsize=4_096)
def parse(text: str) -> Prompt:
    """Parse a prompt; parsing `str` of the result gives an equal prompt.

    Raises:
        BadItem: a strength is not a number or is out of range, or one cue has two strengths.
    """
    pieces, slots, end = [], [], 0
    for match in _SLOT.finditer(text):
        pieces.append(text[end : match.start()])
        slots.append(Slot(match["name"] or UNNAMED, _parse_strength(match)))
        end = match.end()
    strengths: dict[str, float] = {}
    for slot in slots:
        first = strengths.setdefault(slot.name, slot.strength)
        if first != slot.strength:
            raise BadItem(
                f"{PLACEHOLDER}{slot.name} has two strengths, {first:g} and {slot.strength:g}: give it one everywhere"
            )
    return Prompt((*pieces, text[end:]), tuple(slots))


def caption_of(prompt: str, labels: Sequence[str | None], is_blend: bool = False) -> str | None:
    """A prompt with the labels of its cues in their places; none if a cue has no label, or a blend has two.

    A blend has the labels of both its ends, at the cue without a name.
    """
    parsed, words = parse(prompt), list(labels)
    if not parsed.names:
        return prompt
    if is_blend:
        first = parsed.names.index(UNNAMED)
        start, end = words[first : first + 2]
        words[first : first + 2] = [start if start == end else None]
    return None if None in words else parsed.in_words(dict(zip(parsed.names, filter(None, words), strict=True)))


def _parse_strength(match: re.Match[str]) -> float:
    text = match["strength"]
    if text is None:
        return 1.0
    try:
        strength = round(float(text), _DECIMALS)
    except ValueError as error:
        raise BadItem(f"{match[0]}: {text!r} is not a number: write a strength as in {PLACEHOLDER}:0.6") from error
    if not MIN_STRENGTH <= strength <= MAX_STRENGTH:
        raise BadItem(
            f"{match[0]}: a strength is from {MIN_STRENGTH:g} to {MAX_STRENGTH:g}, and 1 leaves the cue unchanged"
        )
    return strength
