"""The autoencoder's shapes."""

import torch

from aai.tiny.scenes import render, sample_scenes
from aai.tiny.training.data import SceneSet
from aai.tiny.training.loop import TrainingSetup
from aai.tiny.training.vae import encode, new_vae


def test_latents_are_16_by_16_by_8(tmp_path):
    scenes = sample_scenes(3, seed=1)
    setup = TrainingSetup(tmp_path, torch.device("cpu"))
    assert encode(new_vae().eval(), SceneSet(scenes, render(scenes).pixels), 2, setup).shape == (2, 8, 16, 16)
