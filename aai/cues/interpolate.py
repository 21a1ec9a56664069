"""Interpolation between two AudioCues."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor


def between(
    start: Float[Tensor, "*rows dim"], end: Float[Tensor, "*rows dim"], at: float, dims: Sequence[int]
) -> Float[Tensor, "*rows dim"]:
    """The cue at some part of the way between two, from 0 to 1: each row turns from one to the other at an even pace.

    The norm goes the straight way, as a slerp of what differs in norm has none of its own. `dims` are the lengths of a
    row's parts, one for each text encoder; each part turns for itself. Rows in opposite directions have no way between.

    Source: Shoemake 1985, "Animating Rotation with Quaternion Curves", section 3.3.
    """
    if at in (0, 1):
        return end if at else start
    pairs = zip(start.split(tuple(dims), dim=-1), end.split(tuple(dims), dim=-1), strict=True)
    return torch.cat([_turned(first, second, at) for first, second in pairs], dim=-1)


def _turned(first: Tensor, second: Tensor, at: float) -> Tensor:
    norm = torch.lerp(first.norm(dim=-1, keepdim=True), second.norm(dim=-1, keepdim=True), at)
    first, second = F.normalize(first, dim=-1), F.normalize(second, dim=-1)
    angle = 2 * torch.atan2((first - second).norm(dim=-1, keepdim=True), (first + second).norm(dim=-1, keepdim=True))
    mixed = torch.sinc((1 - at) * angle / torch.pi) * (1 - at) * first + torch.sinc(at * angle / torch.pi) * at * second
    return F.normalize(mixed, dim=-1) * norm
