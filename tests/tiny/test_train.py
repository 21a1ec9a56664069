"""The training script runs all stages, with a few steps each, and skips stages that are done."""

import sys

import pytest
import torch

from aai.models.options import RenderOptions
from aai.tiny import train
from aai.tiny.judge import Judge
from aai.tiny.sounds import synthesise
from aai.tiny.training.loop import TrainingSetup
from aai.tiny.training.ship import ship
from aai.tiny.world import World


@pytest.mark.slow
def test_all_stages_run_and_their_models_load(tmp_path, capsys):
    setup = TrainingSetup(
        tmp_path / "work", torch.device("cpu"), scale=1e-3, batch_scale=0.1, num_scenes=250, num_clips=60
    )
    for stage in train.STAGES:
        train.run_stage(stage, setup)
    assert 5e6 < ship(setup.folder, tmp_path / "weights") < 25e6
    assert not list((tmp_path / "work").glob("*.checkpoint.pt"))
    world, judge = World(tmp_path / "weights"), Judge.load(tmp_path / "weights" / "judge")
    cues = world.cues(world.embed_clips([synthesise("rain", 0.5, 1)]))
    images = world.render(["a * city"], [3], cues, options=RenderOptions(steps=2, guidance=4.0))
    assert images.shape == (1, 64, 64, 3)
    assert judge.read(images).phenomenon.shape == (1, 11)
    capsys.readouterr()
    train.run_stage("vae", setup)
    assert "already done" in capsys.readouterr().out


def test_the_help_has_an_example(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["train", "--help"])
    try:
        train.main()
    except SystemExit as stop:
        assert stop.code == 0
    assert "example: python -m aai.tiny.train" in capsys.readouterr().out


def test_a_missing_folder_of_weights_to_start_from_is_an_error(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["train", "--folder", str(tmp_path), "--start-from", str(tmp_path / "missing")])
    with pytest.raises(SystemExit):
        train.main()
    assert "missing: no such folder" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
