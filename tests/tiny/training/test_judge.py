"""Training targets of the judge."""

import torch

from aai.tiny.judge import NUM_LEVELS
from aai.tiny.scenes import Scene
from aai.tiny.training.judge import labels
from aai.tiny.vocabulary import BACKGROUNDS, PHENOMENA


def test_targets_are_class_indices_and_a_distribution_over_levels():
    scenes = [Scene("verb", "rain", "forest", 0.5, tone=1.0), Scene("background", None, "city", 0.0)]
    composition, phenomenon, background, levels, tones = labels(scenes)
    assert composition.tolist() == [2, 0]
    assert phenomenon.tolist() == [PHENOMENA.index("rain"), len(PHENOMENA)]
    assert background.tolist() == [BACKGROUNDS.index("forest"), BACKGROUNDS.index("city")]
    assert levels.shape == (2, NUM_LEVELS) and torch.allclose(levels.sum(dim=1), torch.ones(2))
    assert levels.argmax(dim=1).tolist() == [NUM_LEVELS // 2, 0]
    assert tones.argmax(dim=1).tolist() == [NUM_LEVELS - 1, NUM_LEVELS // 2]
