"""What the hearing and the seeing sides of all joint encoders have in common."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float32, UInt8
from torch import Tensor

from aai.errors import BadItem
from aai.models.batches import embed_all


@runtime_checkable
class Captions(Protocol):
    """The text tower of a joint encoder, as one of its sides uses it."""

    dim: int

    def embed_captions(self, texts: Sequence[str], batch_size: int) -> Tensor:
        """Unit vectors, on the CPU."""

    def fault_of(self, text: str) -> BadItem | None:
        """The error of a text that is longer than the model's context; none if it can be embedded."""


class _Side(ABC):
    def __init__(self, captions: Captions) -> None:
        self._captions = captions

    @property
    def dim(self) -> int:
        """The dimension of the vectors."""
        return self._captions.dim

    def embed_texts(self, texts: Sequence[str], batch_size: int = 64) -> Float32[Tensor, "texts dim"]:
        """Unit vectors of captions, on the CPU, to compare this side's vectors with.

        Raises:
            BadItem: a text is longer than the model's context.
        """
        return self._captions.embed_captions(texts, batch_size)

    def fault_of(self, text: str) -> BadItem | None:
        """The error of a text that is longer than the model's context; none if it can be embedded."""
        return self._captions.fault_of(text)

    @abstractmethod
    def embed_prepared(self, inputs: Tensor) -> Tensor:
        """Unit vectors, on the model's device, of what `prepare` returned."""


class SoundSide(_Side):
    """A side that hears."""

    @abstractmethod
    def prepare(self, wave: Float32[np.ndarray, " _"], rate_hz: int) -> np.ndarray:
        """A mono clip as the model takes it."""

    @property
    @abstractmethod
    def rate_hz(self) -> int:
        """The model's sample rate."""

    def embed_clips(
        self, waves: Sequence[Float32[np.ndarray, " _"]], rate_hz: int, batch_size: int = 32
    ) -> Float32[Tensor, "clips dim"]:
        """Unit vectors, on the CPU, of mono clips at one sample rate; batching does not change them."""
        return embed_all([self.prepare(wave, rate_hz) for wave in waves], self.embed_prepared, self.dim, batch_size)


class ImageSide(_Side):
    """A side that sees."""

    @abstractmethod
    def prepare(self, image: UInt8[np.ndarray, "_ _ 3"]) -> np.ndarray:
        """An RGB image as the model takes it."""

    def embed_images(
        self,
        images: Sequence[UInt8[np.ndarray, "_ _ 3"]] | UInt8[np.ndarray, "images height width 3"],
        batch_size: int = 64,
    ) -> Float32[Tensor, "images dim"]:
        """Unit vectors, on the CPU, of RGB images of any sizes; batching does not change them."""
        return embed_all([self.prepare(image) for image in images], self.embed_prepared, self.dim, batch_size)
