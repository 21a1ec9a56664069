"""Matching of scenes to clips."""

import numpy as np
import torch

from aai.tiny.scenes import sample_scenes
from aai.tiny.training.adapt import SceneMatcher
from aai.tiny.training.data import SceneSet
from aai.tiny.vocabulary import COMPOSITIONS, PHENOMENA


def test_a_matching_scene_has_the_phenomenon_composition_and_nearly_the_intensity_and_tone():
    scenes = sample_scenes(4000, seed=3)
    matcher = SceneMatcher(SceneSet(scenes, np.empty(0)))
    rng = torch.Generator().manual_seed(0)
    phenomena, intensities = torch.randint(len(PHENOMENA), (60,), generator=rng), torch.rand(60, generator=rng)
    tones = torch.rand(60, generator=rng)
    uses = [COMPOSITIONS[1:][number % 3] for number in range(60)]
    chosen = [scenes[i] for i in matcher.draw(uses, phenomena, intensities, tones, rng).tolist()]
    assert [scene.composition for scene in chosen] == uses
    assert [scene.phenomenon for scene in chosen] == [PHENOMENA[i] for i in phenomena.tolist()]
    errors = torch.tensor([scene.intensity for scene in chosen]) - intensities
    assert errors.abs().median() < 0.04 and errors.abs().max() < 0.15
    distances = (torch.tensor([scene.tone for scene in chosen]) - tones).abs()
    assert distances.median() < 0.1 and distances.max() < 0.4
