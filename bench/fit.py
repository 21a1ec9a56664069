"""Rows per second of fitting, for several values of `max_rows`, against textual inversion of one clip at a time.

    python bench/fit.py [--model FOLDER] [--clips 16] [--steps 4] [--max-rows 4 16 64] [--compile]

A row is one (clip, image, timestep, noise) sample, forward and backward. All variants run equally many rows on the same
clips, one variant after the other. The upper bound is the UNet alone, forward and backward on the input, at the largest
batch. The baseline trains the whole embedding table with AdamW and one placeholder token, one clip after the other, as
the textual inversion example of diffusers does. The rows that follow from the free memory are printed. With `--compile`
`fit` runs with compiled blocks, too.
"""

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import torch
from rich.console import Console
from rich.table import Table

from aai.cues.denoising import ClipToFit, draw_rows
from aai.cues.fit import Fitter
from aai.cues.mapper import CueMapper
from aai.cues.options import FitOptions
from aai.identity import content_id
from aai.models.device import best_device, dtype_named
from aai.models.diffusion import Diffusion, load_diffusion
from aai.models.row_memory import measure_rows, try_passes
from aai.models.speed import fastest_attention, prepare_unet
from aai.tiny.world import WEIGHTS

IMAGE_DIM, NUM_TOKENS = 128, 2
IMAGE_IDS = tuple("abcde")


@dataclass(frozen=True)
class Workload:
    """The clips and options that all variants share."""

    diffusion: Diffusion
    clips: list[ClipToFit]
    options: FitOptions

    @property
    def num_rows(self) -> int:
        """Training rows; the few rows of the validation loss, forward only, are not counted."""
        return len(self.clips) * self.options.steps * self.options.rows_per_step


def new_workload(model: str, num_clips: int, steps: int) -> Workload:
    """Clips and images of random noise: the content does not change the speed."""
    device = best_device()
    diffusion = load_diffusion(model, device, dtype=dtype_named("bfloat16"))
    rng, size = torch.Generator().manual_seed(0), diffusion.default_size // diffusion.pipeline.vae_scale_factor
    clips = []
    for number in range(num_clips):
        aligned = torch.nn.functional.normalize(torch.randn(IMAGE_DIM, generator=rng), dim=0)
        clips.append(ClipToFit(content_id(b"%d" % number), aligned, _latents(diffusion, size, rng), IMAGE_IDS))
    options = FitOptions(steps=steps, eval_every=steps, eval_rows=1, min_improvement=0)
    return Workload(diffusion, clips, options)


def _latents(diffusion: Diffusion, size: int, rng: torch.Generator) -> torch.Tensor:
    return torch.randn(len(IMAGE_IDS), diffusion.pipeline.unet.config.in_channels, size, size, generator=rng)


def fit(task: Workload, max_rows: int) -> None:
    """Fit all clips with `Fitter`."""
    torch.manual_seed(0)
    words = task.diffusion.word_embeddings(["rain"]).expand(NUM_TOKENS, -1)
    mapper = CueMapper(IMAGE_DIM, task.diffusion.cue_dim, NUM_TOKENS)
    mapper.start_at(words.cpu().float())
    options = task.options.model_copy(update={"max_rows": max_rows})
    for _ in Fitter(task.diffusion, mapper, options, 0).fit(task.clips):
        pass


def invert(task: Workload) -> None:
    """Textual inversion of all clips, one after the other, on a placeholder in the embedding table."""
    diffusion, options = task.diffusion, task.options
    table = diffusion.pipeline.text_encoder.get_input_embeddings().weight
    token, before = "rain", table.detach().clone()
    number = int(diffusion.pipeline.tokenizer(token).input_ids[1])
    others = torch.arange(len(table), device=table.device) != number
    table.requires_grad_(True)
    for clip in task.clips:
        optimiser = torch.optim.AdamW([table], lr=5e-3)
        for step in range(options.steps):
            rows = draw_rows(step, clip, options.rows_per_step, ("a photo of *",), diffusion.num_train_timesteps)
            conditioning = diffusion.encode_prompts([prompt.replace("*", token) for prompt in rows.prompts])
            latents, timesteps, noise = (
                part.to(diffusion.device) for part in (rows.latents, rows.timesteps, rows.noise)
            )
            diffusion.denoising_losses(latents, conditioning, timesteps, noise).mean().backward()
            optimiser.step()
            optimiser.zero_grad()
            with torch.no_grad():
                table[others] = before[others]
    table.requires_grad_(False)
    table.data.copy_(before)


def unet_alone(task: Workload, num: int) -> None:
    """The UNet alone on equally many rows, `num` in a pass."""
    diffusion = task.diffusion
    latents = task.clips[0].latents[:1].expand(num, -1, -1, -1).to(diffusion.device)
    timesteps = torch.full((num,), 500, device=diffusion.device)
    with torch.no_grad():
        conditioning = diffusion.encode_prompts(["a photo of rain"] * num)
    for _ in range(-(-task.num_rows // num)):
        context = conditioning.context.detach().requires_grad_(True)
        losses = diffusion.denoising_losses(latents, replace(conditioning, context=context), timesteps, latents)
        torch.autograd.grad(losses.sum(), context)


def timed(work: Callable[[], object]) -> float:
    """Wall time in seconds, until the GPU is idle."""
    _wait()
    start_s = time.monotonic()
    work()
    _wait()
    return time.monotonic() - start_s


def _wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=str(WEIGHTS / "pipeline"))
    parser.add_argument("--clips", type=int, default=16)
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--max-rows", type=int, nargs="+", default=[4, 16, 64])
    parser.add_argument("--compile", action="store_true")
    args = parser.parse_args()
    task, largest = new_workload(args.model, args.clips, args.steps), max(args.max_rows)
    timed(lambda: unet_alone(task, 4))  # warm-up
    rows = measure_rows(task.diffusion, NUM_TOKENS)
    times = {f"UNet alone, {largest} rows in a pass": timed(lambda: unet_alone(task, largest))}
    times["textual inversion, one clip at a time"] = baseline_s = timed(lambda: invert(task))
    for max_rows in args.max_rows:
        times[f"fit, max_rows: {max_rows}"] = timed(lambda max_rows=max_rows: fit(task, max_rows))
    if args.compile:
        trial, unet = partial(try_passes, task.diffusion, NUM_TOKENS, 2), task.diffusion.pipeline.unet
        print(f"compiling: {timed(lambda: prepare_unet(unet, task.diffusion.device, True, trial)):.0f} s")
        with fastest_attention(task.diffusion.device):
            times[f"fit, max_rows: {largest}, compiled"] = timed(lambda: fit(task, largest))
    table = Table("variant", "seconds", "rows/s", "relative to the baseline")
    for name, took_s in times.items():
        table.add_row(name, f"{took_s:.1f}", f"{task.num_rows / took_s:.1f}", f"{baseline_s / took_s:.2f}")
    Console(width=100).print(table)
    print(f"{torch.get_num_threads()} threads, {task.diffusion.device}; by free memory: {rows}")


if __name__ == "__main__":
    main()
