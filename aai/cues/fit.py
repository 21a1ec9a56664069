"""Fits AudioCues: an adapter per clip is optimised on the clip's images, under the frozen text-to-image model.

Clips are fitted in batches that share the model's passes. A clip's cue does not depend on the others in the batch:
losses are summed over clips, each clip has its own Adam, and its id and step seed its random numbers (D9, D10).
"""

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from aai.cues.adapters import StackedAdapters
from aai.cues.denoising import ClipToFit, SampleRows, TextToImage, draw_rows, losses_and_gradient, losses_of
from aai.cues.options import DEFAULT_ROWS, FitOptions
from aai.identity import seed_of

StopReason = Literal["steps", "steady"]
"""`steps`: the maximum number of steps. `steady`: early stopping."""

_WARMUP_STEPS = 3
_FINAL_RATE = 0.3
"""Learning rate at the last step, as a fraction of its peak."""


@dataclass(frozen=True)
class FittedCue:
    """An AudioCue, with a record of its optimisation."""

    clip_id: str
    vector: Float[Tensor, "tokens dim"]
    """The cue with the lowest validation loss."""
    losses: list[float]
    """Validation losses: before the first step, then at every evaluation."""
    steps: int
    stop_reason: StopReason
    took_s: float
    """Wall time; the time of a step is divided equally among the clips in the batch."""
    image_ids: tuple[str, ...]
    """The images it was fitted on."""

    @property
    def loss_after(self) -> float:
        """The validation loss of `vector`."""
        return min(self.losses)


class FreeCue(nn.Module):
    """A cue without audio: textual inversion.

    The parameter is the offset from `start` in units of the root mean square of `start`, so that one learning rate
    suits all text encoders.

    Source: Gal et al. 2022, "An Image is Worth One Word", eq. 2.
    """

    def __init__(self, start: Float[Tensor, "tokens dim"]) -> None:
        super().__init__()
        self.start: Tensor
        self.register_buffer("start", start)
        self.offset = nn.Parameter(torch.zeros_like(start))

    def forward(self, aligned: Float[Tensor, "clips image_dim"]) -> Float[Tensor, "clips tokens dim"]:
        """The same cue for every clip."""
        scale = self.start.square().mean().sqrt()
        return (self.start + scale * self.offset).expand(len(aligned), -1, -1)


