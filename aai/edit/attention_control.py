"""Attention in which edits take after their sources, and which tells where their cues act.

Attention is linear in its values, so no attention map is held in memory: where Prompt-to-Prompt replaces maps, an
edit's values are attended to with its source's queries and keys. Maps are made where they are looked at, in few layers.

Source: Hertz et al. 2022, "Prompt-to-Prompt Image Editing with Cross Attention Control", section 3.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from difflib import SequenceMatcher

import torch
import torch.nn.functional as F
from diffusers import UNet2DConditionModel
from diffusers.models.attention_processor import Attention
from jaxtyping import Bool, Float, Int
from torch import Tensor

from aai.errors import BadItem

_TELLING_SIDES = (16, 32)
"""Sides of the maps, in positions, that tell where a cue acts: coarser ones are vague, finer ones see much else."""


@dataclass(frozen=True)
class Shared:
    """What the tokens of edits' prompts have in common with those of their sources' prompts."""

    column: Int[Tensor, "edits tokens"]
    """Where the same token stands in the source's prompt; anything for a token that does not."""

    share: Float[Tensor, "edits tokens"]
    """How much of a token's map is the source's: 1 for tokens of both, 0 for what is new."""

    weight: Float[Tensor, "edits tokens"]
    """Factor on what a token says; 1 for most."""

    is_cue: Bool[Tensor, "edits tokens"]
    """The tokens whose maps tell where the edit is."""

    def to(self, device: torch.device) -> "Shared":
        """The same on a device."""
        return Shared(*(value.to(device) for value in (self.column, self.share, self.weight, self.is_cue)))


def match_tokens(sources: Sequence[Sequence[int]], edits: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
    """`Shared.column` and `Shared.share` of prompts in tokens: the longest runs that both have, in order.

    Source: as above, "prompt refinement": words of both take the source's maps, new ones keep their own.
    """
    column = torch.zeros(len(edits), len(edits[0]), dtype=torch.long)
    share = torch.zeros(len(edits), len(edits[0]))
    for row, (source, edit) in enumerate(zip(sources, edits, strict=True)):
        for start, at, size in SequenceMatcher(None, source, edit, autojunk=False).get_matching_blocks():
            column[row, at : at + size] = torch.arange(start, start + size)
            share[row, at : at + size] = 1
    return column, share


@dataclass
class Sharing:
    """Who takes after whom in the UNet's batch, and how far at this step."""

    edits: Int[Tensor, " edits"]
    """Rows of edits, those under their prompts."""

    sources: Int[Tensor, " edits"]
    """Their sources' rows."""

    shared: Shared

    sides: tuple[int, int]
    """Of the latents: down and across."""

    most_positions: int
    """Self-attention over more positions than these is each picture's own."""

    self_on: bool = False
    cross_on: bool = False

    heat: dict[tuple[int, int], Tensor] = field(default_factory=dict)
    """Of each size of map, edits x positions: how much each looked at cues, summed over layers and steps."""

    def where_cues_act(self) -> Float[Tensor, "edits height width"]:
        """How much was made of cues so far, at the latents' size: from 0 to 1 in each edit.

        Raises:
            BadItem: no layer has maps of a size that tells.
        """
        if not self.heat:
            raise BadItem(
                f"edit.mask: pictures of {self.sides[1]} x {self.sides[0]} latents are too small to see in the model's "
                "attention where a cue acts: set it to difference"
            )
        maps = [F.interpolate(each.view(-1, 1, *size), self.sides, mode="bilinear") for size, each in self.heat.items()]
        summed = sum(each / each.mean((1, 2, 3), keepdim=True) for each in maps)
        assert isinstance(summed, Tensor)
        low, high = summed.amin((1, 2, 3), keepdim=True), summed.amax((1, 2, 3), keepdim=True)
        return ((summed - low) / (high - low).clamp(min=1e-6))[:, 0]

    def look(self, query: Tensor, key: Tensor) -> None:
        """Note how much each position of the edits looks at the cues, if maps of this size tell."""
        size = _halved(self.sides, query.shape[2])
        if _TELLING_SIDES[0] <= max(size) <= _TELLING_SIDES[1]:
            weights = (query @ key.mT * query.shape[-1] ** -0.5).softmax(-1).mean(1)
            seen = (weights * self.shared.is_cue[:, None]).sum(-1).float()
            self.heat[size] = seen + self.heat.get(size, 0)


@contextmanager
def sharing_attention(unet: UNet2DConditionModel, sharing: Sharing) -> Iterator[None]:
    """While this is open, rows of edits take after their sources."""
    before = unet.attn_processors
    unet.set_attn_processor(_SharingProcessor(sharing))
    try:
        yield
    finally:
        unet.set_attn_processor(before)


class _SharingProcessor:
    """Attention as ever, but for the rows of edits."""

    def __init__(self, sharing: Sharing) -> None:
        self.sharing = sharing

    def __call__(
        self,
        attn: Attention,
        hidden_states: Float[Tensor, "rows positions dim"],
        encoder_hidden_states: Float[Tensor, "rows tokens context_dim"] | None = None,
        attention_mask: None = None,
        temb: Tensor | None = None,
    ) -> Float[Tensor, "rows positions dim"]:
        read = hidden_states if encoder_hidden_states is None else encoder_hidden_states
        parts = attn.to_q(hidden_states), attn.to_k(read), attn.to_v(read)
        query, key, value = (part.unflatten(2, (attn.heads, -1)).transpose(1, 2) for part in parts)
        attend = self._to_itself if encoder_hidden_states is None else self._to_words
        mixed = attend(query, key, value).transpose(1, 2).flatten(2)
        return attn.to_out[1](attn.to_out[0](mixed))

    def _to_itself(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """Queries and keys are the source's, values the edit's own: they keep its layout and not its looks."""
        sharing = self.sharing
        if sharing.self_on and query.shape[2] <= sharing.most_positions:
            query = query.index_copy(0, sharing.edits, query[sharing.sources])
            key = key.index_copy(0, sharing.edits, key[sharing.sources])
        return F.scaled_dot_product_attention(query, key, value)

    def _to_words(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """Tokens of both prompts are seen where the source saw them, new ones where the edit sees them."""
        sharing, edits, sources = self.sharing, self.sharing.edits, self.sharing.sources
        sharing.look(query[edits], key[edits])
        said = value[edits] * sharing.shared.weight[:, None, :, None].to(value.dtype)
        share = sharing.shared.share[:, None, :, None].to(value.dtype) * sharing.cross_on
        mixed = F.scaled_dot_product_attention(query, key, value.index_copy(0, edits, said * (1 - share)))
        if not sharing.cross_on:
            return mixed
        columns = sharing.shared.column[:, None, :, None].expand_as(said)
        aligned = torch.zeros_like(said).scatter_add(2, columns, said * share)
        return mixed.index_add(0, edits, F.scaled_dot_product_attention(query[sources], key[sources], aligned))


def _halved(sides: tuple[int, int], num_positions: int) -> tuple[int, int]:
    """Down and across of a map: the latents halved, and halved again, until there are so many positions."""
    down, across = sides
    while down * across > num_positions:
        down, across = (down + 1) // 2, (across + 1) // 2
    assert down * across == num_positions, f"{num_positions} positions are no halving of {sides}"
    return down, across
