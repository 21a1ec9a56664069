"""Stacked adapters compute and learn as separate modules with an Adam of their own do."""

import copy

import torch
from torch import nn

from aai.cues.adapters import StackedAdapters
from aai.cues.mapper import CueMapper

INPUTS = nn.functional.normalize(torch.randn(3, 6, generator=torch.Generator().manual_seed(0)), dim=1)


def new_mapper() -> CueMapper:
    torch.manual_seed(0)
    return CueMapper(6, 5, hidden_dim=4).requires_grad_(False)


def step(adapters: StackedAdapters, learning_rates: list[float]) -> None:
    gradients = torch.autograd.grad(adapters.cues().pow(2).sum(), list(adapters.weights.values()))
    adapters.adam_step(gradients, learning_rates)


def trained_alone(aligned: torch.Tensor, learning_rates: list[float]) -> torch.Tensor:
    """The cue of a copy of the network after some steps of PyTorch's Adam."""
    network = copy.deepcopy(new_mapper()).requires_grad_(True)
    optimiser = torch.optim.Adam(network.parameters(), betas=(0.9, 0.99))
    for learning_rate in learning_rates:
        optimiser.param_groups[0]["lr"] = learning_rate
        optimiser.zero_grad()
        network(aligned[None]).pow(2).sum().backward()
        optimiser.step()
    return network(aligned[None])[0].detach()


def test_each_adapter_learns_as_if_alone_wherever_the_others_are():
    adapters = StackedAdapters(new_mapper())
    adapters.add(INPUTS[0])
    adapters.add(INPUTS[1])
    step(adapters, [0.1, 0.2])
    adapters.keep([1])
    adapters.add(INPUTS[2])
    step(adapters, [0.3, 0.1])
    assert adapters.steps == [2, 1]
    torch.testing.assert_close(adapters.cues()[0], trained_alone(INPUTS[1], [0.2, 0.3]))
    torch.testing.assert_close(adapters.cues()[1], trained_alone(INPUTS[2], [0.1]))


def test_a_new_adapter_is_the_network_and_its_start_stays():
    adapters, mapper = StackedAdapters(new_mapper()), new_mapper()
    for aligned in INPUTS:
        adapters.add(aligned)
    torch.testing.assert_close(adapters.cues(), mapper(INPUTS))
    step(adapters, [0.1] * 3)
    torch.testing.assert_close(adapters.starts, mapper(INPUTS))
    assert not torch.allclose(adapters.cues(), adapters.starts)


def test_without_adapters_left_new_ones_can_be_added():
    adapters = StackedAdapters(new_mapper())
    adapters.add(INPUTS[0])
    adapters.keep([])
    assert len(adapters) == 0
    adapters.add(INPUTS[1])
    torch.testing.assert_close(adapters.cues(), new_mapper()(INPUTS[1:2]))
