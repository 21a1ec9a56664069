"""Contrastive losses between two sets of unit vectors, with soft positives, in one process or over several.

Each rank holds some rows of the batch and computes their part of the loss against the whole batch; the mean over the
ranks is the loss of the batch.
"""

import math
from collections.abc import Callable
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

MIN_SCALE, MAX_SCALE = 10.0, 100.0
"""Limits of the inverse softmax temperature: at 1, a forgotten logarithm, the loss hardly distinguishes pairs."""

_MIN_TOTAL_WEIGHT = 0.05  # an item with less has no positive
_EXCLUDED = -1e4
_SIGMOID_BIAS = -10.0


def info_nce(logits: Float[Tensor, "left right"], weights: Float[Tensor, "left right"]) -> Float[Tensor, ""]:
    """Symmetric InfoNCE with soft positives: `weights`, in [0, 1], is how much a left and a right item match.

    The identity matrix gives CLIP's contrastive loss; items without a positive are left out of the mean.

    Source: Radford et al. 2021, "Learning Transferable Visual Models From Natural Language Supervision", figure 3;
    multiple positives as in Khosla et al. 2020, "Supervised Contrastive Learning", eq. 2.
    """
    return (_mean_of_rows(logits, weights) + _mean_of_rows(logits.T, weights.T)) / 2


def _mean_of_rows(logits: Tensor, weights: Tensor) -> Tensor:
    has_positive = weights.sum(dim=1) >= _MIN_TOTAL_WEIGHT
    return (cross_entropies(logits, weights) * has_positive).sum() / has_positive.sum().clamp(min=1)


def cross_entropies(
    logits: Float[Tensor, "rows columns"], weights: Float[Tensor, "rows columns"]
) -> Float[Tensor, " rows"]:
    """Softmax cross-entropy of each row against its weights, which are normalised."""
    targets = weights / weights.sum(dim=1).clamp(min=_MIN_TOTAL_WEIGHT)[:, None]
    return -(targets * F.log_softmax(logits, dim=1)).sum(dim=1)


def sigmoid_losses(
    logits: Float[Tensor, "rows columns"], weights: Float[Tensor, "rows columns"]
) -> Float[Tensor, " rows"]:
    """Binary cross-entropy of each row's pairs, summed over the columns.

    Source: Zhai et al. 2023, "Sigmoid Loss for Language Image Pre-Training", algorithm 1.
    """
    return F.binary_cross_entropy_with_logits(logits, weights, reduction="none").sum(dim=1)


def logit_scale() -> nn.Parameter:
    """CLIP's learnable log of the inverse softmax temperature, initially log(1/0.07)."""
    return nn.Parameter(torch.tensor(1 / 0.07).log())


class Temperature(nn.Module):
    """The learnable scale of the logits, and for the sigmoid loss their bias."""

    def __init__(self, loss: Literal["infonce", "sigmoid"]) -> None:
        super().__init__()
        self.log_scale = logit_scale()
        self.bias = nn.Parameter(torch.tensor(_SIGMOID_BIAS)) if loss == "sigmoid" else None

    @property
    def scale(self) -> Tensor:
        """The effective scale."""
        scale = self.log_scale.exp()
        value = float(scale.detach())
        assert MIN_SCALE * 0.999 <= value <= MAX_SCALE * 1.001, f"the scale of the logits is {value:.3g}"
        return scale

    def forward(self, cosines: Tensor) -> Tensor:
        """Logits of cosines."""
        logits = self.scale * cosines
        return logits if self.bias is None else logits + self.bias

    @torch.no_grad()
    def limit(self) -> None:
        """Keep the scale within its limits; called after each step of the optimiser."""
        self.log_scale.clamp_(math.log(MIN_SCALE), math.log(MAX_SCALE))


Gather = Callable[[Tensor], Tensor]
"""Joins the rows of all ranks, with gradients to each; with a single rank the identity."""


def contrast(  # noqa: PLR0913
    left: Float[Tensor, "rows dim"],
    right: Float[Tensor, "rows dim"],
    weights: Float[Tensor, "rows batch"],
    usable: Bool[Tensor, " batch"],
    temperature: Temperature,
    gather: Gather,
    rank: int = 0,
) -> Float[Tensor, ""]:
    """The loss of a rank's rows of a batch, in both directions; its mean over the ranks is the loss of the batch.

    Args:
        left: the rank's projected sounds.
        right: what they are paired with.
        weights: how much each of these and each pair of the batch match; over the batch it is symmetric.
        usable: the pairs of the batch that have a `right`; the others are left out.
        temperature: scale and bias of the logits.
        gather: joins the rows of all ranks.
        rank: which rows of the batch these are.
    """
    all_left, all_right = gather(left), gather(right)
    rows = slice(rank * len(left), (rank + 1) * len(left))
    counts, weights = usable[rows], weights * usable
    num_ranks, cosines = len(usable) // len(left), left @ all_right.T
    losses = _losses(cosines, weights, usable, temperature)
    if temperature.bias is None:  # the sigmoid loss has one direction
        back = cosines.T if num_ranks == 1 else right @ all_left.T
        losses = (losses + _losses(back, weights, usable, temperature)) / 2
    return (losses * counts).sum() * num_ranks / usable.sum().clamp(min=1)


def _losses(cosines: Tensor, weights: Tensor, usable: Tensor, temperature: Temperature) -> Tensor:
    logits = temperature(cosines).masked_fill(~usable, _EXCLUDED)
    return cross_entropies(logits, weights) if temperature.bias is None else sigmoid_losses(logits, weights)
