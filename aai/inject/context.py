"""The length of prompts, in tokens of a text encoder. Nothing is ever cut off: what is too long is an error."""

from collections.abc import Callable, Sequence
from itertools import groupby
from textwrap import shorten

from aai.errors import BadItem
from aai.inject.prompt import Prompt, Slot

_MAX_QUOTED = 80  # characters of a prompt in a message


def fault_of(
    prompt: Prompt,
    pieces: Sequence[Sequence[int]],
    num_vectors: Sequence[int],
    limit: int,
    decode: Callable[[list[int]], str],
) -> BadItem | None:
    """The error of a prompt that is longer than `limit` tokens; none if it fits.

    `pieces` are the tokens of the text between the slots, `num_vectors` the token vectors at each slot.
    """
    tokens: list[int | Slot] = list(pieces[0])
    for slot, num, piece in zip(prompt.slots, num_vectors, pieces[1:], strict=True):
        tokens += [*[slot] * num, *piece]
    if len(tokens) <= limit:
        return None
    return BadItem(
        f"the prompt {_quoted(str(prompt))} has {len(tokens)} tokens, and the text encoder reads {limit}: shorten it "
        f"by its end, {_quoted(_text(tokens[limit:], decode))}, or elsewhere"
    )


def _text(tokens: Sequence[int | Slot], decode: Callable[[list[int]], str]) -> str:
    """Tokens as text; the vectors of a slot are one placeholder."""
    parts = []
    for slot, run in groupby(tokens, lambda token: token if isinstance(token, Slot) else None):
        parts.append(str(slot) if slot else decode([token for token in run if isinstance(token, int)]).strip())
    return " ".join(parts)


def _quoted(text: str) -> str:
    """The start of a text, in quotation marks."""
    return repr(shorten(text, _MAX_QUOTED, placeholder=" …"))
