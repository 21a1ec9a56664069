"""The training loop: optimisation, EMA, schedule and resumption."""

import math
from itertools import count

import pytest
import torch
from torch import nn

from aai.tiny.training import loop
from aai.tiny.training.loop import LoopOptions, TrainingSetup, fit

OPTIONS = LoopOptions(steps=12, batch=4, learning_rate=2e-2, warmup=2)


class Stop(Exception):
    """Interrupts the training."""


def train(setup: TrainingSetup, stop_at: int | None = None) -> nn.Linear:
    torch.manual_seed(0)
    layer = nn.Linear(3, 1)
    calls = count()

    def loss(rng: torch.Generator, batch: int):
        if next(calls) == stop_at:
            raise Stop
        x = torch.randn(batch, 3, generator=rng)
        value = ((layer(x) - x.sum(1, keepdim=True)) ** 2).mean()
        return value, {"loss": value.item()}

    fit("line", nn.ModuleDict({"line": layer}), loss, OPTIONS, setup)
    return layer


def expected_weights(setup: TrainingSetup) -> torch.Tensor:
    """The same training, written out: warm-up times cosine, clipped gradients, EMA with warm-up."""
    torch.manual_seed(0)
    layer = nn.Linear(3, 1)
    parameters = list(layer.parameters())
    optimizer = torch.optim.AdamW(parameters, betas=(0.9, 0.99), weight_decay=OPTIONS.weight_decay)
    average = [parameter.detach().clone() for parameter in parameters]
    for step in range(OPTIONS.steps):
        cosine = 0.5 * (1 + math.cos(math.pi * step / OPTIONS.steps))
        rate = OPTIONS.learning_rate * min(1, (step + 1) / OPTIONS.warmup) * (0.02 + 0.98 * cosine)
        optimizer.param_groups[0]["lr"] = rate
        x = torch.randn(OPTIONS.batch, 3, generator=setup.rng("line", step))
        optimizer.zero_grad()
        ((layer(x) - x.sum(1, keepdim=True)) ** 2).mean().backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        decay = min(OPTIONS.average, (step + 1) / (step + 20))
        average = [decay * mean + (1 - decay) * p.detach() for mean, p in zip(average, parameters, strict=True)]
    return average[0]


def test_the_weights_are_the_moving_average_of_the_schedules_steps(tmp_path):
    setup = TrainingSetup(tmp_path, torch.device("cpu"))
    assert torch.allclose(train(setup).weight, expected_weights(setup), atol=1e-6)


def test_training_lowers_the_loss(tmp_path):
    setup = TrainingSetup(tmp_path, torch.device("cpu"), scale=50.0)
    assert torch.allclose(train(setup).weight, torch.ones(1, 3), atol=0.1)


def test_an_interrupted_training_resumes_to_the_same_weights(tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "_SAVE_EVERY_S", 0.0)
    uninterrupted = train(TrainingSetup(tmp_path / "one", torch.device("cpu")))
    setup = TrainingSetup(tmp_path / "two", torch.device("cpu"))
    with pytest.raises(Stop):
        train(setup, stop_at=7)
    assert torch.equal(train(setup).weight, uninterrupted.weight)


def test_another_seed_gives_other_weights(tmp_path):
    weights = [train(TrainingSetup(tmp_path / str(s), torch.device("cpu"), seed=s)).weight for s in (0, 1)]
    assert not torch.equal(*weights)


def test_progress_is_printed_without_a_terminal(tmp_path, capsys):
    train(TrainingSetup(tmp_path, torch.device("cpu")))
    assert "12/12" in capsys.readouterr().out
