"""Cached training data."""

import numpy as np
import pytest
import torch

from aai.tiny.clips import NUM_BINS, NUM_FRAMES
from aai.tiny.scenes import render
from aai.tiny.training import data
from aai.tiny.training.data import clip_set, scene_set, to_tensor


def test_scenes_are_rendered_once_and_loaded_afterwards(tmp_path, monkeypatch):
    scenes = scene_set(5, 1, tmp_path)
    assert np.array_equal(scenes.pixels, render(scenes.scenes).pixels)
    monkeypatch.setattr(data, "render", lambda _: pytest.fail("scenes were rendered again"))
    assert np.array_equal(scene_set(5, 1, tmp_path).pixels, scenes.pixels)
    assert scenes.tensor(torch.tensor([0, 4])).shape == (2, 3, 64, 64)


def test_clips_have_features_and_labels(tmp_path):
    clips = clip_set(3, 1, tmp_path)
    assert clips.tensor(torch.arange(3)).shape == (3, 1, NUM_FRAMES, NUM_BINS)
    assert len(clips) == len(clips.phenomena) == len(clips.intensities) == 3


def test_pixels_are_scaled_to_minus_one_to_one():
    tensor = to_tensor(np.uint8([[[[0, 255, 127]]]]))
    assert tensor.shape == (1, 3, 1, 1) and tensor.flatten().tolist()[:2] == [-1, 1]
