"""Attention control without maps gives the results of Prompt-to-Prompt's replaced maps."""

import pytest
import torch
from diffusers import UNet2DConditionModel
from diffusers.models.attention_processor import Attention, AttnProcessor2_0

from aai.edit.attention_control import (
    AttentionControl,
    TokenAlignment,
    _ControlledAttnProcessor,
    _map_size,
    align_tokens,
    controlled_attention,
)
from aai.errors import BadConfig, BadItem
from tests.models.shrunk import DIM as TEXT_DIM
from tests.models.shrunk import new_unet

LATENT_SIZE, HEADS, DIM, CONTEXT_DIM, TOKENS = (16, 24), 2, 8, 6, 5
EDITS, SOURCES = torch.tensor([2, 3]), torch.tensor([1, 0])


def new_control(**options) -> AttentionControl:
    """Two sources, two edits and an unrelated batch element; the second edit's source is the first."""
    alignment = TokenAlignment(
        source_position=torch.tensor([[0, 1, 0, 2, 3], [0, 0, 2, 3, 4]]),
        is_shared=torch.tensor([[1.0, 1, 0, 1, 1], [1, 0, 1, 1, 1]]),
        weight=torch.tensor([[1.0, 2, 1, 1, 1], [1, 1, 0.5, 1, 1]]),
        is_cue=torch.tensor([[False, False, True, False, False], [False, True, False, False, False]]),
    )
    return AttentionControl(EDITS, SOURCES, alignment, LATENT_SIZE, max_self_positions=400, **options)


@pytest.fixture
def cross_layer() -> Attention:
    torch.manual_seed(0)
    return Attention(DIM * HEADS, CONTEXT_DIM, heads=HEADS, dim_head=DIM).eval()


@pytest.fixture
def self_layer() -> Attention:
    torch.manual_seed(1)
    return Attention(DIM * HEADS, heads=HEADS, dim_head=DIM).eval()


def inputs(num_positions: int) -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(2)
    return torch.randn(5, num_positions, DIM * HEADS), torch.randn(5, TOKENS, CONTEXT_DIM)


def maps_of(layer: Attention, hidden: torch.Tensor, context: torch.Tensor) -> torch.Tensor:
    """Attention maps: batch x heads x positions x tokens."""
    query, key = layer.to_q(hidden), layer.to_k(context)
    query, key = (part.unflatten(2, (HEADS, DIM)).transpose(1, 2) for part in (query, key))
    return (query @ key.mT / DIM**0.5).softmax(-1)


