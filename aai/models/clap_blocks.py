"""The end of a CLAP audio encoder, which can be trained, apart from what comes before it, which stays as it is."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import torch
import torch.nn.functional as F
from jaxtyping import Float, Float32
from torch import Tensor, nn
from transformers import ClapModel

from aai.errors import BadConfig
from aai.models.clap import AudioEncoder

KEY = "train.tower_blocks"


class LastBlocks(nn.Module):
    """The last blocks of HTSAT, the patch merging between them, the last normalisation, and CLAP's projection.

    These modules are the model's own, in evaluation mode: without dropout. Their parameters require gradients.

    Raises:
        BadConfig: the model has fewer blocks.
    """

    def __init__(self, model: ClapModel, num: int, uri: str) -> None:
        super().__init__()
        steps = list(_steps(model))
        blocks = [index for index, step in enumerate(steps) if step.is_block]
        if num > len(blocks):
            raise BadConfig(f"the audio encoder has {len(blocks)} blocks: set at most that many", key=KEY, uri=uri)
        self.first = blocks[-num]
        """The step of the encoder with which they begin."""
        self.layers = nn.ModuleList(step.layer for step in steps[self.first :])
        self.sizes = [step.size for step in steps[self.first :]]
        """Height and width of what enters each layer, in patches."""
        self.norm, self.projection = model.audio_model.audio_encoder.norm, model.audio_projection
        self.input_shape = math.prod(self.sizes[0]), steps[self.first].dim
        """Of what enters the blocks: patches and numbers per patch."""
        self.requires_grad_(True).eval()

    def forward(self, inputs: Float[Tensor, "clips patches width"]) -> Float[Tensor, "clips dim"]:
        """Unit vectors of what enters the blocks."""
        hidden = inputs
        for layer, size in zip(self.layers, self.sizes, strict=True):
            hidden = _applied(layer, hidden, size)
        return F.normalize(self.projection(self.norm(hidden).mean(dim=1)).float(), dim=-1)


class SplitEncoder:
    """An audio encoder in float32 whose last blocks can be trained.

    Raises:
        BadConfig: it cannot be loaded, or has fewer blocks.
    """

    def __init__(
        self, name: str | Path, revision: str | None, num_blocks: int, device: str | torch.device = "cpu"
    ) -> None:
        self.encoder = AudioEncoder(name, revision, device)
        self.blocks = LastBlocks(self.encoder.model, num_blocks, str(name))

    @torch.no_grad()
    def set_weights(self, weights: Mapping[str, Tensor]) -> None:
        """Replace the parameters of the last blocks."""
        own = dict(self.blocks.named_parameters())
        assert own.keys() == weights.keys(), "weights are of as many blocks"
        for name, value in weights.items():
            own[name].copy_(value)

    @torch.no_grad()
    def inputs_of(self, waves: Float32[Tensor, "clips samples"]) -> Float[Tensor, "clips patches width"]:
        """What enters the last blocks, of clips that the encoder's `prepare` returned."""
        encoder, model = self.encoder.model.audio_model.audio_encoder, self.encoder.model
        features = self.encoder.spectrograms(waves).transpose(1, 3)
        image = encoder.reshape_mel2img(encoder.batch_norm(features).transpose(1, 3))
        none_is_longer = torch.empty(0, dtype=torch.long, device=image.device)  # with fusion; all clips are cut
        hidden = encoder.patch_embed(image, none_is_longer)
        for step in islice(_steps(model), self.blocks.first):
            hidden = _applied(step.layer, hidden, step.size)
        return hidden


@dataclass(frozen=True)
class _Step:
    """A layer of HTSAT: a block, or what merges patches between its stages."""

    layer: nn.Module
    size: tuple[int, int]
    """Height and width of what enters it, in patches."""
    dim: int
    """Numbers per patch of what enters it."""
    is_block: bool


def _steps(model: ClapModel) -> Iterator[_Step]:
    encoder = model.audio_model.audio_encoder
    for stage, size in zip(encoder.layers, encoder.input_resolutions, strict=True):
        yield from (_Step(block, size, stage.dim, True) for block in stage.blocks)
        if stage.downsample is not None:
            yield _Step(stage.downsample, size, stage.dim, False)


def _applied(layer: nn.Module, hidden: Tensor, size: tuple[int, int]) -> Tensor:
    output = layer(hidden, size)
    return output[0] if isinstance(output, tuple) else output
