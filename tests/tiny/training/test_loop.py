"""A training that was stopped ends where an undisturbed one does."""

from itertools import count

import pytest
import torch
from torch import nn

from aai.tiny.training import loop
from aai.tiny.training.loop import LoopOptions, Place, fit

OPTIONS = LoopOptions(steps=12, batch=4, learning_rate=2e-2, warmup=2)


class Stop(Exception):
    """Stands for a power cut."""


def train(place: Place, stop_at: int | None = None) -> nn.Linear:
    torch.manual_seed(0)
    layer = nn.Linear(3, 1)
    calls = count()

    def loss(rng: torch.Generator, batch: int):
        if next(calls) == stop_at:
            raise Stop
        x = torch.randn(batch, 3, generator=rng)
        value = ((layer(x) - x.sum(1, keepdim=True)) ** 2).mean()
        return value, {"loss": value.item()}

    fit("line", nn.ModuleDict({"line": layer}), loss, OPTIONS, place)
    return layer


def test_training_lowers_the_loss(tmp_path):
    place = Place(tmp_path, torch.device("cpu"), scale=50.0)
    assert torch.allclose(train(place).weight, torch.ones(1, 3), atol=0.1)


def test_a_stopped_training_goes_on_to_the_same_weights(tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "_SAVE_EVERY_S", 0.0)
    undisturbed = train(Place(tmp_path / "one", torch.device("cpu")))
    place = Place(tmp_path / "two", torch.device("cpu"))
    with pytest.raises(Stop):
        train(place, stop_at=7)
    assert torch.equal(train(place).weight, undisturbed.weight)


def test_another_seed_gives_other_weights(tmp_path):
    weights = [train(Place(tmp_path / str(s), torch.device("cpu"), seed=s)).weight for s in (0, 1)]
    assert not torch.equal(*weights)


def test_progress_is_said_where_there_is_no_terminal(tmp_path, capsys):
    train(Place(tmp_path, torch.device("cpu")))
    assert "12/12" in capsys.readouterr().out
