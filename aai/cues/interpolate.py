"""Interpolation between two AudioCues."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor


def between(
    start: Float[Tensor, "*tokens dim"], end: Float[Tensor, "*tokens dim"], at: float, dims: Sequence[int]
) -> Float[Tensor, "*tokens dim"]:
    """Spherical interpolation (slerp) of the token vectors' directions, linear interpolation of their norms.

    `at` is the fraction of the way, in [0, 1]. `dims` are the embedding sizes of the text encoders, whose vectors are
    concatenated in a token vector; each part is interpolated on its own. Opposite directions have no interpolation.

    Source: Shoemake 1985, "Animating Rotation with Quaternion Curves", section 3.3.
    """
    if at in (0, 1):
        return end if at else start
    pairs = zip(start.split(tuple(dims), dim=-1), end.split(tuple(dims), dim=-1), strict=True)
    return torch.cat([_slerp(first, second, at) for first, second in pairs], dim=-1)


def _slerp(first: Tensor, second: Tensor, at: float) -> Tensor:
    norm = torch.lerp(first.norm(dim=-1, keepdim=True), second.norm(dim=-1, keepdim=True), at)
    first, second = F.normalize(first, dim=-1), F.normalize(second, dim=-1)
    angle = 2 * torch.atan2((first - second).norm(dim=-1, keepdim=True), (first + second).norm(dim=-1, keepdim=True))
    mixed = torch.sinc((1 - at) * angle / torch.pi) * (1 - at) * first + torch.sinc(at * angle / torch.pi) * at * second
    return F.normalize(mixed, dim=-1) * norm
