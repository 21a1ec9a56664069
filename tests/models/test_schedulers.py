"""Every scheduler renders as in diffusers, alone and in a batch; noise levels are those of the library's DDIM."""

from typing import get_args

import diffusers
import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, DiffusionPipeline
from diffusers.configuration_utils import FrozenDict

from aai.models.diffusion import Diffusion, load_diffusion
from aai.models.options import RenderOptions, Scheduler
from aai.models.schedulers import NoiseLevels, denoising_loss, new_noise_scheduler, new_scheduler
from aai.tiny.judge import load_judge
from aai.tiny.vocabulary import PHENOMENA, caption
from aai.tiny.world import WEIGHTS, load_world
from tests.models.shrunk import PREDICTION_TYPES, new_ddim

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


def latents_of(seed: int) -> torch.Tensor:
    return torch.randn(3, 4, 8, 6, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def folder(request):
    return request.getfixturevalue(f"{getattr(request, 'param', 'sd15')}_folder")


@pytest.fixture(scope="module")
def diffusion(folder) -> Diffusion:
    return load_diffusion(folder)


@pytest.mark.parametrize("name", [*NAMES, None])
def test_a_picture_is_the_same_alone_and_in_a_batch(diffusion, name):
    """Stochastic schedulers draw each picture's noise from its own seed."""
    options = RenderOptions(steps=4, guidance=4, scheduler=name)
    together = diffusion.render(PROMPTS, [1, 2, 3], options=options).astype(float)
    for i, seed in ((0, 1), (2, 3)):
        alone = diffusion.render(PROMPTS[i : i + 1], [seed], options=options)[0]
        assert np.abs(together[i] - alone).max() <= 1  # rounding may decide between two levels
        assert np.abs(together[i] - alone).mean() < 1e-3 * 255
    assert np.abs(together[0] - diffusion.render(PROMPTS[:1], [4], options=options)[0]).mean() > 5


@pytest.fixture(scope="module")
def library(folder) -> tuple[DiffusionPipeline, FrozenDict]:
    """The library's pipeline, and the settings of its checkpoint's scheduler."""
    pipeline = DiffusionPipeline.from_pretrained(folder)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline, pipeline.scheduler.config


@pytest.mark.parametrize(
    ("folder", "name"),
    [*(("sd15", name) for name in NAMES), ("sdxl", "ddim"), ("sdxl", "euler-a")],
    indirect=["folder"],
    scope="module",
)
def test_a_scheduler_is_the_librarys_with_the_checkpoints_settings(library, diffusion, name):
    pipeline, config = library
    pipeline.scheduler = getattr(diffusers, CLASSES[name]).from_config(config)
    generators = [torch.Generator().manual_seed(seed) for seed in (1, 2, 3)]
    expected = pipeline(
        PROMPTS, num_inference_steps=4, guidance_scale=4.0, generator=generators, output_type="np"
    ).images
    rendered = diffusion.render(PROMPTS, [1, 2, 3], options=RenderOptions(steps=4, guidance=4, scheduler=name))
    assert np.abs(expected * 255 - rendered).max() < 0.51


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("steps", [1, 2])
def test_one_or_two_steps_give_a_picture(diffusion, name, steps):
    picture = diffusion.render(PROMPTS[:1], [1], options=RenderOptions(steps=steps, guidance=4, scheduler=name))
    assert picture.std() > 5


@pytest.mark.parametrize("name", [*NAMES, None])
def test_a_render_leaves_no_state_for_the_next(diffusion, name):
    options = RenderOptions(steps=3, guidance=4, scheduler=name)
    first = diffusion.render(PROMPTS, [1, 2, 3], options=options)
    diffusion.render(PROMPTS[:1], [9], options=RenderOptions(steps=7, scheduler=name, width=80))
    assert np.array_equal(diffusion.render(PROMPTS, [1, 2, 3], options=options), first)


def test_v_prediction_and_zero_terminal_snr_are_kept():
    default = DDIMScheduler.from_pretrained(WEIGHTS / "pipeline" / "scheduler")
    assert default.config.prediction_type == "v_prediction" and default.config.rescale_betas_zero_snr
    for name in NAMES:
        config = new_scheduler(default, name).config
        assert config.prediction_type == "v_prediction"
        assert name == "pndm" or config.rescale_betas_zero_snr
        assert not config.get("clip_sample", False)


@pytest.mark.parametrize("name", NAMES)
def test_every_scheduler_renders_the_prompt(name):
    """A v-prediction model with zero terminal SNR: the judge recognises each prompt's phenomenon."""
    options = RenderOptions(steps=12, guidance=4, scheduler=name)
    pictures = load_world().render([caption("noun", name) for name in PHENOMENA[:2]], [0] * 2, None, options)
    read = load_judge().read(pictures).phenomenon.argmax(dim=1).tolist()
    assert read == [0, 1]


@pytest.mark.parametrize("prediction_type", PREDICTION_TYPES)
@pytest.mark.parametrize("set_alpha_to_one", [True, False])
def test_noise_levels_give_the_librarys_ddim_step(prediction_type, set_alpha_to_one):
    scheduler = new_ddim(prediction_type, set_alpha_to_one=set_alpha_to_one, steps_offset=1)
    latents, output, levels = latents_of(0), latents_of(1), NoiseLevels(scheduler)
    for index, timestep in enumerate(scheduler.timesteps):
        expected = scheduler.step(output, timestep, latents).prev_sample
        latents = levels.add_noise(*levels.split(latents, output, index), index + 1)
        assert torch.allclose(latents, expected, atol=1e-4)


@pytest.mark.parametrize("spacing", ["leading", "trailing", "linspace"])
def test_splitting_reverses_adding_noise(spacing):
    levels = NoiseLevels(new_ddim(timestep_spacing=spacing))
    for index in range(7):
        clean, noise = levels.split(levels.add_noise(latents_of(0), latents_of(1), index), latents_of(1), index)
        assert torch.allclose(clean, latents_of(0), atol=1e-3) and torch.equal(noise, latents_of(1))
    signals = [levels.signal(index) for index in range(7)]
    assert signals == sorted(signals) and signals[-1] > 0.99
    assert all(levels.signal(index) ** 2 + levels.sigma(index) ** 2 == pytest.approx(1) for index in range(7))


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction"])
def test_a_perfect_prediction_has_no_loss(prediction_type):
    scheduler, timesteps = new_noise_scheduler(new_ddim(prediction_type)), torch.tensor([10, 400, 990])
    noise, latents = latents_of(0), latents_of(1)
    target = noise if prediction_type == "epsilon" else scheduler.get_velocity(latents, noise, timesteps)
    losses = denoising_loss(lambda noisy, at: target, scheduler, latents, timesteps, noise)
    assert torch.equal(losses, torch.zeros(3))
    worse = denoising_loss(lambda noisy, at: target + 1, scheduler, latents, timesteps, noise)
    assert bool((worse > 0.05).all())  # no timestep counts for nothing
