"""Adapt, per clip: many clips are fitted at once, each by a small network of its own, beneath a frozen model.

The networks are stacked tensors, so that one pass of the text-to-image model serves all clips. What a clip gets does
not depend on who is fitted beside it: losses are summed over clips, so that no clip's gradient knows of the others;
each has its own Adam, and every random number comes from the clip's id and its own step (D9, D10).
"""

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.func import functional_call

from aai.cues.options import FitOptions
from aai.identity import seed_of

StopReason = Literal["steps", "steady"]
"""All steps were taken, or the loss no longer fell."""

_BETAS = (0.9, 0.99)
_EPSILON = 1e-8
_WARMUP_STEPS = 3
_LAST_RATE = 0.3
"""The share of the learning rate that is left at the last step."""


@runtime_checkable
class TextToImage(Protocol):
    """What fitting asks of a frozen text-to-image model; see `aai.models.diffusion.Diffusion`."""

    @property
    def num_train_timesteps(self) -> int:
        """Timesteps are from 0 to one less than this."""

    @property
    def device(self) -> torch.device:
        """Where the model is."""

    def encode_prompts(self, prompts: Sequence[str], cues: Tensor | None = None) -> Any:
        """What the model attends to; gradients reach the cues, prompts x rows x dim."""

    def denoising_losses(self, latents: Tensor, conditioning: Any, timesteps: Tensor, noise: Tensor) -> Tensor:
        """A loss for each row."""


@dataclass(frozen=True)
class ClipToFit:
    """A clip, and the latents of the images that supervise its cue."""

    clip_id: str
    aligned: Float[Tensor, " image_dim"]
    """Its unit vector in the image space; `FreeCue` does not look at it."""
    latents: Float[Tensor, "images c h w"]


@dataclass(frozen=True)
class FittedCue:
    """An AudioCue and how it came to be."""

    clip_id: str
    vector: Float[Tensor, "rows dim"]
    losses: list[float]
    """Of the held-out noise at the start and at every check after it."""
    steps: int
    stop_reason: StopReason
    took_s: float
    """Its share of the time of the steps that it took part in."""

    @property
    def loss_after(self) -> float:
        """Of the cue, which is the best that was seen."""
        return min(self.losses)


class FreeCue(nn.Module):
    """A cue that hears nothing: textual inversion (Gal et al. 2022), here the ablation without audio.

    A step changes it in units of `start`'s root mean square, so that one learning rate suits all text encoders.
    """

    def __init__(self, start: Float[Tensor, "rows dim"]) -> None:
        super().__init__()
        self.start: Tensor
        self.register_buffer("start", start)
        self.change = nn.Parameter(torch.zeros_like(start))

    def forward(self, aligned: Float[Tensor, "clips image_dim"]) -> Float[Tensor, "clips rows dim"]:
        """The same cue for every clip."""
        scale = self.start.square().mean().sqrt()
        return (self.start + scale * self.change).expand(len(aligned), -1, -1)


