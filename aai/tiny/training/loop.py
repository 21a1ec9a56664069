"""One training loop for every stage: seeded step by step, resumable, averaged, with a progress bar."""

import math
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from pydantic import Field
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from torch import Tensor, nn

from aai.identity import seed_of
from aai.models.onednn import keep_memory
from aai.options import Options

_SAVE_EVERY_S = 60.0
_SAY_EVERY_S = 30.0


class LoopOptions(Options):
    """How long and how fast a stage learns."""

    steps: int = Field(gt=0)
    """Optimiser steps."""

    batch: int = Field(gt=0)
    """Items of a step."""

    learning_rate: float = Field(1e-3, gt=0)
    """Highest learning rate, reached after the warm-up; it falls to a fiftieth along a half cosine."""

    warmup: int = Field(50, ge=1)
    """Steps until the highest learning rate."""

    weight_decay: float = Field(1e-2, ge=0)

    average: float = Field(0.998, ge=0, lt=1)
    """Decay of the moving average of the weights that is kept in the end."""


@dataclass(frozen=True)
class Place:
    """Where training runs and writes, from how much, and for how long: `scale` is a factor on every stage's steps.

    `batch_scale` is one on the items of a step, for a look at whether all stages run.
    """

    folder: Path
    device: torch.device
    seed: int = 0
    scale: float = 1.0
    batch_scale: float = 1.0
    num_scenes: int = 40_000
    num_clips: int = 10_000

    def rng(self, stage: str, step: int) -> torch.Generator:
        """The random numbers of one step of one stage, on the CPU."""
        return torch.Generator().manual_seed(seed_of(self.seed, "tiny", stage, "train", step))

    def autocast(self) -> torch.autocast:
        """Products in bfloat16, sums in float32; all in float32 on a CPU that only imitates bfloat16, far slower."""
        known = torch.cpu.get_capabilities()
        able = self.device.type != "cpu" or bool(known.get("avx512_bf16") or known.get("amx_bf16"))
        return torch.autocast(self.device.type, torch.bfloat16, enabled=able)


Loss = Callable[[torch.Generator, int], tuple[Tensor, dict[str, float]]]
"""Draws a batch with the generator (of the given size) and returns its loss and figures worth showing."""


def fit(stage: str, modules: nn.ModuleDict, loss: Loss, options: LoopOptions, place: Place) -> None:
    """Train `modules` in place and leave them with their averaged weights, in evaluation mode.

    A run that was stopped goes on from its last checkpoint, which is deleted by the caller's finished stage.
    """
    keep_memory()
    steps = max(1, round(options.steps * place.scale))
    parameters = [p for p in modules.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=1.0, betas=(0.9, 0.99), weight_decay=options.weight_decay)
    average = [p.detach().clone() for p in parameters]
    checkpoint = place.folder / f"{stage}.checkpoint.pt"
    start = _resume(checkpoint, modules, optimizer, average)
    modules.train()
    report = _Report(stage, start, steps)
    with report.bar:
        for step in range(start, steps):
            _set_rate(optimizer, options, step, steps)
            value, figures = loss(place.rng(stage, step), max(2, round(options.batch * place.batch_scale)))
            optimizer.zero_grad(set_to_none=True)
            value.backward()
            nn.utils.clip_grad_norm_(parameters, 1.0)
            optimizer.step()
            decay = min(options.average, (step + 1) / (step + 20))
            with torch.no_grad():
                torch._foreach_lerp_(average, [p.detach() for p in parameters], 1 - decay)
            if report.step(step + 1, figures):
                _save(checkpoint, step + 1, modules, optimizer, average)
    _save(checkpoint, steps, modules, optimizer, average)
    with torch.no_grad():
        torch._foreach_copy_([p.detach() for p in parameters], average)
    modules.eval()


def _set_rate(optimizer: torch.optim.Optimizer, options: LoopOptions, step: int, steps: int) -> None:
    warm = min(1.0, (step + 1) / options.warmup)
    fall = 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * step / steps))
    for group in optimizer.param_groups:
        group["lr"] = options.learning_rate * warm * fall


def _save(path: Path, step: int, modules: nn.Module, optimizer: torch.optim.Optimizer, average: list[Tensor]) -> None:
    state = {"step": step, "modules": modules.state_dict(), "optimizer": optimizer.state_dict(), "average": average}
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(state, path.with_suffix(".part"))
    os.replace(path.with_suffix(".part"), path)


def _resume(path: Path, modules: nn.Module, optimizer: torch.optim.Optimizer, average: list[Tensor]) -> int:
    if not path.exists():
        return 0
    state = torch.load(path, map_location="cpu", weights_only=True)
    modules.load_state_dict(state["modules"])
    optimizer.load_state_dict(state["optimizer"])
    for mine, saved in zip(average, state["average"], strict=True):
        mine.copy_(saved)
    return int(state["step"])


class _Report:
    """A progress bar on a terminal, a line every half minute elsewhere; both with smoothed figures."""

    def __init__(self, stage: str, start: int, steps: int) -> None:
        console = Console()
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[figures]}"),
        )
        self.bar = Progress(
            *columns, TimeElapsedColumn(), TimeRemainingColumn(), console=console, disable=not console.is_terminal
        )
        self.task = self.bar.add_task(f"{stage:10}", total=steps, completed=start, figures="")
        self.stage, self.first, self.steps, self.figures = stage, start, steps, dict[str, float]()
        self.start = self.said = self.saved = time.monotonic()

    def step(self, done: int, figures: dict[str, float]) -> bool:
        """Take a step's figures; true when it is time to save."""
        for name, value in figures.items():
            self.figures[name] = value if name not in self.figures else 0.98 * self.figures[name] + 0.02 * value
        now = time.monotonic()
        rate = (done - self.first) / (now - self.start)
        words = " ".join(f"{name} {value:.4g}" for name, value in self.figures.items())
        self.bar.update(self.task, completed=done, figures=f"{rate:.2f} steps/s  {words}")
        if self.bar.disable and (now - self.said > _SAY_EVERY_S or done == self.steps):
            self.said = now
            left = (self.steps - done) / rate / 60
            self.bar.console.print(f"{self.stage} {done}/{self.steps} {rate:.2f} steps/s, {left:.1f} min left, {words}")
        due = now - self.saved > _SAVE_EVERY_S
        self.saved = now if due else self.saved
        return due
