"""Prompt-to-Prompt attention control: cross- and self-attention injection, and the cues' attention maps.

Attention is linear in its values, so injection needs no attention map in memory: where Prompt-to-Prompt replaces an
edit's maps by its source's, the edit's values are attended to with the source's queries and keys. Maps are computed for
attention-based edit masks alone, in the few layers of suitable resolution.

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

from aai.errors import BadConfig, BadItem

_MIN_MAP_SIDE, _MAX_MAP_SIDE = 16, 32
"""Longer sides, in positions, of the maps that locate a cue: coarser ones are too vague, finer ones too noisy."""

_UNSUPPORTED_MODULES = ("add_k_proj", "group_norm", "norm_cross", "norm_k", "norm_q", "spatial_norm")
"""Optional parts of diffusers' `Attention` that the controlled processor does not compute."""


@dataclass(frozen=True)
class TokenAlignment:
    """Alignment of the tokens of edit prompts with those of their source prompts."""

    source_position: Int[Tensor, "edits tokens"]
    """Position of the same token in the source prompt; arbitrary where `is_shared` is 0."""

    is_shared: Float[Tensor, "edits tokens"]
    """1 for tokens of both prompts, whose attention maps are injected; 0 for new tokens."""

    weight: Float[Tensor, "edits tokens"]
    """Factor on a token's attention (reweighting)."""

    is_cue: Bool[Tensor, "edits tokens"]
    """The cues' tokens, whose maps locate the edit."""

    def to(self, device: torch.device) -> "TokenAlignment":
        """Move to a device."""
        parts = (self.source_position, self.is_shared, self.weight, self.is_cue)
        return TokenAlignment(*(part.to(device) for part in parts))


