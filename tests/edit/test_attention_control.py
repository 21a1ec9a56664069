"""Attention without maps is what Prompt-to-Prompt's replaced maps give."""

import pytest
import torch
from diffusers.models.attention_processor import Attention, AttnProcessor2_0

from aai.edit.attention_control import Shared, Sharing, _halved, _SharingProcessor, match_tokens
from aai.errors import BadItem

SIDES, HEADS, DIM, CONTEXT, TOKENS = (16, 24), 2, 8, 6, 5
EDITS, SOURCES = torch.tensor([2, 3]), torch.tensor([1, 0])


def new_sharing(**options) -> Sharing:
    """Two sources, two edits, and a row that is neither; the second edit's source is the first."""
    shared = Shared(
        column=torch.tensor([[0, 1, 0, 2, 3], [0, 0, 2, 3, 4]]),
        share=torch.tensor([[1.0, 1, 0, 1, 1], [1, 0, 1, 1, 1]]),
        weight=torch.tensor([[1.0, 2, 1, 1, 1], [1, 1, 0.5, 1, 1]]),
        is_cue=torch.tensor([[False, False, True, False, False], [False, True, False, False, False]]),
    )
    return Sharing(EDITS, SOURCES, shared, SIDES, most_positions=400, **options)


@pytest.fixture
def layer() -> Attention:
    torch.manual_seed(0)
    return Attention(DIM * HEADS, CONTEXT, heads=HEADS, dim_head=DIM).eval()


@pytest.fixture
def own() -> Attention:
    torch.manual_seed(1)
    return Attention(DIM * HEADS, heads=HEADS, dim_head=DIM).eval()


def inputs(num_positions: int) -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(2)
    return torch.randn(5, num_positions, DIM * HEADS), torch.randn(5, TOKENS, CONTEXT)


def maps_of(layer: Attention, hidden: torch.Tensor, read: torch.Tensor) -> torch.Tensor:
    """Rows x heads x positions x what is attended to."""
    query, key = layer.to_q(hidden), layer.to_k(read)
    query, key = (part.unflatten(2, (HEADS, DIM)).transpose(1, 2) for part in (query, key))
    return (query @ key.mT / DIM**0.5).softmax(-1)


def out_of(layer: Attention, maps: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    mixed = maps @ values.unflatten(2, (HEADS, DIM)).transpose(1, 2)
    return layer.to_out[0](mixed.transpose(1, 2).flatten(2))


def test_without_sharing_it_is_the_librarys_attention(layer, own):
    sharing = new_sharing()
    sharing.shared.weight.fill_(1)
    hidden, context = inputs(384)
    for attention, read in ((layer, context), (own, None)):
        wanted = AttnProcessor2_0()(attention, hidden, read)
        assert torch.allclose(_SharingProcessor(sharing)(attention, hidden, read), wanted, atol=1e-6)


def test_words_of_both_prompts_are_seen_where_the_source_saw_them(layer):
    """By hand: the columns of the edit's maps that both prompts have are replaced by the source's."""
    sharing, (hidden, context) = new_sharing(cross_on=True), inputs(384)
    maps = maps_of(layer, hidden, context)
    replaced = maps.clone()
    for number, (edit, source) in enumerate(zip(EDITS, SOURCES, strict=True)):
        for token in range(TOKENS):
            if sharing.shared.share[number, token]:
                replaced[edit, :, :, token] = maps[source, :, :, sharing.shared.column[number, token]]
    values = layer.to_v(context)
    values[EDITS] *= sharing.shared.weight[:, :, None]
    wanted = out_of(layer, replaced, values)
    assert not torch.allclose(wanted[EDITS], out_of(layer, maps, values)[EDITS], atol=1e-2)
    assert torch.allclose(_SharingProcessor(sharing)(layer, hidden, context), wanted, atol=1e-5)


def test_an_edit_has_its_sources_layout_and_its_own_looks(own):
    sharing, (hidden, _) = new_sharing(self_on=True), inputs(384)
    maps, values = maps_of(own, hidden, hidden), own.to_v(hidden)
    wanted = out_of(own, maps.index_copy(0, EDITS, maps[SOURCES]), values)
    assert torch.allclose(_SharingProcessor(sharing)(own, hidden), wanted, atol=1e-5)
    assert not torch.allclose(wanted[EDITS], out_of(own, maps, values)[EDITS], atol=1e-3)
    sharing.most_positions = 383
    assert torch.allclose(_SharingProcessor(sharing)(own, hidden), out_of(own, maps, values), atol=1e-5)


def test_where_cues_act_is_what_looks_at_them(layer):
    sharing, processor = new_sharing(), None
    processor = _SharingProcessor(sharing)
    (hidden, context), seen = inputs(384), 0
    for _ in range(2):
        processor(layer, hidden, context)
        maps = maps_of(layer, hidden, context)[EDITS].mean(1)
        seen = seen + torch.stack([maps[0, :, 2], maps[1, :, 1]])
        hidden = hidden.flip(1)
    lowest, highest = seen.amin(1, keepdim=True), seen.amax(1, keepdim=True)
    wanted = ((seen - lowest) / (highest - lowest)).view(2, *SIDES)
    assert torch.allclose(sharing.where_cues_act(), wanted, atol=1e-4)


def test_maps_that_are_too_small_tell_nothing(layer):
    sharing, (hidden, context) = new_sharing(), inputs(96)
    _SharingProcessor(sharing)(layer, hidden, context)
    with pytest.raises(BadItem, match="24 x 16 latents are too small .* set it to difference"):
        sharing.where_cues_act()


@pytest.mark.parametrize(
    ("source", "edit", "column", "share"),
    [
        ([1, 5, 9, 0], [1, 5, 9, 0], [0, 1, 2, 3], [1, 1, 1, 1]),
        ([1, 5, 9, 0], [1, -1, 5, 9], [0, 0, 1, 2], [1, 0, 1, 1]),
        ([1, 5, 9, 9], [1, 7, 9, 9], [0, 0, 2, 3], [1, 0, 1, 1]),
        ([1, 2, 3, 0], [4, 5, 6, 7], [0, 0, 0, 0], [0, 0, 0, 0]),
    ],
)
def test_tokens_are_matched_in_order(source, edit, column, share):
    found, shared = match_tokens([source], [edit])
    assert shared.tolist() == [share]
    assert [at for at, same in zip(found[0].tolist(), share, strict=True) if same] == [
        at for at, same in zip(column, share, strict=True) if same
    ]


def test_maps_are_the_latents_halved():
    assert _halved((16, 24), 96) == (8, 12) and _halved((9, 5), 15) == (5, 3)
    with pytest.raises(AssertionError, match="100 positions are no halving"):
        _halved((16, 24), 100)
