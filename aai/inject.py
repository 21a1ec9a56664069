"""Inject: a cue stands in a prompt like a word.

A prompt holds the placeholder `*` where the cue belongs. In tokens that is one place for each of the cue's rows, and
while the text encoder runs, its token embedding gives those rows there instead of a word's.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn


@dataclass(frozen=True)
class Frame:
    """What stands around the tokens of a prompt, and how many tokens that makes in all."""

    start: int
    end: int
    padding: int
    length: int


def frame_tokens(pieces: Sequence[Sequence[int]], num_rows: int, frame: Frame) -> tuple[list[int], list[bool]]:
    """Token ids of a prompt in its frame, and which of them are places of cue rows.

    `pieces` are the tokens between placeholders, tokenised piece by piece: a vocabulary that joins `*` with what
    stands beside it, as CLIP's joins "*," to one token, never sees the placeholder. What exceeds the frame is cut off,
    places too. A place holds the start token, which every vocabulary has and no text encoder looks for.
    """
    room = frame.length - 2
    ids, places = list(pieces[0]), [False] * len(pieces[0])
    for piece in pieces[1:]:
        ids += [frame.start] * num_rows + list(piece)
        places += [True] * num_rows + [False] * len(piece)
    ids, places = ids[:room], places[:room]
    empty = room - len(ids)
    return [frame.start, *ids, frame.end] + [frame.padding] * empty, [False, *places, False] + [False] * empty


def splice(
    embeddings: Float[Tensor, "prompts tokens dim"],
    places: Bool[Tensor, "prompts tokens"],
    cues: Float[Tensor, "prompts rows dim"],
) -> Float[Tensor, "prompts tokens dim"]:
    """Put each prompt's cue where its places are: the first row at the first, and so on, over and over."""
    row = (places.long().cumsum(dim=1) - 1).clamp(min=0) % cues.shape[1]
    chosen = cues.gather(1, row[:, :, None].expand(-1, -1, cues.shape[2]))
    return torch.where(places[:, :, None], chosen.to(embeddings.dtype), embeddings)


@contextmanager
def spliced(
    embedding: nn.Embedding,
    places: Bool[Tensor, "prompts tokens"],
    cues: Float[Tensor, "prompts rows dim"] | None,
) -> Iterator[None]:
    """While this is open, a token embedding gives the cues at their places; without cues it changes nothing."""
    if cues is None:
        yield
        return

    def replace_rows(_module: nn.Module, _inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        return splice(output, places, cues)

    handle = embedding.register_forward_hook(replace_rows)
    try:
        yield
    finally:
        handle.remove()
