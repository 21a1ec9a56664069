"""Checkpoints of a training: a safetensors file, written whole or not at all. Nothing is pickled."""

import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor


@dataclass
class Progress:
    """How far a training is, and what it has measured."""

    digest: str
    """Of the options and the pairs: with others a training begins anew."""
    step: int = 0
    best_loss: float = float("inf")
    best_step: int = 0
    since_best: int = 0
    """Evaluations since the best."""
    curve: list[dict[str, float]] = field(default_factory=list)
    """A row per evaluation: step, losses, recall and scale."""


def save_checkpoint(path: Path, tensors: dict[str, Tensor], progress: Progress) -> None:
    """Replace a checkpoint."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".part")
    contiguous = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    save_file(contiguous, partial, {"progress": json.dumps(vars(progress))})
    os.replace(partial, path)


def load_checkpoint(path: Path, digest: str) -> tuple[dict[str, Tensor], Progress] | None:
    """The checkpoint of a training with some digest; none if there is none that can be read."""
    try:
        with safe_open(path, "pt") as file:
            progress = Progress(**json.loads(file.metadata()["progress"]))
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
    except (OSError, SafetensorError, ValueError, KeyError, TypeError):
        return None
    return (tensors, progress) if progress.digest == digest else None


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The state of an optimiser."""
    state: dict[int, dict[str, Any]] = optimizer.state_dict()["state"]
    return {f"optimizer.{number}.{name}": value for number, own in state.items() for name, value in own.items()}


def restore_optimizer(optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    """Restore the state of an optimiser."""
    state: dict[int, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        if name.startswith("optimizer."):
            _, number, key = name.split(".", 2)
            state.setdefault(int(number), {})[key] = value
    groups = optimizer.state_dict()["param_groups"]
    optimizer.load_state_dict({"state": state, "param_groups": groups})