class Fitter:
    """Fits cues beneath a frozen model.

    Args:
        model: the text-to-image model.
        network: what every clip's network starts as: the shared `CueMapper`, or a `FreeCue`.
        options: steps, rows, learning rate and templates.
        run_seed: the seed that all random numbers come from.
    """

    def __init__(self, model: TextToImage, network: nn.Module, options: FitOptions, run_seed: int) -> None:
        self.model, self.options, self.run_seed = model, options, run_seed
        self.network = network.to(model.device).requires_grad_(False).eval()
        self.clips_at_once = options.clips_at_once

    def fit(self, clips: Iterable[ClipToFit]) -> Iterator[FittedCue]:
        """Cues as they are finished; a clip that leaves makes room for the next, so keep `clips` lazy."""
        waiting, batch = iter(clips), _Batch(self.network)
        while self._fill(batch, waiting):
            yield from batch.take_finished()  # with no step to take, a clip ends as it starts
            if not batch.fits:
                continue
            start_s = time.monotonic()
            due = [self._next_check(fit.steps) for fit in batch.fits]
            for _ in range(min(step - fit.steps for step, fit in zip(due, batch.fits, strict=True))):
                self._step(batch)
            self._check(batch, [number for number, fit in enumerate(batch.fits) if fit.steps == due[number]])
            for fit in batch.fits:
                fit.took_s += (time.monotonic() - start_s) / len(batch.fits)
            yield from batch.take_finished()

    def _fill(self, batch: "_Batch", waiting: Iterator[ClipToFit]) -> int:
        """Take in as many clips as there is room for, with the losses that they start from; how many there are now."""
        start_s, first = time.monotonic(), len(batch.fits)
        while len(batch.fits) < self.clips_at_once and (clip := next(waiting, None)) is not None:
            batch.add(clip, self.model.device)
        new = list(range(first, len(batch.fits)))
        self._check(batch, new)
        for number in new:
            batch.fits[number].took_s += (time.monotonic() - start_s) / len(new)
        return len(batch.fits)

    def _next_check(self, steps: int) -> int:
        """After which step a clip is looked at next."""
        every = self.options.check_every
        return min((steps // every + 1) * every, self.options.steps)

    def _step(self, batch: "_Batch") -> None:
        """One optimiser step of every clip."""
        with torch.enable_grad():
            cues = batch.cues(with_gradient=True)
            losses = self._losses(batch.fits, cues, self.options.rows_per_step, "step")
            away = (cues - batch.starts).square().mean((1, 2)) / batch.starts.square().mean((1, 2))
            total = (losses + self.options.pull * away).sum()
            gradients = torch.autograd.grad(total, list(batch.weights.values()))
        batch.descend(gradients, [self._rate(fit.steps) for fit in batch.fits])
        for fit in batch.fits:
            fit.steps += 1

    def _rate(self, steps: int) -> float:
        """The learning rate of the next step: a short warm-up, then falling along a line."""
        falling = 1 - (1 - _LAST_RATE) * steps / max(self.options.steps, 1)
        return self.options.learning_rate * min(1.0, (steps + 1) / _WARMUP_STEPS) * falling

    @torch.no_grad()
    def _check(self, batch: "_Batch", numbers: list[int]) -> None:
        """Take the losses of some clips on noise that is the same at every check, and decide who goes on."""
        if not numbers:
            return
        cues = batch.cues()[numbers]
        fits = [batch.fits[number] for number in numbers]
        losses = self._losses(fits, cues, self.options.held_out_rows, "held-out").tolist()
        for fit, cue, loss in zip(fits, cues, losses, strict=True):
            fit.note(cue, loss, self.options)

    def _losses(
        self, fits: Sequence["_Fit"], cues: Float[Tensor, "clips rows dim"], num: int, purpose: str
    ) -> Float[Tensor, " clips"]:
        templates, num_timesteps = self.options.templates, self.model.num_train_timesteps
        rows = []
        for fit in fits:
            step = 0 if purpose == "held-out" else fit.steps
            seed = seed_of(self.run_seed, "fit", fit.clip.clip_id, purpose, step)
            rows.append(draw_rows(seed, fit.clip, num, templates, num_timesteps))
        return losses_on(self.model, [fit.clip for fit in fits], cues, rows)


@dataclass(frozen=True)
class Rows:
    """What the denoising loss of a clip is taken on: images by number, templates, timesteps and noise."""

    images: Int[Tensor, " rows"]
    prompts: list[str]
    timesteps: Int[Tensor, " rows"]
    noise: Float[Tensor, "rows c h w"]


def draw_rows(seed: int, clip: ClipToFit, num: int, templates: Sequence[str], num_timesteps: int) -> Rows:
    """Rows of a clip; images come in turn, timesteps spread evenly, each at random within its share of the range."""
    rng = torch.Generator().manual_seed(seed)
    images = torch.randperm(len(clip.latents), generator=rng).repeat(-(-num // len(clip.latents)))[:num]
    chosen = torch.randint(len(templates), (num,), generator=rng).tolist()
    places = (torch.arange(num) + torch.rand(num, generator=rng)) / num
    timesteps = (places * num_timesteps).long().clamp(max=num_timesteps - 1)
    noise = torch.randn((num, *clip.latents.shape[1:]), generator=rng)
    return Rows(images, [templates[i] for i in chosen], timesteps, noise)


def losses_on(
    model: TextToImage, clips: Sequence[ClipToFit], cues: Float[Tensor, "clips cue_rows dim"], rows: Sequence[Rows]
) -> Float[Tensor, " clips"]:
    """The mean denoising loss of each clip over its rows, of which all clips have as many."""
    num = len(rows[0].images)
    latents = torch.cat([clip.latents[drawn.images] for clip, drawn in zip(clips, rows, strict=True)])
    prompts = [prompt for drawn in rows for prompt in drawn.prompts]
    conditioning = model.encode_prompts(prompts, cues.repeat_interleave(num, dim=0))
    timesteps = torch.cat([drawn.timesteps for drawn in rows]).to(model.device)
    noise = torch.cat([drawn.noise for drawn in rows]).to(model.device)
    losses = model.denoising_losses(latents.to(model.device), conditioning, timesteps, noise)
    return losses.view(len(clips), num).mean(1)


@dataclass
class _Fit:
    """A clip at work."""

    clip: ClipToFit
    steps: int = 0
    losses: list[float] = field(default_factory=list)
    best: Tensor | None = None
    stop_reason: StopReason | None = None
    took_s: float = 0.0

    def note(self, cue: Tensor, loss: float, options: FitOptions) -> None:
        """Take in a check: keep the best cue, and see whether it is worth going on."""
        if not self.losses or loss < min(self.losses):
            self.best = cue.detach().clone()
        if self.steps >= options.steps:
            self.stop_reason = "steps"
        elif self.losses and min(self.losses) - loss < options.least_gain * self.losses[0]:
            self.stop_reason = "steady"
        self.losses.append(loss)

    def result(self) -> FittedCue:
        """What became of it."""
        assert self.best is not None and self.stop_reason is not None, "only finished clips have a result"
        return FittedCue(self.clip.clip_id, self.best, self.losses, self.steps, self.stop_reason, self.took_s)


class _Batch:
    """The clips at work: their networks' weights and moments, each stacked along the first dimension."""

    def __init__(self, network: nn.Module) -> None:
        self.network = network
        self.fits: list[_Fit] = []
        first = {name: weight[None] for name, weight in network.named_parameters()}
        self.weights = {name: weight[:0].clone() for name, weight in first.items()}
        self.means = {name: torch.zeros_like(weight) for name, weight in self.weights.items()}
        self.squares = {name: torch.zeros_like(weight) for name, weight in self.weights.items()}
        self.aligned = torch.empty(0)
        self.starts = torch.empty(0)

    def add(self, clip: ClipToFit, device: torch.device) -> None:
        """Take in a clip, whose network starts as the shared one."""
        self.fits.append(_Fit(clip))
        new = {name: weight[None] for name, weight in self.network.named_parameters()}
        self.weights = {name: torch.cat([self.weights[name], weight]) for name, weight in new.items()}
        for moments in (self.means, self.squares):
            moments.update({name: torch.cat([moments[name], torch.zeros_like(w)]) for name, w in new.items()})
        aligned = clip.aligned.to(device)[None]
        with torch.no_grad():
            start = self.network(aligned)
        self.aligned = aligned if len(self.fits) == 1 else torch.cat([self.aligned, aligned])
        self.starts = start if len(self.fits) == 1 else torch.cat([self.starts, start])

    def cues(self, with_gradient: bool = False) -> Float[Tensor, "clips rows dim"]:
        """The present cues."""
        for weight in self.weights.values():
            weight.requires_grad_(with_gradient)

        def cue_of(weights: dict[str, Tensor], aligned: Tensor) -> Tensor:
            return functional_call(self.network, weights, (aligned[None],))[0]

        return torch.vmap(cue_of)(self.weights, self.aligned)

    @torch.no_grad()
    def descend(self, gradients: Sequence[Tensor], rates: Sequence[float]) -> None:
        """A step of Adam (Kingma and Ba 2015, algorithm 1) in which every clip counts its own steps."""
        steps = np.array([fit.steps + 1 for fit in self.fits])
        for (name, weight), gradient in zip(self.weights.items(), gradients, strict=True):

            def per_clip(values: np.ndarray, like: Tensor = weight) -> Tensor:
                return torch.as_tensor(values, dtype=like.dtype, device=like.device).view(-1, *[1] * (like.dim() - 1))

            mean, square = self.means[name], self.squares[name]
            mean.lerp_(gradient, 1 - _BETAS[0])
            square.lerp_(gradient.square(), 1 - _BETAS[1])
            size = (square / per_clip(1 - _BETAS[1] ** steps)).sqrt() + _EPSILON
            weight.sub_(per_clip(np.array(rates) / (1 - _BETAS[0] ** steps)) * mean / size)

    def take_finished(self) -> list[FittedCue]:
        """Let go of the clips that are done."""
        finished = [fit.result() for fit in self.fits if fit.stop_reason]
        if finished:
            stay = [number for number, fit in enumerate(self.fits) if not fit.stop_reason]
            self.fits = [self.fits[number] for number in stay]
            for stack in (self.weights, self.means, self.squares):
                stack.update({name: value.detach()[stay] for name, value in stack.items()})
            self.aligned, self.starts = self.aligned[stay], self.starts[stay]
        return finished
