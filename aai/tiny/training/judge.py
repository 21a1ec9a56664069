"""Training of the judge, on its own scenes, degraded like generated images."""

from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from aai.tiny.judge import NUM_LEVELS, Judge
from aai.tiny.scenes import Scene
from aai.tiny.training.data import JUDGE_SEED, SceneSet, scene_set
from aai.tiny.training.loop import LoopOptions, TrainingSetup, fit
from aai.tiny.training.warm import warm_start
from aai.tiny.vocabulary import BACKGROUNDS, COMPOSITIONS, PHENOMENA

OPTIONS = LoopOptions(steps=3600, batch=64, learning_rate=2e-3, weight_decay=1e-3, warm_share=1 / 3)
_SEED_OFFSET = 97
"""Added to the run's seed, so that the judge shares no random numbers with the models."""


def train_judge(setup: TrainingSetup) -> None:
    """Train with cross-entropy on the five heads; intensity and tone only for scenes with a phenomenon."""
    setup = replace(setup, seed=setup.seed + _SEED_OFFSET)
    torch.manual_seed(setup.seed)
    judge, scenes = Judge().to(setup.device), scene_set(setup.num_scenes, JUDGE_SEED, setup.folder)
    warm_start(judge, setup, "judge")
    targets = [target.to(setup.device) for target in labels(scenes.scenes)]

    def loss(rng: torch.Generator, batch: int) -> tuple[Tensor, dict[str, float]]:
        chosen = torch.randint(len(scenes), (batch,), generator=rng)
        images = _degrade(scenes.tensor(chosen), rng).to(setup.device)
        with setup.autocast():
            logits = judge(images)
        truth = [target[chosen.to(setup.device)] for target in targets]
        losses = [F.cross_entropy(*pair) for pair in zip([x.float() for x in logits[:3]], truth[:3], strict=True)]
        has_phenomenon = truth[1] < len(PHENOMENA)
        level, tone = (F.cross_entropy(logits[i].float()[has_phenomenon], truth[i][has_phenomenon]) for i in (3, 4))
        accuracy = (logits[1].argmax(-1) == truth[1]).float().mean()
        return sum(losses, level + tone), {"phenomenon": accuracy.item(), "level": level.item(), "tone": tone.item()}

    fit("judge", nn.ModuleDict({"judge": judge}), loss, OPTIONS, setup)
    _update_batch_norm(judge, scenes, setup)
    judge.save(setup.folder / "judge")


def labels(scenes: list[Scene]) -> list[Tensor]:
    """Indices of composition, phenomenon and background ("none" is last), and soft targets over levels of both."""
    composition = torch.tensor([COMPOSITIONS.index(scene.composition) for scene in scenes])
    phenomenon = torch.tensor([PHENOMENA.index(s.phenomenon) if s.phenomenon else len(PHENOMENA) for s in scenes])
    background = torch.tensor([BACKGROUNDS.index(s.background) if s.background else len(BACKGROUNDS) for s in scenes])
    degrees = ([scene.intensity for scene in scenes], [scene.tone for scene in scenes])
    return [composition, phenomenon, background, *(_soft_levels(torch.tensor(values)) for values in degrees)]


def _soft_levels(values: Tensor) -> Tensor:
    levels = torch.linspace(0, 1, NUM_LEVELS)
    spread = torch.exp(-(((values[:, None] - levels) / 0.05) ** 2) / 2)
    return spread / spread.sum(1, keepdim=True)


def _degrade(images: Tensor, rng: torch.Generator) -> Tensor:
    """Random blur, noise, contrast and tint, as augmentation against the softness of generated images."""
    num = len(images)
    chance = torch.rand(num, 1, 1, 1, generator=rng)
    once = F.avg_pool2d(F.pad(images, (1, 1, 1, 1), mode="replicate"), 3, 1)
    twice = F.avg_pool2d(F.pad(once, (1, 1, 1, 1), mode="replicate"), 3, 1)
    images = torch.where(chance < 0.3, once, torch.where(chance < 0.45, twice, images))
    noise = torch.randn(images.shape, generator=rng) * torch.rand(num, 1, 1, 1, generator=rng) * 0.08
    contrast = 1 + 0.1 * torch.randn(num, 1, 1, 1, generator=rng)
    return (images + noise) * contrast + 0.05 * torch.randn(num, 3, 1, 1, generator=rng)


@torch.no_grad()
def _update_batch_norm(judge: Judge, scenes: SceneSet, setup: TrainingSetup) -> None:
    """Recompute the batch-norm statistics for the averaged weights."""
    for layer in judge.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.reset_running_stats()
            layer.momentum = None
    judge.train()
    for step in range(20):
        chosen = torch.arange(step * 200, step * 200 + 200) % len(scenes)
        judge(_degrade(scenes.tensor(chosen), setup.rng("judge.norm", step)).to(setup.device))
    judge.eval()
