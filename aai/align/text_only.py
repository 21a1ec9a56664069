"""An aligner from captions alone: from the audio encoder's text vectors to the image-text encoder's.

Sounds are not where their captions are in the audio encoder's space. Their mean is shifted onto that of the captions,
and noise makes the projector tolerant of the rest. Ridge regression is the control.

Source: the semantic bridge of Wang et al. 2023, "Connecting Multi-modal Contrastive Representations", from captions
alone.
"""

import numpy as np
import torch
from jaxtyping import Float

from aai.align.projector import Projector
from aai.align.ridge import fit_ridge

_DRAWS = 8
"""Of the noise, per held-out caption."""
_TOLERANCE = 1e-6


@torch.no_grad()
def hear_sounds(
    projector: Projector, texts: Float[np.ndarray, "texts dim"], sounds: Float[np.ndarray, "sounds dim"]
) -> Projector:
    """A projector of texts as one of sounds: their mean takes the place of the texts'."""
    first = projector.first
    shift = torch.from_numpy(texts.mean(axis=0) - sounds.mean(axis=0)).to(first.weight)
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
def judge(
    projector: Projector,
    inputs: Float[np.ndarray, "texts audio_dim"],
    targets: Float[np.ndarray, "texts image_dim"],
    noise: float,
    rng: np.random.Generator,
) -> tuple[float, float]:
    """R@1 of noisy captions among the targets, of which equal ones count as one; and their mean cosine."""
    noisy = np.repeat(inputs, _DRAWS, axis=0)
    noisy = noisy + rng.normal(0, noise / np.sqrt(inputs.shape[1]), noisy.shape)
    projected = projector(torch.from_numpy(noisy.astype(np.float32))).numpy()
    own = np.einsum("id,id->i", projected, np.repeat(targets, _DRAWS, axis=0))
    is_best = own >= (projected @ targets.T).max(axis=1) - _TOLERANCE
    return float(is_best.mean()), float(own.mean())
