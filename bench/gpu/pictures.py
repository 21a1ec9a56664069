"""Rendering and edits of photos, from cues in a table to pictures in shards."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from diffusers import DDIMScheduler, StableDiffusionPipeline, StableDiffusionXLPipeline

from aai.jobs.job import Job
from aai.jobs.jobfile import make_jobs
from aai.models.diffusion import Diffusion, load_diffusion
from aai.models.encoders import embedding_dims
from aai.models.options import RenderOptions
from bench.gpu.bank import absent_recordings, add_clips, add_cues
from bench.gpu.rows import Measured
from bench.gpu.setting import Setting, count_of, free_memory, rate_of, tried, watched
from bench.gpu.sources import write_photos
from tasks.render import RenderSectionOptions, render
from tasks.runtime.run import Run

_GUIDANCE = 7.5
_INTERVAL = "guidance_interval"
_NOISE_LEVELS = [0.28, 5.42]
"""Where there is guidance: the interval of Kynkäänniemi et al. 2024."""

_PROMPT, _PEER_PROMPT = "a photo of *", "a photo of rain"
_EDIT = {"mode": "edit", "prompt": "a * city", "source_prompt": "a city"}


def measure(setting: Setting) -> Iterator[Measured]:
    """The rows `render`, `render_interval` and `edit_photos`; then `render` again, with what is beside it."""
    run, num = _run_with_cues(setting, "sd15", is_compiled=True), setting.sizes.pictures
    plain = {"prompt": _PROMPT}
    rendered = _rendered(Measured("render"), setting, run, plain, num)
    yield rendered
    if _INTERVAL in RenderOptions.model_fields:
        yield _rendered(Measured("render_interval"), setting, run, plain | {_INTERVAL: _NOISE_LEVELS}, num)
    else:
        yield Measured("render_interval", error=f"there is no option render.{_INTERVAL}")
    photos = setting.folder / "photos"
    write_photos(photos, setting.sizes.photos)
    edit = _EDIT | {"source_images": str(photos)}
    yield _rendered(Measured("edit_photos"), setting, run, edit, setting.sizes.edits, setting.sizes.photos)
    run.close()
    yield _beside(rendered, setting, "sd15", StableDiffusionPipeline)


def measure_large(setting: Setting) -> Iterator[Measured]:
    """The row `sdxl`, alone and with what is beside it."""
    run = _run_with_cues(setting, "sdxl")
    measured = _rendered(Measured("sdxl"), setting, run, {"prompt": _PROMPT}, setting.sizes.large_pictures)
    yield measured
    run.close()
    yield _beside(measured, setting, "sdxl", StableDiffusionXLPipeline)


def _beside(measured: Measured, setting: Setting, model: str, kind: Callable[..., Any]) -> Measured:
    """Add the pipeline of diffusers, and UNet and VAE."""
    free_memory()
    measured.peer_is = f"pipeline, lists of {_peer_batch(setting, model)} prompts"
    measured.alone_is = "UNet and VAE as they are loaded"
    measured.peer = tried(measured, "peer", lambda: _peer(setting, model, kind))
    measured.alone = tried(measured, "model alone", lambda: _alone(setting, model))
    return measured


def _peer_batch(setting: Setting, model: str) -> int:
    return setting.sizes.batch if model == "sd15" else setting.sizes.batch // 2


def _run_with_cues(setting: Setting, model: str, is_compiled: bool = False) -> Run:
    options = {"steps": setting.sizes.render_steps, "guidance": _GUIDANCE, "scheduler": "ddim"}
    run = setting.open(f"pictures-{model}", model, is_compiled, render=options)
    clips = add_clips(run, absent_recordings(setting.sizes.cues), setting.sizes.duration_s)
    add_cues(run, clips, sum(embedding_dims(setting.model(model))))
    return run


def _rendered(
    measured: Measured, setting: Setting, run: Run, job: Mapping[str, Any], num: int, sources_each: int = 1
) -> Measured:
    """Render a job again and again with other seeds, first without measuring."""
    each = max(1, num // (setting.sizes.cues * sources_each))
    with watched(measured):
        for number in range(setting.sizes.repetitions + 1):
            seeds = [1_000_000 * number + seed for seed in range(each)]
            summary = render(run, _jobs(run, dict(job) | {"seeds": seeds, "name": f"{measured.row} {number}"}))
            measured.num_items = count_of(summary)
            if number:
                measured.values.append(measured.num_items / summary.took_s)
            else:
                measured.notes.append(f"the first {measured.num_items} took {summary.took_s:.1f} s with loading")
    return measured


def _jobs(run: Run, job: Mapping[str, Any]) -> Sequence[Job]:
    options = run.config.options(RenderSectionOptions).of_jobs
    return make_jobs([dict(job)], options)


def _peer(setting: Setting, model: str, kind: Callable[..., Any]) -> float:
    """The pipeline of diffusers with a list of prompts, until the pictures are in memory."""
    settings = {"dtype": setting.dtype, "add_watermarker": False}
    if model == "sd15":
        settings = {"dtype": setting.dtype, "safety_checker": None, "requires_safety_checker": False}
    pipeline = kind.from_pretrained(setting.model(model), **settings).to(setting.device)
    pipeline.set_progress_bar_config(disable=True)
    pipeline.scheduler = DDIMScheduler.from_config(pipeline.scheduler.config)
    num = _peer_batch(setting, model)

    def work() -> None:
        pipeline([_PEER_PROMPT] * num, num_inference_steps=setting.sizes.render_steps, guidance_scale=_GUIDANCE)

    return rate_of(num, work, repetitions=1 if setting.is_small else 2)


@torch.inference_mode()
def _alone(setting: Setting, model: str) -> float:
    """Pictures per second of the UNet's forward passes, two for each step, and the VAE, as they are loaded."""
    diffusion = load_diffusion(setting.model(model), setting.device, dtype=setting.dtype)
    unet, scale = diffusion.pipeline.unet, 2 * setting.sizes.render_steps
    num = setting.sizes.at_once if model == "sd15" else max(1, setting.sizes.at_once // 4)
    latents = torch.randn(num, unet.config.in_channels, *[unet.config.sample_size] * 2, device=setting.device)
    of_unet = rate_of(num, lambda: _passes(diffusion, latents))
    decoded = latents[: max(1, num // 4)]
    of_vae = rate_of(len(decoded), lambda: diffusion.decode(decoded), repetitions=2)
    return 1 / (scale / of_unet + 1 / of_vae)


def _passes(diffusion: Diffusion, latents: torch.Tensor) -> torch.Tensor:
    conditioning = diffusion.encode_prompts([_PEER_PROMPT])[[0] * len(latents)]
    return diffusion.predict(latents, torch.tensor(500, device=latents.device), conditioning)
