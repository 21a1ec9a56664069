"""Contrastive training of a projector over vectors of frozen encoders: resumable, in one process or several."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR

from aai.align.checkpoints import Progress, load_checkpoint, optimizer_tensors, restore_optimizer, save_checkpoint
from aai.align.losses import Temperature, contrast
from aai.align.pair_vectors import TRAIN, VALIDATION, PairVectors, batches_of
from aai.align.projector import Projector
from aai.align.ranks import Ranks
from aai.align.tower import Tower
from aai.align.train_options import TrainAlignerOptions
from aai.align.whitening import fold, whitening_of
from aai.errors import BadConfig
from aai.identity import seed_of
from aai.noise import generator_of, seeded

_WARMUP, _FINAL_RATE = 0.05, 0.02
_MIN_VALIDATION, _MAX_VALIDATION = 10, 4_096
"""Fewer validation pairs say nothing; of more, these are used, so that their similarities fit into memory."""

MIN_PAIRS = 16
"""Fewer pairs train nothing that can be used."""

_TOWER = "tower."
"""Prefix of the names of weights that are the audio encoder's."""

Watch = Callable[[int, int, dict[str, float]], None]
"""Steps done, steps in all, and what the last one measured."""


@dataclass(frozen=True)
class Plan:
    """The size of a training."""

    batch: int
    steps: int
    steps_per_epoch: int
    eval_steps: int

    @classmethod
    def of(cls, num_pairs: int, options: TrainAlignerOptions, num_ranks: int = 1) -> "Plan":
        """The plan for some training pairs.

        Raises:
            BadConfig: there are too few of them.
        """
        if num_pairs < max(MIN_PAIRS, num_ranks):
            raise BadConfig(
                f"{num_pairs} pairs are left for the training: add pairs, at least {MIN_PAIRS}", key="pairs"
            )
        batch = options.batch_of(num_pairs, num_ranks)
        per_epoch = num_pairs // batch
        steps = max(round(options.epochs * per_epoch), options.min_steps, 1)
        return cls(batch, steps, per_epoch, max(1, steps // options.evaluations))


@dataclass(frozen=True)
class Setup:
    """Where and how to train."""

    options: TrainAlignerOptions
    digest: str
    """Of the options and pairs."""
    checkpoint: Path
    device: torch.device
    seed: int = 0
    ranks: Ranks = Ranks()
    stop: Callable[[], bool] = lambda: False
    """Asked after each step of the first rank; if true, the training saves a checkpoint and ends."""
    tower: Tower | None = None
    """The last blocks of the audio encoder, if they are trained, too."""


@dataclass(frozen=True)
class Trained:
    """A trained projector, and how it came about."""

    projector: Projector
    progress: Progress
    steps: int
    is_finished: bool
    tower: dict[str, Tensor] = field(default_factory=dict)
    """The weights of the last blocks of the audio encoder, if they were trained."""


def train(pairs: PairVectors, setup: Setup, watch: Watch) -> Trained:
    """Train on the pairs of the part TRAIN, and choose the weights by the part VALIDATION; resumes its checkpoint.

    With fewer than 10 validation pairs the last weights are chosen.

    Raises:
        BadConfig: there are too few pairs, the anchor of the loss is missing, or the loss is no longer finite.
    """
    trainer = _Trainer(pairs, setup)
    trainer.resume()
    return trainer.run(watch)


class _Trainer:
    def __init__(self, pairs: PairVectors, setup: Setup) -> None:
        self.pairs, self.setup, self.options = pairs, setup, setup.options
        self.members, self.validation = pairs.members(TRAIN), pairs.members(VALIDATION)[:_MAX_VALIDATION]
        self.plan = Plan.of(len(self.members), self.options, setup.ranks.size)
        _check_anchors(pairs, self.options)
        self.whitening = whitening_of(pairs.audio, self.members, self.options.whiten).to(setup.device)
        anchor = pairs.image if pairs.image is not None else pairs.text
        assert anchor is not None, "checked"
        self.dims = pairs.audio.shape[1], anchor.shape[1]
        with seeded(seed_of(setup.seed, "align", "train", "weights")):
            projector = Projector(*self.dims, self.options.hidden_dim)
        self.projector, self.temperature = projector, Temperature(self.options.loss)
        self.model = nn.ModuleDict({"projector": projector, "temperature": self.temperature}).to(setup.device)
        groups: list[dict[str, Any]] = [{"params": list(self.model.parameters())}]
        if setup.tower:
            self.model["tower"] = setup.tower.blocks.to(setup.device)
            groups.append({"params": list(setup.tower.weights().values()), "lr": self.options.tower_learning_rate})
        self.average = {name: value.detach().clone() for name, value in self._weights().items()}
        self.best = {name: value.clone() for name, value in self.average.items()}
        self.optimizer = torch.optim.AdamW(
            groups, self.options.learning_rate, betas=(0.9, 0.98), weight_decay=self.options.weight_decay
        )
        self.scheduler = LambdaLR(self.optimizer, self._rate)
        self.progress = Progress(setup.digest)

    def run(self, watch: Watch) -> Trained:
        """All steps that are left."""
        is_stopped = False
        batches = self._batches(self.progress.step)
        while self.progress.step < self.plan.steps and not is_stopped and not self._is_early():
            loss = self._step(next(batches))
            self.progress.step += 1
            if self.setup.ranks.is_first:
                watch(self.progress.step, self.plan.steps, {"loss": loss, "scale": self._scale})
            if self.progress.step % self.plan.eval_steps == 0 or self.progress.step == self.plan.steps:
                self._evaluate(loss)
            is_stopped = self._agreed(self.setup.stop())
            if is_stopped or self.progress.step % self.options.checkpoint_steps == 0:
                self.save()
        is_finished = not is_stopped
        return Trained(self._chosen(), self.progress, self.plan.steps, is_finished, _named(self.best, _TOWER))

    def save(self) -> None:
        """Write a checkpoint, by the first rank."""
        if not self.setup.ranks.is_first:
            return
        tensors = {f"model.{name}": value for name, value in self.model.state_dict().items()}
        tensors |= {f"average.{name}": value for name, value in self.average.items()}
        tensors |= {f"best.{name}": value for name, value in self.best.items()}
        save_checkpoint(self.setup.checkpoint, tensors | optimizer_tensors(self.optimizer), self.progress)

    def resume(self) -> None:
        """Go on from the checkpoint, if it is of the same training."""
        found = load_checkpoint(self.setup.checkpoint, self.setup.digest)
        if found is None:
            return
        tensors, self.progress = found
        self.model.load_state_dict(_named(tensors, "model."))
        device = self.setup.device
        self.average = {name: value.to(device) for name, value in _named(tensors, "average.").items()}
        self.best = {name: value.to(device) for name, value in _named(tensors, "best.").items()}
        restore_optimizer(self.optimizer, tensors)
        self.scheduler.last_epoch = self.progress.step
        for group in self.optimizer.param_groups:
            group["lr"] = group["initial_lr"] * self._rate(self.progress.step)

    def _step(self, batch: np.ndarray) -> float:
        self.optimizer.zero_grad(set_to_none=True)
        loss = self._loss(batch)
        value = self.setup.ranks.mean(loss)
        if not math.isfinite(value):
            raise BadConfig(
                f"the loss is {value} in step {self.progress.step + 1}: lower it", key="train.learning_rate"
            )
        loss.backward()
        self.setup.ranks.average_gradients(self.model.parameters())
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        self.scheduler.step()
        self.temperature.limit()
        self._move_average()
        return value

    def _loss(self, batch: np.ndarray) -> Tensor:
        own, step = self.setup.ranks.share(len(batch)), self.progress.step
        projected = self.projector(self.whitening(self._noisy(batch, own, step)))
        weights = torch.from_numpy(match_weights(self.pairs, batch, self.options.same_class)[own]).to(projected)
        total = torch.zeros((), device=projected.device)
        for vectors, factor in (
            (self.pairs.image, self.options.image_weight),
            (self.pairs.text, self.options.text_weight),
        ):
            if vectors is not None and factor:
                anchors = self._tensor(vectors, batch[own])
                usable = self._usable(vectors, batch, anchors)
                total = total + factor * contrast(
                    projected,
                    anchors,
                    weights,
                    usable,
                    self.temperature,
                    self.setup.ranks.gather,
                    self.setup.ranks.rank,
                )
        return total

    def _usable(self, vectors: np.ndarray, batch: np.ndarray, own: Tensor) -> Tensor:
        """Which pairs of the batch have a vector here."""
        has_vector = own.abs().sum(dim=1) > 0
        gathered = self.setup.ranks.gather(has_vector.to(own.dtype)) > 0
        assert len(gathered) == len(batch)
        return gathered

    def _noisy(self, batch: np.ndarray, own: slice, step: int) -> Tensor:
        """The batch's own audio vectors with noise, which does not depend on the number of ranks."""
        audio = self._audio(batch[own])
        if not self.options.noise:
            return audio
        rng = generator_of(seed_of(self.setup.seed, "align", "train", "noise", step))
        noise = torch.randn(len(batch), audio.shape[1], generator=rng)[own].to(audio.device)
        return audio + noise * (self.options.noise / math.sqrt(audio.shape[1]))

    def _audio(self, rows: np.ndarray, weights: dict[str, Tensor] | None = None) -> Tensor:
        """Audio vectors of some pairs; where the tower is trained, by some weights or those that it has now."""
        if self.setup.tower is None:
            return self._tensor(self.pairs.audio, rows)
        own = None if weights is None else _named(weights, _TOWER)
        return self.setup.tower.vectors(self.pairs.sounds[rows], self.setup.device, own)

    def _tensor(self, vectors: np.ndarray, rows: np.ndarray) -> Tensor:
        return torch.from_numpy(np.asarray(vectors[rows], np.float32)).to(self.setup.device)

    def _batches(self, step: int) -> Iterator[np.ndarray]:
        """The batches from a step on."""
        epoch, done = divmod(step, self.plan.steps_per_epoch)
        while True:
            rng = np.random.default_rng(seed_of(self.setup.seed, "align", "train", "order", epoch))
            yield from islice(batches_of(self.members, self.plan.batch, rng), done, self.plan.steps_per_epoch)
            epoch, done = epoch + 1, 0

    def _rate(self, step: int) -> float:
        """Linear warm-up, then cosine decay."""
        done = step / self.plan.steps
        if done < _WARMUP:
            return (step + 1) / (_WARMUP * self.plan.steps + 1)
        cosine = 0.5 * (1 + math.cos(math.pi * (done - _WARMUP) / (1 - _WARMUP)))
        return _FINAL_RATE + (1 - _FINAL_RATE) * cosine

    @torch.no_grad()
    def _move_average(self) -> None:
        """Move the average; it forgets faster at first, as early weights are far from the final ones."""
        step = self.progress.step + 1
        decay = min(self.options.average, step / (step + 9))
        for name, value in self._weights().items():
            self.average[name].lerp_(value, 1 - decay)

    @torch.no_grad()
    def _evaluate(self, train_loss: float) -> None:
        row = {"step": float(self.progress.step), "train loss": train_loss, "scale": self._scale}
        if len(self.validation) >= _MIN_VALIDATION:
            row |= self._validate()
        loss = row.get("validation loss", -float(self.progress.step))  # without validation the last weights are best
        self.progress.curve.append(row)
        self.progress.since_best += 1
        if loss < self.progress.best_loss:
            self.progress.best_loss, self.progress.best_step, self.progress.since_best = loss, self.progress.step, 0
            self.best = {name: value.clone() for name, value in self.average.items()}

    def _validate(self) -> dict[str, float]:
        """Loss and recall of the averaged weights among the validation pairs."""
        model = self._with(self.average)
        projected = model(self.whitening(self._audio(self.validation, self.average)))
        vectors = self.pairs.image if self.options.image_weight and self.pairs.image is not None else self.pairs.text
        assert vectors is not None, "checked"
        anchors = self._tensor(vectors, self.validation)
        weights = torch.from_numpy(match_weights(self.pairs, self.validation, 0.0)).to(projected)
        usable = anchors.abs().sum(dim=1) > 0
        loss = contrast(projected, anchors, weights, usable, self.temperature, Ranks().gather)
        best = (projected @ anchors.T).topk(min(10, len(anchors)), dim=1).indices
        hits = weights.gather(1, best).amax(dim=1) >= 1
        return {"validation loss": float(loss), "R@10": float(hits.float().mean())}

    def _weights(self) -> dict[str, Tensor]:
        """What is trained but for the temperature, by name."""
        tower = self.setup.tower.weights() if self.setup.tower else {}
        return self.projector.state_dict() | {f"{_TOWER}{name}": value for name, value in tower.items()}

    def _with(self, weights: dict[str, Tensor]) -> Projector:
        projector = Projector(*self.dims, self.options.hidden_dim).to(self.setup.device)
        projector.load_state_dict({name: value for name, value in weights.items() if not name.startswith(_TOWER)})
        return projector.eval()

    def _chosen(self) -> Projector:
        """The best weights, with the whitening folded into the first layer."""
        return fold(self._with(self.best), self.whitening)

    def _is_early(self) -> bool:
        return bool(self.options.patience) and self.progress.since_best >= self.options.patience

    def _agreed(self, flag: bool) -> bool:
        return self.setup.ranks.agreed(flag, self.setup.device)

    @property
    def _scale(self) -> float:
        return float(self.temperature.scale.detach())


def match_weights(pairs: PairVectors, batch: np.ndarray, same_class: float) -> Float[np.ndarray, "batch batch"]:
    """How much the sound and image of any two pairs match: 1 where they have a sound or an image in common."""
    sounds, pictures, classes = pairs.sounds[batch], pairs.pictures[batch], pairs.classes[batch]
    weights = ((sounds[:, None] == sounds) | (pictures[:, None] == pictures)).astype(np.float32)
    if same_class:
        is_same = (classes[:, None] == classes) & (classes >= 0)
        weights = np.maximum(weights, np.float32(same_class) * is_same)
    return weights


def _check_anchors(pairs: PairVectors, options: TrainAlignerOptions) -> None:
    if options.text_weight and pairs.text is None:
        raise BadConfig("the pairs have neither captions nor labels: set it to 0, or add them", key="train.text_weight")
    if pairs.image is None and not options.text_weight:
        raise BadConfig("there are no images: set a weight of the texts", key="train.text_weight")


def _named(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
