"""Fixtures of the tests of models."""

from functools import partial

import pytest
import torch


@pytest.fixture
def graphs(monkeypatch):
    """The graphs that torch makes; they run as they are, because generating code takes minutes."""
    made = []

    def keep(graph, inputs):
        made.append(graph)
        return graph.forward

    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend=keep))
    yield made
    torch._dynamo.reset()
