"""Inject: a cue stands in a prompt like a word.

A prompt holds the placeholder `*` where the cue belongs. In tokens that is one placeholder for each of the cue's
rows, and while the text encoder runs, its token embedding gives those rows there instead of its own.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

PLACEHOLDER = "*"


def spread_placeholders(prompt: str, num_rows: int) -> str:
    """The prompt with as many placeholders as the cue has rows: "a * city" becomes "a * * city" for two rows."""
    return prompt.replace(PLACEHOLDER, " ".join([PLACEHOLDER] * num_rows))


def splice(
    embeddings: Float[Tensor, "prompts tokens dim"],
    token_ids: Int[Tensor, "prompts tokens"],
    placeholder_id: int,
    cues: Float[Tensor, "prompts rows dim"],
) -> Float[Tensor, "prompts tokens dim"]:
    """Put each prompt's cue where its placeholders are: the first row at the first, and so on, over and over."""
    places = token_ids == placeholder_id
    row = (places.long().cumsum(dim=1) - 1).clamp(min=0) % cues.shape[1]
    chosen = cues.gather(1, row[:, :, None].expand(-1, -1, cues.shape[2]))
    return torch.where(places[:, :, None], chosen.to(embeddings.dtype), embeddings)


@contextmanager
def spliced(
    embedding: nn.Embedding, placeholder_id: int, cues: Float[Tensor, "prompts rows dim"] | None
) -> Iterator[None]:
    """While this is open, a token embedding gives the cues at the placeholders; without cues it changes nothing."""
    if cues is None:
        yield
        return

    def replace_rows(_module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        return splice(output, inputs[0], placeholder_id, cues)

    handle = embedding.register_forward_hook(replace_rows)
    try:
        yield
    finally:
        handle.remove()
