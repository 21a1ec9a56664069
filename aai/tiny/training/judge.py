"""The judge learns from scenes of its own, softened and discoloured as generated pictures are."""

from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from aai.tiny.judge import NUM_LEVELS, Judge
from aai.tiny.scenes import Scene
from aai.tiny.training.data import JUDGE_SEED, SceneSet, scene_set
from aai.tiny.training.loop import LoopOptions, Place, fit
from aai.tiny.vocabulary import BACKGROUNDS, COMPOSITIONS, PHENOMENA

OPTIONS = LoopOptions(steps=3600, batch=64, learning_rate=2e-3, weight_decay=1e-3)
_JUDGE_RUN = 97
"""Added to the run's seed, so that the judge shares no random number with the models."""


def train_judge(place: Place) -> None:
    """Cross-entropy on the four readings; intensity only where there is a phenomenon."""
    place = replace(place, seed=place.seed + _JUDGE_RUN)
    torch.manual_seed(place.seed)
    judge, scenes = Judge().to(place.device), scene_set(place.num_scenes, JUDGE_SEED, place.folder)
    truth = [answers.to(place.device) for answers in labels(scenes.scenes)]

    def loss(rng: torch.Generator, batch: int) -> tuple[Tensor, dict[str, float]]:
        chosen = torch.randint(len(scenes), (batch,), generator=rng)
        pictures = _spoil(scenes.tensor(chosen), rng).to(place.device)
        with place.autocast():
            logits = judge(pictures)
        wanted = [answers[chosen.to(place.device)] for answers in truth]
        losses = [F.cross_entropy(*pair) for pair in zip([x.float() for x in logits[:3]], wanted[:3], strict=True)]
        seen = wanted[1] < len(PHENOMENA)
        level = F.cross_entropy(logits[3].float()[seen], wanted[3][seen])
        right = (logits[1].argmax(-1) == wanted[1]).float().mean()
        return sum(losses, level), {"phenomenon": right.item(), "level": level.item()}

    fit("judge", nn.ModuleDict({"judge": judge}), loss, OPTIONS, place)
    _settle_norms(judge, scenes, place)
    judge.save(place.folder / "judge")


def labels(scenes: list[Scene]) -> list[Tensor]:
    """Indices of composition, phenomenon and background ("none" comes last), and a distribution over levels."""
    composition = torch.tensor([COMPOSITIONS.index(scene.composition) for scene in scenes])
    phenomenon = torch.tensor([PHENOMENA.index(s.phenomenon) if s.phenomenon else len(PHENOMENA) for s in scenes])
    background = torch.tensor([BACKGROUNDS.index(s.background) if s.background else len(BACKGROUNDS) for s in scenes])
    intensity = torch.tensor([scene.intensity for scene in scenes])
    levels = torch.linspace(0, 1, NUM_LEVELS)
    spread = torch.exp(-(((intensity[:, None] - levels) / 0.05) ** 2) / 2)
    return [composition, phenomenon, background, spread / spread.sum(1, keepdim=True)]


def _spoil(pictures: Tensor, rng: torch.Generator) -> Tensor:
    """Blur, noise, contrast and tint at random, so that soft pictures are read as well as sharp ones."""
    num = len(pictures)
    chance = torch.rand(num, 1, 1, 1, generator=rng)
    once = F.avg_pool2d(F.pad(pictures, (1, 1, 1, 1), mode="replicate"), 3, 1)
    twice = F.avg_pool2d(F.pad(once, (1, 1, 1, 1), mode="replicate"), 3, 1)
    pictures = torch.where(chance < 0.3, once, torch.where(chance < 0.45, twice, pictures))
    noise = torch.randn(pictures.shape, generator=rng) * torch.rand(num, 1, 1, 1, generator=rng) * 0.08
    contrast = 1 + 0.1 * torch.randn(num, 1, 1, 1, generator=rng)
    return (pictures + noise) * contrast + 0.05 * torch.randn(num, 3, 1, 1, generator=rng)


@torch.no_grad()
def _settle_norms(judge: Judge, scenes: SceneSet, place: Place) -> None:
    """Measure the batch norms' statistics for the averaged weights."""
    for layer in judge.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.reset_running_stats()
            layer.momentum = None
    judge.train()
    for step in range(20):
        chosen = torch.arange(step * 200, step * 200 + 200) % len(scenes)
        judge(_spoil(scenes.tensor(chosen), place.rng("judge.norm", step)).to(place.device))
    judge.eval()
