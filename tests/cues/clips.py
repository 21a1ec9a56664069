"""Clips with random vectors and latents."""

import torch
import torch.nn.functional as F

from aai.cues.denoising import ClipToFit

IMAGE_DIM = 16


def clip_of(clip_id: str, aligned: torch.Tensor, latents: torch.Tensor) -> ClipToFit:
    """A clip whose images have the ids `clip_id`/0, /1 and so on."""
    return ClipToFit(clip_id, aligned, latents, tuple(f"{clip_id}/{index}" for index in range(len(latents))))


def random_clips(num: int, seed: int = 0) -> list[ClipToFit]:
    """One to three images each."""
    rng = torch.Generator().manual_seed(seed)
    aligned = F.normalize(torch.randn(num, IMAGE_DIM, generator=rng), dim=1)
    return [clip_of(f"{i:032x}", aligned[i], torch.randn(1 + i % 3, 4, 8, 8, generator=rng)) for i in range(num)]
