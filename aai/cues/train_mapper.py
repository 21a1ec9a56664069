"""Trains the mapper that all clips share, on a sample of the bank's clips and the images retrieved for them.

The templates use the cue as noun, verb and adjective: a cue fitted to one template alone overrides the other words of
later prompts (D9).
"""

import copy
import math
from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from safetensors.torch import load, save
from torch import Tensor
from torch.optim.swa_utils import AveragedModel

from aai.cues.denoising import ClipToFit, SampleRows, TextToImage, draw_rows, losses_and_gradient
from aai.cues.mapper import CueMapper, unit_for
from aai.cues.options import DEFAULT_ROWS, TrainMapperOptions
from aai.identity import seed_of
from aai.noise import generator_of

_WEIGHT_DECAY, _WARMUP_STEPS, _EMA_DECAY = 1e-3, 10, 0.98
_MAX_RELATIVE_NORM, _NORM_WEIGHT = 1.5, 0.1
"""Penalty on token vectors with more than 1.5 times the norm of the start's: they would dominate the prompt."""


class MapperTraining:
    """Trains the mapper to minimise the denoising loss of each clip's images under the frozen model.

    Training may be split into rounds, each in another process: pass the `state` of one round to the next. The result is
    the same as without the split.

    Args:
        model: the frozen text-to-image model.
        clips: the training set; latents may be in CPU memory.
        start: every clip's cue before the first step; a `state` has its own.
        options: steps, batch size, learning rate and templates.
        run_seed: the seed of the run.
        state: the return value of `state` in the round before.
        images: images that stand for clips in a share of each batch, with their own vectors.
    """

    def __init__(  # noqa: PLR0913
        self,
        model: TextToImage,
        clips: Sequence[ClipToFit],
        start: Float[Tensor, "tokens dim"],
        options: TrainMapperOptions,
        run_seed: int,
        state: bytes | None = None,
        images: Sequence[ClipToFit] = (),
    ) -> None:
        self.model, self.clips, self.images, self.options, self.run_seed = model, clips, images, options, run_seed
        self.max_rows = min(options.max_rows or DEFAULT_ROWS, options.batch_size)
        tensors = load(state) if state else {"start": start.cpu(), "step": torch.tensor(0)}
        self.start, self.step = tensors["start"], int(tensors["step"])
        self.mapper = self._new_mapper()
        self.average = AveragedModel(self.mapper, avg_fn=_exponential_average)
        self.optimiser = torch.optim.AdamW(
            [{"params": list(self.mapper.parameters()), "initial_lr": options.learning_rate}],
            options.learning_rate,
            betas=(0.9, 0.99),
            weight_decay=_WEIGHT_DECAY,
        )
        if state:
            self._load_state(tensors)
        self.schedule = torch.optim.lr_scheduler.LambdaLR(self.optimiser, self._decay, last_epoch=self.step - 1)

    def run(self, num_steps: int, progress: Callable[[int, float], None] | None = None) -> None:
        """Run the next steps, at most those that are left; `progress` gets the number of steps so far and the loss.

        It may be called again after an out-of-memory error, which leaves the state before the failed step.
        """
        for _ in range(min(num_steps, self.options.steps - self.step)):
            loss = self._train_step()
            if progress:
                progress(self.step, loss)

    def halve_memory(self) -> bool:
        """Halve the rows in a pass, after an out-of-memory error; false if it is a single row already."""
        if self.max_rows == 1:
            return False
        self.max_rows //= 2
        return True

    def state(self) -> bytes:
        """The state of the training as safetensors: mapper, moving average, optimiser moments, start and step."""
        tensors = {"start": self.start, "step": torch.tensor(self.step)}
        tensors |= _prefixed("mapper", self.mapper.state_dict())
        tensors |= _prefixed("average", self.average.state_dict())
        for index, moments in self.optimiser.state_dict()["state"].items():
            tensors |= _prefixed(f"optimiser.{index}", moments)
        return save({name: tensor.contiguous() for name, tensor in tensors.items()})

    def result(self) -> CueMapper:
        """The mapper with the moving average of the weights."""
        mapper = copy.deepcopy(self.mapper)
        mapper.load_state_dict(self.average.module.state_dict())
        return mapper.requires_grad_(False).eval()

    def _new_mapper(self) -> CueMapper:
        with torch.random.fork_rng(devices=()):
            torch.set_rng_state(generator_of(seed_of(self.run_seed, "learn", "", "weights")).get_state())
            num_tokens, token_dim = self.start.shape
            mapper = CueMapper(len(self.clips[0].aligned), token_dim, num_tokens, unit=unit_for(self.start))
        mapper.start_at(self.start)
        return mapper.to(self.model.device)

    def _load_state(self, tensors: dict[str, Tensor]) -> None:
        self.mapper.load_state_dict(_without_prefix("mapper", tensors))
        self.average.load_state_dict(_without_prefix("average", tensors))
        state = self.optimiser.state_dict()
        if self.step:
            indices = range(len(list(self.mapper.parameters())))
            state["state"] = {index: _without_prefix(f"optimiser.{index}", tensors) for index in indices}
        self.optimiser.load_state_dict(state)

    def _train_step(self) -> float:
        batch = self._draw_clips()
        rows = [self._draw_row(clip, index) for index, clip in enumerate(batch)]
        cues = self.mapper(torch.stack([clip.aligned for clip in batch]).to(self.model.device))
        losses, gradient = losses_and_gradient(self.model, cues, rows, self.max_rows)
        max_norm = _MAX_RELATIVE_NORM * self.start.norm(dim=1).mean().to(cues.device)
        penalty = _NORM_WEIGHT * (cues.norm(dim=-1) / max_norm - 1).clamp(min=0).square().mean()
        self.optimiser.zero_grad(set_to_none=True)
        torch.autograd.backward([cues, penalty], [gradient / len(batch), None])
        self.optimiser.step()
        self.schedule.step()
        self.average.update_parameters(self.mapper)
        self.step += 1
        return losses.mean().item()

    def _draw_clips(self) -> list[ClipToFit]:
        rng = generator_of(seed_of(self.run_seed, "learn", "", "clips", self.step))
        num_images = round(self.options.batch_size * self.options.image_share) if self.images else 0
        drawn: list[ClipToFit] = []
        for pairs, num in ((self.clips, self.options.batch_size - num_images), (self.images, num_images)):
            if num:
                drawn += [pairs[index] for index in torch.randint(len(pairs), (num,), generator=rng).tolist()]
        return drawn

    def _draw_row(self, clip: ClipToFit, index: int) -> SampleRows:
        """One row of a clip, the `index`th of the batch."""
        seed = seed_of(self.run_seed, "learn", clip.clip_id, f"row {index}", self.step)
        return draw_rows(seed, clip, 1, self.options.templates, self.model.num_train_timesteps)

    def _decay(self, step: int) -> float:
        """Linear warm-up times cosine decay."""
        return min(1.0, (step + 1) / _WARMUP_STEPS) * 0.5 * (1 + math.cos(math.pi * step / self.options.steps))


def _exponential_average(average: Tensor, weight: Tensor, num_averaged: Tensor | int) -> Tensor:
    """Exponential moving average of the weights, with a smaller decay in the first steps."""
    decay = torch.as_tensor((num_averaged + 1) / (num_averaged + 10)).clamp(max=_EMA_DECAY)
    return torch.lerp(weight, average, decay)


def _prefixed(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {f"{prefix}.{name}": tensor for name, tensor in tensors.items()}


def _without_prefix(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    start = f"{prefix}."
    return {name.removeprefix(start): tensor for name, tensor in tensors.items() if name.startswith(start)}
