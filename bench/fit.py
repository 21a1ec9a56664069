"""Rows per second of fitting: many clips at once, one at a time, and textual inversion as it is usually done.

    python bench/fit.py [--model FOLDER] [--clips 16] [--steps 4] [--at-once 1 4 16]

A row is one (clip, image, timestep, noise) sample, forward and backward. All variants take the same rows of the same
clips on the same machine, one after the other. The floor is the UNet alone, forward and backward on the input, at the
largest batch. The peer trains the whole embedding table with AdamW and one placeholder token, one clip after the other,
as the textual inversion example of diffusers does.
"""

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from rich.console import Console
from rich.table import Table

from aai.cues.fit import ClipToFit, Fitter, draw_rows
from aai.cues.mapper import CueMapper
from aai.cues.options import FitOptions
from aai.identity import content_id
from aai.models.device import best_device, dtype_on
from aai.models.diffusion import Diffusion, load_diffusion
from aai.tiny.world import WEIGHTS

IMAGE_DIM, NUM_IMAGES, NUM_TOKENS = 128, 5, 2


@dataclass(frozen=True)
class Task:
    """The same work for all variants."""

    diffusion: Diffusion
    clips: list[ClipToFit]
    options: FitOptions

    @property
    def num_rows(self) -> int:
        """Rows that are trained on; looks at held-out noise count as a share of one, being forward only."""
        steps = self.options.steps * self.options.rows_per_step
        return len(self.clips) * steps


def new_task(model: str, num_clips: int, steps: int) -> Task:
    """Clips that are noise on images that are noise: their content changes no speed."""
    device = best_device()
    diffusion = load_diffusion(model, device, dtype=dtype_on(device, "bfloat16"))
    rng, size = torch.Generator().manual_seed(0), diffusion.default_size // diffusion.pipeline.vae_scale_factor
    clips = []
    for number in range(num_clips):
        aligned = torch.nn.functional.normalize(torch.randn(IMAGE_DIM, generator=rng), dim=0)
        clips.append(ClipToFit(content_id(b"%d" % number), aligned, _latents(diffusion, size, rng)))
    options = FitOptions(steps=steps, check_every=steps, held_out_rows=1, least_gain=0)
    return Task(diffusion, clips, options)


def _latents(diffusion: Diffusion, size: int, rng: torch.Generator) -> torch.Tensor:
    return torch.randn(NUM_IMAGES, diffusion.pipeline.unet.config.in_channels, size, size, generator=rng)


def fit(task: Task, at_once: int) -> None:
    """All clips by our fitter."""
    torch.manual_seed(0)
    words = task.diffusion.word_embeddings(["rain"]).expand(NUM_TOKENS, -1)
    mapper = CueMapper(IMAGE_DIM, task.diffusion.cue_dim, NUM_TOKENS)
    mapper.start_at(words.cpu().float())
    options = task.options.model_copy(update={"clips_at_once": at_once})
    for _ in Fitter(task.diffusion, mapper, options, 0).fit(task.clips):
        pass


def invert(task: Task) -> None:
    """All clips by textual inversion on a placeholder of the embedding table, one after the other."""
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
            said = diffusion.encode_prompts([prompt.replace("*", token) for prompt in rows.prompts])
            where = {"device": diffusion.device}
            taken = clip.latents[rows.images].to(**where), said, rows.timesteps.to(**where), rows.noise.to(**where)
            diffusion.denoising_losses(*taken).mean().backward()
            optimiser.step()
            optimiser.zero_grad()
            with torch.no_grad():
                table[others] = before[others]
    table.requires_grad_(False)
    table.data.copy_(before)


def floor(task: Task, at_once: int) -> None:
    """The UNet alone on as many rows."""
    diffusion, num = task.diffusion, at_once * task.options.rows_per_step
    latents = task.clips[0].latents[:1].expand(num, -1, -1, -1).to(diffusion.device)
    timesteps = torch.full((num,), 500, device=diffusion.device)
    with torch.no_grad():
        said = diffusion.encode_prompts(["a photo of rain"] * num)
    for _ in range(-(-task.num_rows // num)):
        context = said.context.detach().requires_grad_(True)
        losses = diffusion.denoising_losses(latents, type(said)(context, said.pooled), timesteps, latents)
        torch.autograd.grad(losses.sum(), context)


def timed(work: Callable[[], object]) -> float:
    """Seconds that something takes, the GPU's included."""
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
    parser.add_argument("--at-once", type=int, nargs="+", default=[1, 4, 16])
    given = parser.parse_args()
    task = new_task(given.model, given.clips, given.steps)
    most = max(given.at_once)
    timed(lambda: floor(task, 1))  # warm up
    times = {f"UNet alone, batch of {most * task.options.rows_per_step}": timed(lambda: floor(task, most))}
    times["textual inversion, one at a time"] = peer_s = timed(lambda: invert(task))
    for at_once in given.at_once:
        times[f"fit, {at_once} at once"] = timed(lambda at_once=at_once: fit(task, at_once))
    table = Table("variant", "seconds", "rows/s", "to the peer")
    for name, took_s in times.items():
        table.add_row(name, f"{took_s:.1f}", f"{task.num_rows / took_s:.1f}", f"{peer_s / took_s:.2f}")
    Console(width=100).print(table)
    print(f"{torch.get_num_threads()} threads, {task.diffusion.device}")


if __name__ == "__main__":
    main()
