"""Inject: cues stand in a prompt like words.

A prompt holds a placeholder where a cue belongs (see `aai.inject.prompt`). In tokens that is one place for each of the
cue's rows, and while the text encoder runs, its token embedding gives those rows there instead of a word's.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

NO_ROW = -1
"""What stands, among indices of rows, at a token that is a word."""


@dataclass(frozen=True)
class Frame:
    """What stands around the tokens of a prompt, and how many tokens that makes in all."""

    start: int
    end: int
    padding: int
    length: int


def frame_tokens(
    pieces: Sequence[Sequence[int]], slots: Sequence[Sequence[int]], frame: Frame
) -> tuple[list[int], list[int]]:
    """Token ids of a prompt in its frame, and which of its cues' rows stands at each; `NO_ROW` for none.

    `pieces` are the tokens between placeholders, tokenised piece by piece: a vocabulary that joins `*` with what
    stands beside it, as CLIP's joins "*," to one token, never sees the placeholder. `slots` are the rows that stand
    between one piece and the next. What exceeds the frame is cut off, places too. A place holds the start token, which
    every vocabulary has and no text encoder looks for.
    """
    room = frame.length - 2
    ids, rows = list(pieces[0]), [NO_ROW] * len(pieces[0])
    for slot, piece in zip(slots, pieces[1:], strict=True):
        ids += [frame.start] * len(slot) + list(piece)
        rows += [*slot, *[NO_ROW] * len(piece)]
    ids, rows = ids[:room], rows[:room]
    empty = room - len(ids)
    ids = [frame.start, *ids, frame.end] + [frame.padding] * empty
    return ids, [NO_ROW, *rows, NO_ROW] + [NO_ROW] * empty


def splice(
    embeddings: Float[Tensor, "prompts tokens dim"],
    rows: Int[Tensor, "prompts tokens"],
    cues: Float[Tensor, "prompts rows dim"],
) -> Float[Tensor, "prompts tokens dim"]:
    """Put the rows of each prompt's cues where they belong."""
    chosen = cues.gather(1, rows.clamp(min=0)[:, :, None].expand(-1, -1, cues.shape[2]))
    return torch.where((rows != NO_ROW)[:, :, None], chosen.to(embeddings.dtype), embeddings)


@contextmanager
def spliced(
    embedding: nn.Embedding,
    rows: Int[Tensor, "prompts tokens"],
    cues: Float[Tensor, "prompts rows dim"] | None,
) -> Iterator[None]:
    """While this is open, a token embedding gives the cues at their places; without cues it changes nothing."""
    if cues is None:
        yield
        return

    def replace_rows(_module: nn.Module, _inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        return splice(output, rows, cues)

    handle = embedding.register_forward_hook(replace_rows)
    try:
        yield
    finally:
        handle.remove()
