"""Every scheduler renders as the library does, the same alone and in a batch, with the checkpoint's noise."""

from typing import get_args

import diffusers
import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, DiffusionPipeline

from aai.models.diffusion import Diffusion, load_diffusion
from aai.models.options import RenderOptions, Scheduler
from aai.models.schedulers import new_scheduler
from aai.tiny.judge import load_judge
from aai.tiny.vocabulary import PHENOMENA, caption
from aai.tiny.world import WEIGHTS, load_world

NAMES: tuple[Scheduler, ...] = get_args(Scheduler)
PROMPTS = ["a photo of strong rain", "a fire city", "the forest"]
CLASSES = {
    "ddim": "DDIMScheduler",
    "ddpm": "DDPMScheduler",
    "dpm++2m": "DPMSolverMultistepScheduler",
    "euler": "EulerDiscreteScheduler",
    "euler-a": "EulerAncestralDiscreteScheduler",
    "pndm": "PNDMScheduler",
    "unipc": "UniPCMultistepScheduler",
}


@pytest.fixture(scope="module", params=["sd15", "sdxl"])
def folder(request):
    return request.getfixturevalue(f"{request.param}_folder")


@pytest.fixture(scope="module")
def diffusion(folder) -> Diffusion:
    return load_diffusion(folder)


@pytest.mark.parametrize("name", [*NAMES, None])
def test_a_picture_is_the_same_alone_and_in_a_batch(diffusion, name):
    """Those that add noise in every step draw it from each picture's own seed."""
    options = RenderOptions(steps=5, guidance=4, scheduler=name)
    together = diffusion.render(PROMPTS, [1, 2, 3], options=options).astype(float)
    for i, seed in enumerate([1, 2, 3]):
        alone = diffusion.render(PROMPTS[i : i + 1], [seed], options=options)[0]
        assert np.abs(together[i] - alone).max() <= 1  # a last digit may decide between two levels
        assert np.abs(together[i] - alone).mean() < 1e-3 * 255
    assert np.abs(together[0] - diffusion.render(PROMPTS[:1], [4], options=options)[0]).mean() > 5


@pytest.mark.parametrize("name", NAMES)
def test_a_scheduler_is_the_librarys_made_from_the_checkpoints_settings(folder, diffusion, name):
    pipeline = DiffusionPipeline.from_pretrained(folder)
    pipeline.set_progress_bar_config(disable=True)
    pipeline.scheduler = getattr(diffusers, CLASSES[name]).from_config(pipeline.scheduler.config)
    generators = [torch.Generator().manual_seed(seed) for seed in (1, 2, 3)]
    wanted = pipeline(PROMPTS, num_inference_steps=5, guidance_scale=4.0, generator=generators, output_type="np").images
    found = diffusion.render(PROMPTS, [1, 2, 3], options=RenderOptions(steps=5, guidance=4, scheduler=name))
    assert np.abs(wanted * 255 - found).max() < 0.51


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("steps", [1, 2])
def test_a_picture_can_be_had_in_a_step_or_two(diffusion, name, steps):
    picture = diffusion.render(PROMPTS[:1], [1], options=RenderOptions(steps=steps, guidance=4, scheduler=name))
    assert picture.std() > 5


@pytest.mark.parametrize("name", [*NAMES, None])
def test_a_render_leaves_nothing_behind_for_the_next(diffusion, name):
    options = RenderOptions(steps=3, guidance=4, scheduler=name)
    first = diffusion.render(PROMPTS, [1, 2, 3], options=options)
    diffusion.render(PROMPTS[:1], [9], options=RenderOptions(steps=7, scheduler=name, width=80))
    assert np.array_equal(diffusion.render(PROMPTS, [1, 2, 3], options=options), first)


def test_velocity_and_noise_down_to_nothing_are_kept():
    own = DDIMScheduler.from_pretrained(WEIGHTS / "pipeline" / "scheduler")
    assert own.config.prediction_type == "v_prediction" and own.config.rescale_betas_zero_snr
    for name in NAMES:
        config = new_scheduler(own, name).config
        assert config.prediction_type == "v_prediction"
        assert name == "pndm" or config.rescale_betas_zero_snr
        assert not config.get("clip_sample", False)


@pytest.mark.parametrize("name", NAMES)
def test_every_scheduler_renders_what_the_prompt_says(name):
    """A model that predicts velocity down to pure noise: what is asked for is what the judge sees."""
    options = RenderOptions(steps=12, guidance=4, scheduler=name)
    pictures = load_world().render([caption("noun", each) for each in PHENOMENA[:4]], [0] * 4, None, options)
    read = load_judge().read(pictures).phenomenon.argmax(dim=1).tolist()
    assert read == [0, 1, 2, 3]
