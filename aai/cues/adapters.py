"""Adapters: one small network per clip, all stacked so that they are evaluated and updated together."""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.func import functional_call

_BETAS = (0.9, 0.99)
_EPSILON = 1e-8


class StackedAdapters:
    """Copies of a network, one per clip: weights and Adam moments are stacked along the first dimension.

    Each copy counts its own optimiser steps, so copies may be added and removed between any two steps.
    """

    def __init__(self, network: nn.Module) -> None:
        self.network = network
        self.weights = {name: weight.detach().new_empty((0, *weight.shape)) for name, weight in _named(network)}
        self.exp_avg = {name: weight.clone() for name, weight in self.weights.items()}
        self.exp_avg_sq = {name: weight.clone() for name, weight in self.weights.items()}
        self.steps: list[int] = []
        self._aligned: list[Tensor] = []
        self._starts: list[Tensor] = []

    def __len__(self) -> int:
        return len(self.steps)

    @property
    def starts(self) -> Float[Tensor, "clips tokens dim"]:
        """The cues before the first step."""
        return torch.stack(self._starts)

    @torch.no_grad()
    def add(self, aligned: Float[Tensor, " image_dim"]) -> None:
        """Add a copy of the network for a clip."""
        for name, weight in _named(self.network):
            self.weights[name] = torch.cat([self.weights[name], weight[None]])
            for moments in (self.exp_avg, self.exp_avg_sq):
                moments[name] = torch.cat([moments[name], torch.zeros_like(weight)[None]])
        self.steps.append(0)
        self._aligned.append(aligned)
        self._starts.append(self.network(aligned[None])[0])

    def keep(self, indices: Sequence[int]) -> None:
        """Remove all other adapters."""
        for stack in (self.weights, self.exp_avg, self.exp_avg_sq):
            stack.update({name: value.detach()[list(indices)] for name, value in stack.items()})
        self.steps = [self.steps[index] for index in indices]
        self._aligned = [self._aligned[index] for index in indices]
        self._starts = [self._starts[index] for index in indices]

    def cues(self) -> Float[Tensor, "clips tokens dim"]:
        """The current cues, differentiable in `weights`."""
        for weight in self.weights.values():
            weight.requires_grad_()

        def cue_of(weights: dict[str, Tensor], aligned: Tensor) -> Tensor:
            return functional_call(self.network, weights, (aligned[None],))[0]

        return torch.vmap(cue_of)(self.weights, torch.stack(self._aligned))

    @torch.no_grad()
    def adam_step(self, gradients: Sequence[Tensor], learning_rates: Sequence[float]) -> None:
        """One step of Adam, with a learning rate per clip; gradients are in the order of `weights`.

        Source: Kingma and Ba 2015, "Adam: A Method for Stochastic Optimization", algorithm 1.
        """
        self.steps = [steps + 1 for steps in self.steps]
        corrections = [1 - beta ** np.array(self.steps) for beta in _BETAS]
        for (name, weight), gradient in zip(self.weights.items(), gradients, strict=True):
            mean, square = self.exp_avg[name], self.exp_avg_sq[name]
            mean.lerp_(gradient, 1 - _BETAS[0])
            square.lerp_(gradient.square(), 1 - _BETAS[1])
            root = (square / _per_clip(corrections[1], weight)).sqrt() + _EPSILON
            weight.sub_(_per_clip(np.array(learning_rates) / corrections[0], weight) * mean / root)


def _named(network: nn.Module) -> list[tuple[str, nn.Parameter]]:
    return list(network.named_parameters())


def _per_clip(values: np.ndarray, like: Tensor) -> Tensor:
    """One value per clip, to be broadcast against a stacked weight."""
    return torch.as_tensor(values, dtype=like.dtype, device=like.device).view(-1, *[1] * (like.dim() - 1))
