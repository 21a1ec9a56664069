"""An aligner from captions alone: from the audio encoder's text vectors to the image-text encoder's.

Sounds are not where their captions are in the audio encoder's space, nor images in the other. The means of both spaces
are shifted onto each other, and noise makes the projector tolerant of the rest. Ridge regression is the control.

Source: the semantic bridge of Wang et al. 2023, "Connecting Multi-modal Contrastive Representations", from captions
alone.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import nn

from aai.align.projector import Projector
from aai.align.ridge import fit_ridge


@dataclass(frozen=True)
class Means:
    """Mean vectors by which the spaces are shifted; without sounds or images those of the texts."""

    audio_texts: Float[np.ndarray, " audio_dim"]
    sounds: Float[np.ndarray, " audio_dim"]
    image_texts: Float[np.ndarray, " image_dim"]
    images: Float[np.ndarray, " image_dim"]

    @classmethod
    def of(
        cls,
        audio_texts: np.ndarray,
        image_texts: np.ndarray,
        sounds: np.ndarray | None = None,
        images: np.ndarray | None = None,
    ) -> "Means":
        """The means of some vectors."""
        own, other = audio_texts.mean(axis=0), image_texts.mean(axis=0)
        return cls(
            own, own if sounds is None else sounds.mean(axis=0), other, other if images is None else images.mean(axis=0)
        )


def shifted_targets(image_texts: Float[np.ndarray, "texts dim"], means: Means) -> Float[np.ndarray, "texts dim"]:
    """The image-text encoder's text vectors, moved to where images are, as unit vectors."""
    moved = image_texts - means.image_texts + means.images
    unit: np.ndarray = moved / np.linalg.norm(moved, axis=1, keepdims=True)
    return unit.astype(np.float32)


@torch.no_grad()
def hear_sounds(projector: Projector, means: Means) -> Projector:
    """A projector of texts as one of sounds, by shifting its input."""
    first = projector.first
    shift = torch.from_numpy(means.audio_texts - means.sounds).to(first.weight)
    first.bias.add_(first.weight @ shift)
    return projector


def ridge_projector(
    inputs: Float[np.ndarray, "texts audio_dim"], targets: Float[np.ndarray, "texts image_dim"], penalty: float
) -> Projector:
    """Ridge regression as a linear projector."""
    ridge = fit_ridge(inputs, targets, penalty)
    projector = Projector(inputs.shape[1], targets.shape[1], hidden_dim=0)
    with torch.no_grad():
        projector.first.weight.copy_(torch.from_numpy(ridge.weight.T))
        projector.first.bias.copy_(torch.from_numpy(ridge.bias))
    return projector


@torch.inference_mode()
def recall(
    projector: nn.Module, inputs: Float[np.ndarray, "texts audio_dim"], targets: Float[np.ndarray, "texts image_dim"]
) -> float:
    """The share of captions whose own target is the most similar one; equal targets count as one."""
    projected = projector(torch.from_numpy(np.asarray(inputs, np.float32))).numpy()
    similarities = projected @ targets.T
    own = np.einsum("id,id->i", projected, targets)
    tolerance = 1e-6
    return float((own >= similarities.max(axis=1) - tolerance).mean())


@torch.inference_mode()
def mean_cosine(
    projector: nn.Module, inputs: Float[np.ndarray, "texts audio_dim"], targets: Float[np.ndarray, "texts image_dim"]
) -> float:
    """The mean cosine of captions and their targets."""
    projected = projector(torch.from_numpy(np.asarray(inputs, np.float32))).numpy()
    return float(np.einsum("id,id->i", projected, targets).mean())
