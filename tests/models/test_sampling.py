"""Sampling: noise depends on its seed alone, latents stay in float32, and guidance holds in its interval."""

import numpy as np
import pytest
import torch
from diffusers import DiffusionPipeline
from diffusers.callbacks import SDCFGCutoffCallback, SDXLCFGCutoffCallback
from pydantic import ValidationError

from aai.models.diffusion import Diffusion, load_diffusion
from aai.models.options import RenderOptions
from aai.models.sampling import Guidance
from aai.models.schedulers import NoiseLevels, new_scheduler
from aai.noise import generator_of
from tests.models.shrunk import new_ddim

PROMPTS = ["a photo of strong rain", "a fire city"]
STEPS = 8


@pytest.fixture(scope="module", params=["sd15", pytest.param("sdxl", marks=pytest.mark.slow)])
def folder(request):
    return request.getfixturevalue(f"{request.param}_folder")


@pytest.fixture(scope="module")
def diffusion(folder) -> Diffusion:
    return load_diffusion(folder)


def predicted(diffusion: Diffusion, monkeypatch) -> list[torch.Tensor]:
    """The latents that the UNet is given from now on."""
    given, predict = [], diffusion.predict
    monkeypatch.setattr(diffusion, "predict", lambda noisy, *rest: given.append(noisy) or predict(noisy, *rest))
    return given


def sigmas_of(diffusion: Diffusion, options: RenderOptions) -> list[float]:
    scheduler = new_scheduler(diffusion.default_scheduler, options.scheduler)
    scheduler.set_timesteps(options.steps)
    return NoiseLevels(scheduler).edm_sigmas()


def test_the_noise_of_a_seed_depends_on_nothing_else(folder, diffusion):
    options, rough = RenderOptions(), load_diffusion(folder, dtype=torch.bfloat16)
    expected = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(5))
    for model in (diffusion, rough):
        for seeds in ([5], [1, 2, 5, 3]):
            noise = model.initial_noise([generator_of(seed) for seed in seeds], options)
            assert noise.dtype == torch.float32 and torch.equal(noise[seeds.index(5)], expected[0])


@pytest.mark.parametrize("scheduler", [None, "ddim", "dpm++2m", "euler-a", "ddpm"])
def test_latents_stay_in_float32_between_the_steps(folder, monkeypatch, scheduler):
    rough = load_diffusion(folder, dtype=torch.bfloat16)
    given = predicted(rough, monkeypatch)
    rough.render(PROMPTS, [1, 2], options=RenderOptions(steps=3, guidance=4, scheduler=scheduler))
    assert len(given) >= 3 and all(latents.dtype == torch.float32 for latents in given)
    assert not torch.equal(given[-1], given[-1].bfloat16().float()), "they keep more digits than the model has"


def test_noise_levels_are_those_of_the_librarys_euler(diffusion):
    sigmas = sigmas_of(diffusion, RenderOptions(steps=STEPS, scheduler="ddim"))
    euler = new_scheduler(diffusion.default_scheduler, "euler")
    euler.set_timesteps(STEPS)
    assert np.allclose(sigmas, euler.sigmas[:-1], rtol=1e-3) and sigmas[0] > 5 and sigmas[-1] < 0.1


def test_pure_noise_has_the_level_of_the_library():
    levels = NoiseLevels(new_ddim(rescale_betas_zero_snr=True, timestep_spacing="trailing"))
    assert levels.edm_sigmas()[0] == pytest.approx(4096, rel=1e-3)


def test_an_interval_excludes_its_lower_end_and_includes_its_upper():
    guidance = Guidance(RenderOptions(guidance_interval=(1, 3)), [4.0, 3.0, 2.0, 1.0, 0.5])
    assert [guidance.is_active(index) for index in range(5)] == [False, True, True, False, False]
    always = Guidance(RenderOptions(), [4096.0, 0.0])
    assert always.is_active(0) and always.is_active(1)


def test_steps_outside_the_interval_take_half_the_rows(diffusion, monkeypatch):
    options = RenderOptions(steps=STEPS, guidance=5, scheduler="ddim", guidance_interval=(0.5, 6))
    given = predicted(diffusion, monkeypatch)
    diffusion.render(PROMPTS, [1, 2], options=options)
    sizes = [4 if 0.5 < sigma <= 6 else 2 for sigma in sigmas_of(diffusion, options)]
    assert [len(latents) for latents in given] == sizes and {2, 4} == set(sizes)


def test_pictures_with_guidance_at_high_noise_alone_equal_the_librarys(folder, diffusion):
    """The library can switch guidance off after a step."""
    library = DiffusionPipeline.from_pretrained(folder)
    library.set_progress_bar_config(disable=True)
    library.scheduler = new_scheduler(diffusion.default_scheduler, "ddim")
    kind = SDXLCFGCutoffCallback if diffusion.is_xl else SDCFGCutoffCallback
    expected = library(
        PROMPTS[0], num_inference_steps=STEPS, guidance_scale=15.0, generator=torch.Generator().manual_seed(1),
        output_type="np", callback_on_step_end=kind(cutoff_step_ratio=None, cutoff_step_index=1),
    ).images * 255  # fmt: skip
    options = RenderOptions(steps=STEPS, guidance=15, scheduler="ddim")
    sigmas = sigmas_of(diffusion, options)  # two steps are guided: the callback comes after the step
    cut = options.model_copy(update={"guidance_interval": (sigmas[2], 100.0)})
    actual = diffusion.render(PROMPTS[:1], [1], options=cut)
    assert np.abs(expected - actual).max() < 0.51
    assert np.abs(expected - diffusion.render(PROMPTS[:1], [1], options=options)).max() > 2


def test_an_interval_of_all_levels_changes_nothing_and_an_empty_one_is_no_guidance(diffusion):
    def render(guidance: float, interval: tuple[float, float] | None = None) -> np.ndarray:
        options = RenderOptions(steps=4, guidance=guidance, guidance_interval=interval)
        return diffusion.render(PROMPTS, [1, 2], options=options)

    assert np.array_equal(render(5, (0, 100)), render(5))
    assert np.array_equal(render(5, (90, 100)), render(1))


@pytest.mark.parametrize("interval", [(3, 1), (1, 1), (-1, 2)])
def test_what_is_no_interval_is_refused(interval):
    with pytest.raises(ValidationError, match="is not an interval of noise levels"):
        RenderOptions(guidance_interval=interval)
