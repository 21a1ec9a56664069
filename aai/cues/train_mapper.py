"""Adapt, for all clips: the mapper that they share is learned from a sample of them and the images retrieved for them.

It sees cues in every use, as noun, verb and adjective, where fitting one clip for itself sees too little to keep the
prompt's other words alive (D9).
"""

import copy
import math
from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from aai.cues.fit import ClipToFit, TextToImage, draw_rows, losses_on
from aai.cues.mapper import CueMapper, unit_for
from aai.cues.options import TrainMapperOptions
from aai.identity import seed_of

_WEIGHT_DECAY, _WARMUP_STEPS, _AVERAGE = 1e-3, 10, 0.98
_LARGEST_ROW, _LENGTH_WEIGHT = 1.5, 0.1
"""A cue's row that is longer than this many rows of the start costs something: it would drown the other words."""


def learn_mapper(
    model: TextToImage,
    clips: Sequence[ClipToFit],
    start: Float[Tensor, "rows dim"],
    options: TrainMapperOptions,
    run_seed: int,
    progress: Callable[[int, float], None] | None = None,
) -> CueMapper:
    """Learn a mapper that makes cues under which the model denoises each clip's images best.

    Args:
        model: the frozen text-to-image model.
        clips: the sample; their latents may lie in the CPU's memory.
        start: the cue of every clip before the first step.
        options: steps, batch size, learning rate and templates.
        run_seed: the seed that all random numbers come from.
        progress: is told of the step and its loss.
    """
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(seed_of(run_seed, "learn", "", "weights"))
        mapper = CueMapper(len(clips[0].aligned), start.shape[1], len(start), unit=unit_for(start))
    mapper.start_at(start.cpu())
    mapper.to(model.device)
    average = copy.deepcopy(mapper).eval()
    longest = _LARGEST_ROW * start.norm(dim=1).mean().to(model.device)
    optimiser = torch.optim.AdamW(mapper.parameters(), options.learning_rate, (0.9, 0.99), weight_decay=_WEIGHT_DECAY)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: _rate(step, options.steps))
    for step in range(options.steps):
        batch = _draw_clips(clips, options.batch_size, run_seed, step)
        rows = []
        for place, clip in enumerate(batch):
            seed = seed_of(run_seed, "learn", clip.clip_id, f"row {place}", step)
            rows.append(draw_rows(seed, clip, 1, options.templates, model.num_train_timesteps))
        cues = mapper(torch.stack([clip.aligned for clip in batch]).to(model.device))
        loss = losses_on(model, batch, cues, rows).mean()
        too_long = (cues.norm(dim=-1) / longest - 1).clamp(min=0).square().mean()
        optimiser.zero_grad(set_to_none=True)
        (loss + _LENGTH_WEIGHT * too_long).backward()
        optimiser.step()
        schedule.step()
        _follow(average, mapper, step)
        if progress:
            progress(step + 1, loss.item())
    return average.requires_grad_(False)


def _draw_clips(clips: Sequence[ClipToFit], num: int, run_seed: int, step: int) -> list[ClipToFit]:
    rng = torch.Generator().manual_seed(seed_of(run_seed, "learn", "", "clips", step))
    return [clips[i] for i in torch.randint(len(clips), (num,), generator=rng).tolist()]


def _rate(step: int, num_steps: int) -> float:
    """The share of the learning rate: a warm-up along a line, then down along a cosine."""
    return min(1.0, (step + 1) / _WARMUP_STEPS) * 0.5 * (1 + math.cos(math.pi * step / num_steps))


@torch.no_grad()
def _follow(average: CueMapper, mapper: CueMapper, step: int) -> None:
    """Move the average of the weights; over the first steps, which are far from the end, it forgets faster."""
    keep = min(_AVERAGE, (step + 1) / (step + 10))
    for mean, weight in zip(average.parameters(), mapper.parameters(), strict=True):
        mean.lerp_(weight, 1 - keep)