def output_of(layer: Attention, maps: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    output = maps @ values.unflatten(2, (HEADS, DIM)).transpose(1, 2)
    return layer.to_out[0](output.transpose(1, 2).flatten(2))


def test_without_injection_the_output_is_the_librarys(cross_layer, self_layer):
    control = new_control()
    control.alignment.weight.fill_(1)
    hidden, context = inputs(384)
    for layer, encoder_states in ((cross_layer, context), (self_layer, None)):
        expected = AttnProcessor2_0()(layer, hidden, encoder_states)
        assert torch.allclose(_ControlledAttnProcessor(control)(layer, hidden, encoder_states), expected, atol=1e-6)


def test_cross_attention_injection_replaces_the_maps_of_shared_tokens(cross_layer):
    control, (hidden, context) = new_control(cross_injection=True), inputs(384)
    maps = maps_of(cross_layer, hidden, context)
    replaced = maps.clone()
    for number, (edit, source) in enumerate(zip(EDITS, SOURCES, strict=True)):
        for token in range(TOKENS):
            if control.alignment.is_shared[number, token]:
                position = control.alignment.source_position[number, token]
                replaced[edit, :, :, token] = maps[source, :, :, position]
    values = cross_layer.to_v(context)
    values[EDITS] *= control.alignment.weight[:, :, None]
    expected = output_of(cross_layer, replaced, values)
    assert not torch.allclose(expected[EDITS], output_of(cross_layer, maps, values)[EDITS], atol=1e-2)
    assert torch.allclose(_ControlledAttnProcessor(control)(cross_layer, hidden, context), expected, atol=1e-5)


def test_self_attention_injection_replaces_the_maps_up_to_a_size(self_layer):
    control, (hidden, _) = new_control(self_injection=True), inputs(384)
    maps, values = maps_of(self_layer, hidden, hidden), self_layer.to_v(hidden)
    expected = output_of(self_layer, maps.index_copy(0, EDITS, maps[SOURCES]), values)
    plain = output_of(self_layer, maps, values)
    assert torch.allclose(_ControlledAttnProcessor(control)(self_layer, hidden), expected, atol=1e-5)
    assert not torch.allclose(expected[EDITS], plain[EDITS], atol=1e-3)
    control.max_self_positions = 383
    assert torch.allclose(_ControlledAttnProcessor(control)(self_layer, hidden), plain, atol=1e-5)


def test_the_cue_map_is_the_attention_to_the_cues(cross_layer):
    control, (hidden, context), total = new_control(records_maps=True), inputs(384), 0
    for _ in range(2):
        _ControlledAttnProcessor(control)(cross_layer, hidden, context)
        maps = maps_of(cross_layer, hidden, context)[EDITS].mean(1)
        total = total + torch.stack([maps[0, :, 2], maps[1, :, 1]])
        hidden = hidden.flip(1)
    low, high = total.amin(1, keepdim=True), total.amax(1, keepdim=True)
    expected = ((total - low) / (high - low)).view(2, *LATENT_SIZE)
    assert torch.allclose(control.cue_map(), expected, atol=1e-4)


def test_maps_are_computed_on_request_alone(cross_layer, monkeypatch):
    recorded, (hidden, context) = [], inputs(384)
    monkeypatch.setattr(AttentionControl, "record_map", lambda _, query, key: recorded.append(query.shape[2]))
    _ControlledAttnProcessor(new_control())(cross_layer, hidden, context)
    assert recorded == []
    _ControlledAttnProcessor(new_control(records_maps=True))(cross_layer, hidden, context)
    assert recorded == [384]


def test_maps_that_are_too_small_locate_no_cue(cross_layer):
    control, (hidden, context) = new_control(records_maps=True), inputs(96)
    _ControlledAttnProcessor(control)(cross_layer, hidden, context)
    with pytest.raises(BadItem, match="latents of 24 x 16 are too small .*: choose difference") as error:
        control.cue_map()
    assert error.value.key == "edit.mask"


@pytest.mark.parametrize(
    ("source", "edit", "source_position", "is_shared"),
    [
        ([1, 5, 9, 0], [1, 5, 9, 0], [0, 1, 2, 3], [1, 1, 1, 1]),
        ([1, 5, 9, 0], [1, -1, 5, 9], [0, 0, 1, 2], [1, 0, 1, 1]),
        ([1, 5, 9, 9], [1, 7, 9, 9], [0, 0, 2, 3], [1, 0, 1, 1]),
        ([1, 2, 3, 0], [4, 5, 6, 7], [0, 0, 0, 0], [0, 0, 0, 0]),
    ],
)
def test_tokens_are_aligned_in_order(source, edit, source_position, is_shared):
    positions, shared = align_tokens([source], [edit])
    assert shared.tolist() == [is_shared]
    assert (positions[0] * shared[0]).tolist() == source_position


def test_an_alignment_moves_to_a_device_as_a_whole():
    moved = new_control().alignment.to(torch.device("meta"))
    parts = (moved.source_position, moved.is_shared, moved.weight, moved.is_cue)
    assert {part.device.type for part in parts} == {"meta"}


def test_map_sizes_are_the_latents_halved():
    assert _map_size((16, 24), 96) == (8, 12) and _map_size((9, 5), 15) == (5, 3)
    with pytest.raises(AssertionError, match="cannot be halved to 100 positions"):
        _map_size((16, 24), 100)


def test_attention_is_controlled_inside_the_context_alone():
    unet = new_unet(TEXT_DIM)
    processors = unet.attn_processors
    with controlled_attention(unet, new_control()):
        assert {type(processor) for processor in unet.attn_processors.values()} == {_ControlledAttnProcessor}
    assert unet.attn_processors == processors


@pytest.mark.parametrize(
    ("feature", "options"),
    [
        ("group_norm", {"norm_num_groups": 4}),
        ("norm_cross", {"cross_attention_norm": "layer_norm"}),
        ("norm_k, norm_q", {"qk_norm": "layer_norm"}),
        ("spatial_norm", {"spatial_norm_dim": 4}),
        ("add_k_proj", {"added_kv_proj_dim": 4}),
        ("residual_connection", {"residual_connection": True}),
        ("rescale_output_factor", {"rescale_output_factor": 2.0}),
        ("kv_heads", {"kv_heads": 1}),
        ("scale_qk=False", {"scale_qk": False}),
    ],
)
def test_unsupported_attention_features_are_refused(feature, options):
    unet = new_unet(TEXT_DIM)
    block = unet.mid_block.attentions[0].transformer_blocks[0]
    block.attn2 = Attention(32, CONTEXT_DIM, heads=HEADS, dim_head=16, **options)
    processors = unet.attn_processors
    with pytest.raises(BadConfig, match=rf"mid_block.attentions.0.transformer_blocks.0.attn2 has {feature}, ") as error:
        with controlled_attention(unet, new_control()):
            raise AssertionError("the model was not refused")
    assert error.value.key == "models.diffusion" and unet.attn_processors == processors


def test_a_unet_with_plain_attention_blocks_is_refused():
    """diffusers' AttnDownBlock2D normalises its input and adds it to its output."""
    unet = UNet2DConditionModel(
        down_block_types=("AttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        block_out_channels=(16, 32),
        layers_per_block=1,
        norm_num_groups=8,
        attention_head_dim=4,
        cross_attention_dim=TEXT_DIM,
    )
    with pytest.raises(BadConfig, match="down_blocks.0.attentions.0 has group_norm, residual_connection, which"):
        with controlled_attention(unet, new_control()):
            raise AssertionError("the model was not refused")
