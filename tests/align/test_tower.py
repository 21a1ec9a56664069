"""The last blocks of an encoder are trained with the projector: it learns, resumes, and two processes do the same."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from aai.align import tower as towers
from aai.align.pair_vectors import HELD_OUT, PairVectors
from aai.align.tower import Tower
from aai.align.train_options import TrainAlignerOptions
from aai.align.training import Setup, Trained, train
from tests.align.towers import open_tower, write_tower_pairs

QUICK = TrainAlignerOptions(
    learning_rate=5e-3,
    tower_blocks=1,
    tower_learning_rate=5e-3,
    batch=32,
    epochs=1,
    min_steps=120,
    hidden_dim=64,
    evaluations=3,
    checkpoint_steps=10,
)


def trained_in(folder: Path, pairs: Path, options: TrainAlignerOptions = QUICK, **changes) -> Trained:
    folder.mkdir(exist_ok=True)
    tower = open_tower(pairs) if options.tower_blocks else None
    setup = Setup(options, "digest", folder / "checkpoint.safetensors", torch.device("cpu"), tower=tower)
    return train(PairVectors.open(pairs), replace(setup, **changes), ignore)


def ignore(*of_step: object) -> None:
    pass


def recall(trained: Trained, pairs: PairVectors, tower: Tower) -> float:
    members = pairs.members(HELD_OUT)
    with torch.inference_mode():
        weights = trained.tower or None
        audio = tower.vectors(pairs.sounds[members], torch.device("cpu"), weights)
        aligned = trained.projector(audio).numpy()
    return float(((aligned @ pairs.image[members].T).argmax(1) == np.arange(len(members))).mean())


def test_a_tower_that_is_trained_hears_what_the_frozen_one_does_not(tmp_path):
    pairs, tower = write_tower_pairs(tmp_path / "pairs", 400)
    options = QUICK.model_copy(update={"noise": 0.3})
    frozen = trained_in(tmp_path / "frozen", tmp_path / "pairs", options.model_copy(update={"tower_blocks": 0}))
    tuned = trained_in(tmp_path / "tuned", tmp_path / "pairs", options)
    assert not frozen.tower and set(tuned.tower) == {"layer.weight", "layer.bias"}
    assert recall(tuned, pairs, tower) > recall(frozen, pairs, tower) + 0.1
    losses = [[row["validation loss"] for row in trained.progress.curve] for trained in (frozen, tuned)]
    assert losses[1][-1] < losses[0][-1]


def test_a_stopped_training_goes_on_to_the_same_weights(tmp_path):
    write_tower_pairs(tmp_path / "pairs", 100)
    whole = trained_in(tmp_path / "whole", tmp_path / "pairs")
    calls = iter(range(10**6))
    stopped = trained_in(tmp_path / "parts", tmp_path / "pairs", stop=lambda: next(calls) == 24)
    assert not stopped.is_finished and stopped.progress.step == 25
    resumed = trained_in(tmp_path / "parts", tmp_path / "pairs")
    assert resumed.progress.curve == whole.progress.curve
    for own, other in zip(resumed.projector.parameters(), whole.projector.parameters(), strict=True):
        assert torch.equal(own, other)
    assert all(torch.equal(resumed.tower[name], value) for name, value in whole.tower.items())


def test_gradients_in_chunks_are_those_of_the_whole_batch(tmp_path, monkeypatch):
    _, tower = write_tower_pairs(tmp_path / "pairs", 30)
    sounds, found = np.array([3, 8, 3, 20, 11, 29, 0]), []
    for chunk in (100, 2):
        monkeypatch.setattr(towers, "_CHUNK", chunk)
        tower.blocks.zero_grad()
        vectors = tower.vectors(sounds, torch.device("cpu"))
        (vectors**3).sum().backward()
        found.append((vectors.detach(), tower.blocks.layer.weight.grad.clone()))
    assert torch.equal(found[0][0][0], found[0][0][2]), "a sound that occurs twice"
    for own, other in zip(*found, strict=True):
        assert torch.allclose(own, other, atol=1e-6)


def test_without_blocks_a_training_has_the_settings_of_before():
    frozen = TrainAlignerOptions()
    assert not any(name.startswith("tower") for name in frozen.settings())
    assert frozen.model_copy(update={"tower_learning_rate": 1.0}).settings() == frozen.settings()
    assert QUICK.settings()["tower_learning_rate"] == 5e-3


@pytest.mark.slow
def test_two_ranks_have_the_loss_of_one(tmp_path):
    write_tower_pairs(tmp_path / "pairs", 100)
    options = QUICK.model_copy(update={"min_steps": 20, "evaluations": 20})
    one = trained_in(tmp_path / "one", tmp_path / "pairs", options)
    port = 20_000 + os.getpid() % 20_000
    command = [sys.executable, "-m", "tests.align.ranks", str(tmp_path), options.model_dump_json(), str(port)]
    ranks = [subprocess.Popen([*command, str(rank)]) for rank in range(2)]
    assert [rank.wait(120) for rank in ranks] == [0, 0]
    two = json.loads((tmp_path / "losses.json").read_text())
    losses = [row["train loss"] for row in one.progress.curve]
    assert np.allclose(two["losses"], losses, atol=1e-3, rtol=0) and len(losses) == 20
    assert torch.allclose(torch.tensor(two["tower"]["layer.weight"]), one.tower["layer.weight"], atol=1e-3)
