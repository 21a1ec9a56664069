"""Injection of cue vectors into the token embeddings of a prompt.

A prompt has a placeholder for each cue (see `aai.inject.prompt`). In the token sequence a placeholder takes one
position for each of the cue's vectors, and the text encoder's token embedding layer returns the vectors there.

Source: Gal et al. 2022, "An Image is Worth One Word", section 3 (pseudo-words of textual inversion).
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

NO_CUE = -1
"""Vector index at the positions of ordinary tokens."""


@dataclass(frozen=True)
class SpecialTokens:
    """The special token ids around a prompt, and the length of the padded sequence."""

    start: int
    end: int
    padding: int
    length: int

    @property
    def max_tokens(self) -> int:
        """The longest prompt, in tokens."""
        return self.length - 2


def build_token_ids(
    pieces: Sequence[Sequence[int]], slots: Sequence[Sequence[int]], special: SpecialTokens
) -> tuple[list[int], list[int]]:
    """Token ids of a prompt, padded, and the index of the cue vector at each position, or `NO_CUE`.

    `pieces` are the tokens of the text between placeholders, tokenised piece by piece: a vocabulary that merges `*`
    with its neighbours (CLIP's merges "*," into one token) never sees the placeholder. `slots` are the vector indices
    between one piece and the next. A slot's positions hold the start token, which every vocabulary has and no text
    encoder searches for. The prompt has at most `special.max_tokens` (see `aai.inject.context`).
    """
    ids, indices = list(pieces[0]), [NO_CUE] * len(pieces[0])
    for slot, piece in zip(slots, pieces[1:], strict=True):
        ids += [special.start] * len(slot) + list(piece)
        indices += [*slot, *[NO_CUE] * len(piece)]
    num_padding = special.max_tokens - len(ids)
    assert num_padding >= 0, "the text encoder refuses longer prompts"
    ids = [special.start, *ids, special.end] + [special.padding] * num_padding
    return ids, [NO_CUE, *indices, NO_CUE] + [NO_CUE] * num_padding


def splice(
    embeddings: Float[Tensor, "prompts tokens dim"],
    indices: Int[Tensor, "prompts tokens"],
    cues: Float[Tensor, "prompts vectors dim"],
) -> Float[Tensor, "prompts tokens dim"]:
    """Replace the embedding at each position that has a cue vector."""
    vectors = cues.gather(1, indices.clamp(min=0)[:, :, None].expand(-1, -1, cues.shape[2]))
    return torch.where((indices != NO_CUE)[:, :, None], vectors.to(embeddings.dtype), embeddings)


@contextmanager
def spliced(
    embedding: nn.Embedding,
    indices: Int[Tensor, "prompts tokens"],
    cues: Float[Tensor, "prompts vectors dim"] | None,
) -> Iterator[None]:
    """Context manager: the embedding layer returns cue vectors at placeholder positions; without cues it is a no-op."""
    if cues is None:
        yield
        return

    def replace_embeddings(_module: nn.Module, _inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        return splice(output, indices, cues)

    handle = embedding.register_forward_hook(replace_embeddings)
    try:
        yield
    finally:
        handle.remove()
