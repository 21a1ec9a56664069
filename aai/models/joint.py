"""Joint encoders: one model that hears and sees, so that sounds, images and captions have vectors in one space.

| model | repository | licence | dimension |
|---|---|---|---|
| PE-AV (transformers `pe_audio_video`) | facebook/pe-av-small, -base, -large | Apache-2.0 | 1,024 |
| EmbeddingGemma 2 (transformers `embedding_gemma2`) | google/embeddinggemma-2 | Apache-2.0 | 768 |
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float32, UInt8
from torch import Tensor
from transformers import AutoConfig

from aai.errors import BadConfig, BadItem
from aai.models.checkpoint import load_errors
from aai.models.folders import JOINT_KINDS
from aai.models.revisions import resolve_revision


@runtime_checkable
class SoundEncoder(Protocol):
    """A model that hears: unit vectors of clips, and of captions to compare clips with.

    `prepare` is for threads that read ahead of the model; what it returns may be stacked where shapes are equal.
    """

    @property
    def dim(self) -> int:
        """The dimension of the vectors."""

    @property
    def rate_hz(self) -> int:
        """The model's sample rate."""

    @property
    def duration_s(self) -> float:
        """The longest clip that it hears."""

    def prepare(self, wave: Float32[np.ndarray, " _"], rate_hz: int) -> Float32[np.ndarray, "..."]:
        """A mono clip as the model takes it.

        Raises:
            ValueError: the clip has no samples.
        """

    def embed_prepared(self, clips: Tensor) -> Float32[Tensor, "clips dim"]:
        """Unit vectors, on the model's device, of clips that `prepare` returned."""

    def embed_clips(
        self, waves: Sequence[Float32[np.ndarray, " _"]], rate_hz: int, batch_size: int = 32
    ) -> Float32[Tensor, "clips dim"]:
        """Unit vectors, on the CPU, of mono clips at one sample rate; batching does not change them."""

    def embed_texts(self, texts: Sequence[str], batch_size: int = 64) -> Float32[Tensor, "texts dim"]:
        """Unit vectors of captions, on the CPU, to compare clips with.

        Raises:
            BadItem: a text is longer than the model's context.
        """

    def fault_of(self, text: str) -> BadItem | None:
        """The error of a text that is longer than the model's context; none if it can be embedded."""


@runtime_checkable
class ImageEncoder(Protocol):
    """A model that sees: unit vectors of images, and of captions to compare images with."""

    @property
    def dim(self) -> int:
        """The dimension of the vectors."""

    def prepare(self, image: UInt8[np.ndarray, "_ _ 3"]) -> UInt8[np.ndarray, "3 _ _"]:
        """An RGB image as the model takes it; threads may call it at the same time."""

    def embed_prepared(self, images: UInt8[Tensor, "images 3 _ _"]) -> Float32[Tensor, "images dim"]:
        """Unit vectors, on the model's device, of images that `prepare` returned."""

    def embed_images(
        self,
        images: Sequence[UInt8[np.ndarray, "_ _ 3"]] | UInt8[np.ndarray, "images height width 3"],
        batch_size: int = 64,
    ) -> Float32[Tensor, "images dim"]:
        """Unit vectors, on the CPU, of RGB images of any sizes; batching does not change them."""

    def embed_texts(self, texts: Sequence[str], batch_size: int = 64) -> Float32[Tensor, "texts dim"]:
        """Unit vectors of captions, on the CPU, to compare images with.

        Raises:
            BadItem: a text is longer than the model's context.
        """

    def fault_of(self, text: str) -> BadItem | None:
        """The error of a text that is longer than the model's context; none if it can be embedded."""


@dataclass(frozen=True)
class JointEncoder:
    """A frozen model that hears and sees: the vectors of both sides are in one space."""

    sounds: SoundEncoder
    images: ImageEncoder


def load_joint(
    name: str | Path,
    revision: str | None = None,
    device: str | torch.device = "cpu",
    dtype: torch.dtype = torch.float32,
) -> JointEncoder:
    """A joint encoder from a folder or the hub, safetensors only; which one its `config.json` says.

    Raises:
        BadConfig: as `resolve_revision` and `load_frozen`, it is of another type, files of the processor are missing,
            or a package that it needs is not installed.
    """
    resolve_revision(name, revision)
    with load_errors(AutoConfig, name):
        kind = AutoConfig.from_pretrained(name, revision=revision).model_type
    if kind == "pe_audio_video":
        from aai.models.pe_av import load_pe_av  # it needs packages that are not always installed

        return load_pe_av(name, revision, torch.device(device), dtype)
    if kind == "embedding_gemma2":
        from aai.models.embedding_gemma import load_embedding_gemma

        return load_embedding_gemma(name, revision, torch.device(device), dtype)
    known = " or ".join(JOINT_KINDS)
    raise BadConfig(f"it is a model of the type {kind}, not {known}: name another model", uri=str(name))
