"""The processes of one training: they share each batch, and average their gradients."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as distributed
from torch import Tensor, nn


@dataclass(frozen=True)
class Ranks:
    """This process among those of a training, by default the only one; else torch.distributed is initialised."""

    rank: int = 0
    size: int = 1

    @property
    def is_first(self) -> bool:
        """Whether this process evaluates and saves."""
        return self.rank == 0

    def share(self, num: int) -> slice:
        """This rank's rows of a batch, whose size is a multiple of the number of ranks."""
        own = num // self.size
        return slice(self.rank * own, (self.rank + 1) * own)

    def gather(self, rows: Tensor) -> Tensor:
        """The rows of all ranks in order; gradients flow back to the rank that each row is from."""
        return rows if self.size == 1 else _Gathered.apply(rows, self)

    def average_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Replace gradients by their mean over the ranks."""
        if self.size == 1:
            return
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        joined = torch.cat([gradient.flatten() for gradient in gradients])
        distributed.all_reduce(joined)
        joined /= self.size
        for gradient, mean in zip(gradients, joined.split([each.numel() for each in gradients]), strict=True):
            gradient.copy_(mean.view_as(gradient))

    def mean(self, value: Tensor) -> float:
        """The mean of a number over the ranks."""
        if self.size == 1:
            return float(value.detach())
        total = value.detach().clone()
        distributed.all_reduce(total)
        return float(total) / self.size

    def agreed(self, flag: bool, device: torch.device) -> bool:
        """The first rank's answer, on all ranks."""
        if self.size == 1:
            return flag
        answer = torch.tensor(int(flag), device=device)
        distributed.broadcast(answer, 0)
        return bool(answer)


class _Gathered(torch.autograd.Function):
    """All-gather with gradients: each rank's loss depends on the rows of all, so their gradients are summed."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, ranks: Ranks) -> Tensor:
        """Join the rows."""
        ctx.ranks = ranks
        parts = [torch.empty_like(rows) for _ in range(ranks.size)]
        distributed.all_gather(parts, rows.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        """Sum the gradients of all ranks, and take those of the own rows."""
        total = gradients[0].clone(memory_format=torch.contiguous_format)
        distributed.all_reduce(total)
        return total[ctx.ranks.share(len(total))], None