def align_tokens(sources: Sequence[Sequence[int]], edits: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
    """`TokenAlignment.source_position` and `is_shared`, from the longest common runs of token ids, in order.

    Source: as above, "prompt refinement": shared words take the source's maps, new words keep their own.
    """
    source_position = torch.zeros(len(edits), len(edits[0]), dtype=torch.long)
    is_shared = torch.zeros(len(edits), len(edits[0]))
    for index, (source, edit) in enumerate(zip(sources, edits, strict=True)):
        for in_source, in_edit, size in SequenceMatcher(None, source, edit, autojunk=False).get_matching_blocks():
            source_position[index, in_edit : in_edit + size] = torch.arange(in_source, in_source + size)
            is_shared[index, in_edit : in_edit + size] = 1
    return source_position, is_shared


@dataclass
class AttentionControl:
    """Which batch elements are edits, which are their sources, and which injections are active at this step."""

    edits: Int[Tensor, " edits"]
    """Batch indices of the edits' conditional predictions."""

    sources: Int[Tensor, " edits"]
    """Batch index of each edit's source."""

    alignment: TokenAlignment

    latent_size: tuple[int, int]
    """Height and width of the latents."""

    max_self_positions: int
    """Self-attention is injected in maps of at most this many positions."""

    records_maps: bool = False
    """Whether the cues' cross-attention maps are recorded."""

    self_injection: bool = False
    cross_injection: bool = False

    maps: dict[tuple[int, int], Float[Tensor, "edits positions"]] = field(default_factory=dict)
    """By map size: attention to the cues, averaged over heads and summed over layers and steps."""

    def record_map(self, query: Float[Tensor, "edits heads n dim"], key: Float[Tensor, "edits heads m dim"]) -> None:
        """Add the edits' attention to their cues, if maps of this size locate cues."""
        size = _map_size(self.latent_size, query.shape[2])
        if _MIN_MAP_SIDE <= max(size) <= _MAX_MAP_SIDE:
            attention = (query @ key.mT * query.shape[-1] ** -0.5).softmax(-1).mean(1)
            cue_map = (attention * self.alignment.is_cue[:, None]).sum(-1).float()
            self.maps[size] = cue_map + self.maps.get(size, 0)

    def cue_map(self) -> Float[Tensor, "edits height width"]:
        """The recorded attention to the cues at the latents' size, scaled to [0, 1] in each edit.

        Raises:
            BadItem: no layer has maps of a suitable size.
        """
        if not self.maps:
            raise BadItem(
                f"latents of {self.latent_size[1]} x {self.latent_size[0]} are too small to locate a cue in attention "
                "maps: choose difference, or render larger images",
                key="edit.mask",
            )
        total = torch.zeros(())
        for size, cue_map in self.maps.items():
            resized = F.interpolate(cue_map.view(-1, 1, *size), self.latent_size, mode="bilinear")
            total = total.to(resized) + resized / resized.mean((1, 2, 3), keepdim=True)
        low, high = total.amin((1, 2, 3), keepdim=True), total.amax((1, 2, 3), keepdim=True)
        return ((total - low) / (high - low).clamp(min=1e-6))[:, 0]


@contextmanager
def controlled_attention(unet: UNet2DConditionModel, control: AttentionControl) -> Iterator[None]:
    """Context manager: the UNet's attention layers obey `control`.

    Raises:
        BadConfig: the attention layers have features that control does not support.
    """
    _check_attention(unet)
    processors = unet.attn_processors
    unet.set_attn_processor(_ControlledAttnProcessor(control))
    try:
        yield
    finally:
        unet.set_attn_processor(processors)


def _check_attention(unet: UNet2DConditionModel) -> None:
    for name, layer in unet.named_modules():
        if isinstance(layer, Attention) and (unsupported := _unsupported_features(layer)):
            raise BadConfig(
                f"this model cannot edit: its attention layer {name} has {', '.join(unsupported)}, which attention "
                "control does not support: choose a Stable Diffusion 1.x or XL checkpoint",
                key="models.diffusion",
            )


def _unsupported_features(layer: Attention) -> list[str]:
    features = [name for name in _UNSUPPORTED_MODULES if getattr(layer, name) is not None]
    settings = {
        "residual_connection": layer.residual_connection,
        "rescale_output_factor": layer.rescale_output_factor != 1,
        "fused_projections": layer.fused_projections,
        "kv_heads": layer.inner_kv_dim != layer.inner_dim,
        "scale_qk=False": not layer.scale_qk,
        "is_causal": layer.is_causal,
    }
    return features + [name for name, is_set in settings.items() if is_set]


class _ControlledAttnProcessor:
    """Scaled dot-product attention with Prompt-to-Prompt injection for the edits."""

    def __init__(self, control: AttentionControl) -> None:
        self.control = control

    def __call__(
        self,
        attn: Attention,
        hidden_states: Float[Tensor, "batch positions dim"],
        encoder_hidden_states: Float[Tensor, "batch tokens context_dim"] | None = None,
        attention_mask: None = None,
        temb: Tensor | None = None,
    ) -> Float[Tensor, "batch positions dim"]:
        context = hidden_states if encoder_hidden_states is None else encoder_hidden_states
        projections = attn.to_q(hidden_states), attn.to_k(context), attn.to_v(context)
        query, key, value = (part.unflatten(2, (attn.heads, -1)).transpose(1, 2) for part in projections)
        attend = self._self_attention if encoder_hidden_states is None else self._cross_attention
        output = attend(query, key, value).transpose(1, 2).flatten(2)
        return attn.to_out[1](attn.to_out[0](output))

    def _self_attention(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """Injection: the source's queries and keys, hence its layout, with the edit's values, hence its appearance."""
        control = self.control
        if control.self_injection and query.shape[2] <= control.max_self_positions:
            query = query.index_copy(0, control.edits, query[control.sources])
            key = key.index_copy(0, control.edits, key[control.sources])
        return F.scaled_dot_product_attention(query, key, value)

    def _cross_attention(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """Injection: shared tokens have the source's attention maps, new tokens the edit's."""
        control, edits, sources = self.control, self.control.edits, self.control.sources
        if control.records_maps:
            control.record_map(query[edits], key[edits])
        edit_value = value[edits] * control.alignment.weight[:, None, :, None].to(value.dtype)
        injected = control.alignment.is_shared[:, None, :, None].to(value.dtype) * control.cross_injection
        output = F.scaled_dot_product_attention(query, key, value.index_copy(0, edits, edit_value * (1 - injected)))
        if not control.cross_injection:
            return output
        positions = control.alignment.source_position[:, None, :, None].expand_as(edit_value)
        aligned = torch.zeros_like(edit_value).scatter_add(2, positions, edit_value * injected)
        return output.index_add(0, edits, F.scaled_dot_product_attention(query[sources], key[sources], aligned))


def _map_size(latent_size: tuple[int, int], num_positions: int) -> tuple[int, int]:
    """Height and width of an attention map: the latents', halved as often as the number of positions says."""
    height, width = latent_size
    while height * width > num_positions:
        height, width = (height + 1) // 2, (width + 1) // 2
    assert height * width == num_positions, f"{latent_size} cannot be halved to {num_positions} positions"
    return height, width
