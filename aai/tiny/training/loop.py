"""The training loop of all stages: seeded per step, resumable, with an EMA of the weights and a progress bar."""

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
from torch.optim.lr_scheduler import LambdaLR
from torch.optim.swa_utils import AveragedModel

from aai.identity import seed_of
from aai.models.onednn import keep_memory
from aai.options import Options

_SAVE_EVERY_S = 60.0
_PRINT_EVERY_S = 30.0
_WARM_RATE = 2 / 3
"""Factor on the learning rate where a stage starts from given weights."""


class LoopOptions(Options):
    """Hyperparameters of a training stage."""

    steps: int = Field(gt=0)
    """Number of optimiser steps."""

    batch: int = Field(gt=0)
    """Batch size."""

    learning_rate: float = Field(1e-3, gt=0)
    """Peak learning rate, after a linear warm-up; cosine decay to 2 % of it."""

    warmup: int = Field(50, ge=1)
    """Number of warm-up steps."""

    weight_decay: float = Field(1e-2, ge=0)
    """Weight decay of AdamW."""

    average: float = Field(0.998, ge=0, lt=1)
    """Decay of the exponential moving average (EMA) of the weights."""

    warm_share: float = Field(1.0, gt=0, le=1)
    """Fraction of the steps where the stage starts from given weights."""


@dataclass(frozen=True)
class TrainingSetup:
    """Folder, device, seed and amount of data of a training run."""

    folder: Path
    device: torch.device
    seed: int = 0
    scale: float = 1.0
    """Factor on the number of steps of every stage."""

    batch_scale: float = 1.0
    """Factor on the batch size of every stage, to test that all stages run."""

    start_from: Path | None = None
    """Folder of weights with which the stages start, as the package's; without one they start from scratch."""

    num_scenes: int = 40_000
    num_clips: int = 20_000

    def rng(self, stage: str, step: int) -> torch.Generator:
        """The CPU generator of one step of a stage."""
        return torch.Generator().manual_seed(seed_of(self.seed, "tiny", stage, "train", step))

    def adapted(self, options: LoopOptions) -> LoopOptions:
        """A stage's options with this run's number of steps, batch size and learning rate."""
        share, rate = (1.0, 1.0) if self.start_from is None else (options.warm_share, _WARM_RATE)
        changed = {
            "steps": max(1, round(options.steps * self.scale * share)),
            "batch": max(2, round(options.batch * self.batch_scale)),
            "learning_rate": options.learning_rate * rate,
        }
        return options.model_copy(update=changed)

    def autocast(self) -> torch.autocast:
        """Autocast to bfloat16, unless the CPU emulates it, which is slower than float32."""
        cpu = torch.cpu.get_capabilities()
        has_bfloat16 = self.device.type != "cpu" or bool(cpu.get("avx512_bf16") or cpu.get("amx_bf16"))
        return torch.autocast(self.device.type, torch.bfloat16, enabled=has_bfloat16)


Loss = Callable[[torch.Generator, int], tuple[Tensor, dict[str, float]]]
"""Draws a batch of the given size with the generator; returns the loss and values for the progress bar."""


def fit(stage: str, modules: nn.ModuleDict, loss: Loss, options: LoopOptions, setup: TrainingSetup) -> None:
    """Train `modules` in place; they end with the averaged weights, in evaluation mode.

    An interrupted run resumes from its last checkpoint, which the caller deletes at the end of the stage.
    """
    keep_memory()
    options = setup.adapted(options)
    steps = options.steps
    state = _State.new(modules, options)
    checkpoint = setup.folder / f"{stage}.checkpoint.pt"
    start = state.load(checkpoint)
    modules.train()
    report = _Report(stage, start, steps)
    with report.bar:
        for step in range(start, steps):
            value, figures = loss(setup.rng(stage, step), options.batch)
            state.update(value)
            if report.step(step + 1, figures):
                state.save(checkpoint, step + 1)
    state.save(checkpoint, steps)
    state.copy_average()
    modules.eval()


@dataclass(frozen=True)
class _State:
    """Everything that a checkpoint restores."""

    modules: nn.ModuleDict
    average: AveragedModel
    optimizer: torch.optim.Optimizer
    scheduler: LambdaLR

    @classmethod
    def new(cls, modules: nn.ModuleDict, options: LoopOptions) -> "_State":
        def ema(average: Tensor, current: Tensor, num_averaged: Tensor | int) -> Tensor:
            """Move the average; it forgets faster at first, as early weights are far from the final ones."""
            return average.lerp(current, 1 - min(options.average, float(num_averaged / (num_averaged + 19))))

        def learning_rate_factor(step: int) -> float:
            """Linear warm-up times cosine decay to 0.02."""
            cosine = 0.5 * (1 + math.cos(math.pi * step / options.steps))
            return min(1.0, (step + 1) / options.warmup) * (0.02 + 0.98 * cosine)

        optimizer = torch.optim.AdamW(
            modules.parameters(), options.learning_rate, betas=(0.9, 0.99), weight_decay=options.weight_decay
        )
        average = AveragedModel(modules, avg_fn=ema)
        average.update_parameters(modules)  # the first update copies the initial weights
        return cls(modules, average, optimizer, LambdaLR(optimizer, learning_rate_factor))

    def update(self, loss: Tensor) -> None:
        """One optimiser step, with gradients clipped to a norm of 1."""
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self.modules.parameters(), 1.0)
        self.optimizer.step()
        self.scheduler.step()
        self.average.update_parameters(self.modules)

    @torch.no_grad()
    def copy_average(self) -> None:
        """Replace the weights by their average; buffers, as of batch norm, stay the last ones."""
        for parameter, average in zip(self.modules.parameters(), self.average.module.parameters(), strict=True):
            parameter.copy_(average)

    def save(self, path: Path, step: int) -> None:
        """Write a checkpoint atomically."""
        path.parent.mkdir(parents=True, exist_ok=True)
        parts = {name: part.state_dict() for name, part in vars(self).items()}
        torch.save(parts | {"step": step}, path.with_suffix(".part"))
        os.replace(path.with_suffix(".part"), path)

    def load(self, path: Path) -> int:
        """Restore a checkpoint if there is one; returns the number of steps done."""
        if not path.exists():
            return 0
        saved = torch.load(path, map_location="cpu", weights_only=True)
        for name, part in vars(self).items():
            part.load_state_dict(saved[name])
        return int(saved["step"])


class _Report:
    """A progress bar on a terminal, otherwise a line every half minute; both with smoothed values."""

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
        self.start = self.printed = self.saved = time.monotonic()

    def step(self, done: int, figures: dict[str, float]) -> bool:
        """Report the values of a step; returns whether a checkpoint is due."""
        for name, value in figures.items():
            self.figures[name] = 0.98 * self.figures.get(name, value) + 0.02 * value
        now = time.monotonic()
        rate = (done - self.first) / (now - self.start)
        values = " ".join(f"{name} {value:.4g}" for name, value in self.figures.items())
        self.bar.update(self.task, completed=done, figures=f"{rate:.2f} steps/s  {values}")
        if self.bar.disable and (now - self.printed > _PRINT_EVERY_S or done == self.steps):
            self.printed = now
            minutes_left = (self.steps - done) / rate / 60
            self.bar.console.print(
                f"{self.stage} {done}/{self.steps} {rate:.2f} steps/s, {minutes_left:.1f} min left, {values}"
            )
        due = now - self.saved > _SAVE_EVERY_S
        self.saved = now if due else self.saved
        return due