class Fitter:
    """Fits cues under a frozen text-to-image model.

    Args:
        model: the text-to-image model.
        network: the initial adapter of every clip: the shared `CueMapper`, or a `FreeCue`.
        options: steps, batch sizes, learning rate and templates.
        run_seed: the seed of the run.
    """

    def __init__(self, model: TextToImage, network: nn.Module, options: FitOptions, run_seed: int) -> None:
        self.model, self.options, self.run_seed = model, options, run_seed
        self.network = network.to(model.device).requires_grad_(False).eval()
        self.max_rows = options.max_rows or DEFAULT_ROWS

    @property
    def max_clips(self) -> int:
        """Clips in a batch: as many as have `max_rows` rows in a step; one with more is split into micro-batches."""
        return max(1, self.max_rows // self.options.rows_per_step)

    def halve_memory(self) -> bool:
        """Halve the rows in a pass, after an out-of-memory error; false if it is a single row already."""
        if self.max_rows == 1:
            return False
        self.max_rows //= 2
        return True

    def fit(self, clips: Iterable[ClipToFit]) -> Iterator[FittedCue]:
        """Fit clips; a cue is yielded when it is finished and the next clip takes its slot, so `clips` may be lazy."""
        queue, batch = iter(clips), _Batch(self.network)
        while self._fill(batch, queue):
            yield from batch.pop_finished()  # with `steps: 0` all are
            if batch.clips:
                self._run_to_next_eval(batch)
                yield from batch.pop_finished()

    def _fill(self, batch: "_Batch", queue: Iterator[ClipToFit]) -> int:
        """Add clips to the free slots and evaluate them; the number of clips in the batch."""
        start_s, first = time.monotonic(), len(batch.clips)
        while len(batch.clips) < self.max_clips and (clip := next(queue, None)) is not None:
            batch.add(clip, self.model.device)
        new = list(range(first, len(batch.clips)))
        self._evaluate(batch, new)
        batch.add_time(new, time.monotonic() - start_s)
        return len(batch.clips)

    def _run_to_next_eval(self, batch: "_Batch") -> None:
        """Optimise all clips until at least one is due for evaluation."""
        start_s = time.monotonic()
        due = [self._next_eval(steps) for steps in batch.adapters.steps]
        for _ in range(min(due[index] - steps for index, steps in enumerate(batch.adapters.steps))):
            self._step(batch)
        self._evaluate(batch, [index for index, steps in enumerate(batch.adapters.steps) if steps == due[index]])
        batch.add_time(range(len(batch.clips)), time.monotonic() - start_s)

    def _next_eval(self, steps: int) -> int:
        every = self.options.eval_every
        return min((steps // every + 1) * every, self.options.steps)

    def _step(self, batch: "_Batch") -> None:
        """One optimiser step of every clip."""
        rows = [
            self._rows(fit.clip, self.options.rows_per_step, "step", steps)
            for fit, steps in zip(batch.clips, batch.adapters.steps, strict=True)
        ]
        with torch.enable_grad():
            cues, starts = batch.adapters.cues(), batch.adapters.starts
            _, gradient = losses_and_gradient(self.model, cues, rows, self.max_rows)
            distances = (cues - starts).square().mean((1, 2)) / starts.square().mean((1, 2))
            outputs = [cues, self.options.prior_weight * distances.sum()]
            gradients = torch.autograd.grad(outputs, list(batch.adapters.weights.values()), [gradient, None])
        batch.adapters.adam_step(gradients, [self._learning_rate(steps) for steps in batch.adapters.steps])

    def _learning_rate(self, steps: int) -> float:
        """Linear warm-up and linear decay."""
        decay = 1 - (1 - _FINAL_RATE) * steps / max(self.options.steps, 1)
        return self.options.learning_rate * min(1.0, (steps + 1) / _WARMUP_STEPS) * decay

    @torch.no_grad()
    def _evaluate(self, batch: "_Batch", indices: Sequence[int]) -> None:
        """Compute the validation losses of some clips, on rows that are the same at every evaluation."""
        if not indices:
            return
        # The purpose is part of the seed's address: another word here would change every cue.
        rows = [self._rows(batch.clips[index].clip, self.options.eval_rows, "held-out", 0) for index in indices]
        cues = batch.adapters.cues()[list(indices)]
        losses = losses_of(self.model, cues, rows, self.max_rows).tolist()
        for index, cue, loss in zip(indices, cues, losses, strict=True):
            batch.clips[index].record(cue, loss, batch.adapters.steps[index], self.options)

    def _rows(self, clip: ClipToFit, num: int, purpose: str, step: int) -> SampleRows:
        seed = seed_of(self.run_seed, "fit", clip.clip_id, purpose, step)
        return draw_rows(seed, clip, num, self.options.templates, self.model.num_train_timesteps)


@dataclass
class _FitState:
    """The progress of a clip."""

    clip: ClipToFit
    losses: list[float] = field(default_factory=list)
    best: Tensor | None = None
    stop_reason: StopReason | None = None
    took_s: float = 0.0

    def record(self, cue: Tensor, loss: float, steps: int, options: FitOptions) -> None:
        """Record an evaluation: keep the best cue, and decide whether to stop."""
        if not self.losses or loss < min(self.losses):
            self.best = cue.clone()
        if steps >= options.steps:
            self.stop_reason = "steps"
        elif self.losses and min(self.losses) - loss < options.min_improvement * self.losses[0]:
            self.stop_reason = "steady"
        self.losses.append(loss)

    def result(self, steps: int) -> FittedCue:
        """The fitted cue of a finished clip."""
        assert self.best is not None and self.stop_reason is not None, "only finished clips have a result"
        return FittedCue(
            self.clip.clip_id, self.best, self.losses, steps, self.stop_reason, self.took_s, self.clip.image_ids
        )


class _Batch:
    """The clips that are being fitted, and their adapters in the same order."""

    def __init__(self, network: nn.Module) -> None:
        self.clips: list[_FitState] = []
        self.adapters = StackedAdapters(network)

    def add(self, clip: ClipToFit, device: torch.device) -> None:
        """Add a clip with a new adapter."""
        self.clips.append(_FitState(clip))
        self.adapters.add(clip.aligned.to(device))

    def add_time(self, indices: Sequence[int], took_s: float) -> None:
        """Divide a time equally among some clips."""
        for index in indices:
            self.clips[index].took_s += took_s / len(indices)

    def pop_finished(self) -> list[FittedCue]:
        """Remove the finished clips and return their cues."""
        finished = [
            fit.result(steps) for fit, steps in zip(self.clips, self.adapters.steps, strict=True) if fit.stop_reason
        ]
        if finished:
            active = [index for index, fit in enumerate(self.clips) if not fit.stop_reason]
            self.clips = [self.clips[index] for index in active]
            self.adapters.keep(active)
        return finished
