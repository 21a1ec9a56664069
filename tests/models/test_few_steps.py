"""Few-step models: pictures equal those of diffusers' own pipelines, and wrong options are named before any work."""

import json
import shutil
from pathlib import Path

import diffusers
import numpy as np
import pytest
import torch
from diffusers import DiffusionPipeline, UNet2DConditionModel

from aai.edit.editor import Editor, EditRequest, Photos
from aai.edit.options import EditOptions
from aai.edit.trajectories import InversionCache
from aai.models.diffusion import load_diffusion
from aai.models.few_steps import Sampling, sampling_of
from aai.models.options import RenderOptions
from tests.models.shrunk import DIM, SIZE, new_unet

PROMPTS = ["a photo of strong rain", "a fire city"]
TRAILING = {"timestep_spacing": "trailing"}


def distilled(folder: Path, into: Path, scheduler: str, **settings: object) -> Path:
    """A copy of a checkpoint with another scheduler, as few-step models are published."""
    copy = shutil.copytree(folder, into)
    default = DiffusionPipeline.from_pretrained(folder).scheduler
    shutil.rmtree(copy / "scheduler")
    getattr(diffusers, scheduler).from_config(default.config, **settings).save_pretrained(copy / "scheduler")
    index = json.loads((copy / "model_index.json").read_text())
    (copy / "model_index.json").write_text(json.dumps(index | {"scheduler": ["diffusers", scheduler]}))
    return copy


@pytest.fixture(scope="module")
def lcm_folder(sd15_folder, tmp_path_factory) -> Path:
    """As LCM Dreamshaper v7: its UNet takes the guidance scale as an input, and it has a pipeline of its own."""
    folder = distilled(sd15_folder, tmp_path_factory.mktemp("models") / "lcm", "LCMScheduler")
    torch.manual_seed(2)
    unet = new_unet(DIM, time_cond_proj_dim=16)
    torch.nn.init.normal_(unet.time_embedding.cond_proj.weight)
    unet.save_pretrained(folder / "unet")
    index = json.loads((folder / "model_index.json").read_text())
    (folder / "model_index.json").write_text(json.dumps(index | {"_class_name": "LatentConsistencyModelPipeline"}))
    return folder


MODELS = {
    "lcm-lora": ("sd15", "LCMScheduler", {}, 4, 1.0),
    "lcm-xl": ("sdxl", "LCMScheduler", {}, 4, 1.5),
    "turbo": ("sd15", "EulerDiscreteScheduler", TRAILING, 1, 0.0),
    "turbo-xl": ("sdxl", "EulerAncestralDiscreteScheduler", TRAILING, 4, 0.0),
    "hyper": ("sd15", "DDIMScheduler", TRAILING, 2, 0.0),
    "hyper-tcd": ("sd15", "TCDScheduler", {}, 3, 0.0),
    "lightning-v": ("sdxl", "EulerDiscreteScheduler", TRAILING | {"prediction_type": "v_prediction"}, 4, 0.0),
}


@pytest.mark.parametrize(
    "model", [pytest.param(name, marks=[pytest.mark.slow] if MODELS[name][0] == "sdxl" else []) for name in MODELS]
)
def test_pictures_equal_the_librarys(request, tmp_path, model):
    base, scheduler, settings, steps, guidance = MODELS[model]
    folder = distilled(request.getfixturevalue(f"{base}_folder"), tmp_path / "model", scheduler, **settings)
    assert_equal_to_library(folder, steps, guidance)


@pytest.mark.slow
def test_pictures_of_a_model_with_guidance_as_its_input_equal_the_librarys(lcm_folder):
    assert_equal_to_library(lcm_folder, 4, 8.5)
    diffusion = load_diffusion(lcm_folder)
    low, high = (
        diffusion.render(PROMPTS, [1, 2], options=RenderOptions(steps=4, guidance=guidance)).astype(float)
        for guidance in (1, 8.5)
    )
    assert diffusion.has_guidance_input and np.abs(low - high).max() > 2


def assert_equal_to_library(folder: Path, steps: int, guidance: float) -> None:
    library = DiffusionPipeline.from_pretrained(folder)
    library.set_progress_bar_config(disable=True)
    generators = [torch.Generator().manual_seed(seed) for seed in (1, 2)]
    expected = library(
        PROMPTS, num_inference_steps=steps, guidance_scale=guidance, generator=generators, output_type="np"
    ).images
    actual = load_diffusion(folder).render(PROMPTS, [1, 2], options=RenderOptions(steps=steps, guidance=guidance))
    assert actual.shape == (2, SIZE, SIZE, 3) and np.abs(expected * 255 - actual).max() < 0.51
    assert np.abs(actual[0].astype(float) - actual[1]).mean() > 5


@pytest.mark.parametrize("guidance", [1.0, 6.0])
def test_edits_of_few_step_models_keep_their_sources(lcm_folder, guidance):
    diffusion, options = load_diffusion(lcm_folder), RenderOptions(steps=4, guidance=guidance)
    request = EditRequest(["a city"] * 2, ["a fire city", "a rain city"], [1, 2], None, ["", ""])
    made = Editor(diffusion, options, EditOptions()).from_prompts(request)
    plain = diffusion.render(["a city"] * 2, [1, 2], options=options)
    assert np.abs(made.sources.astype(float) - plain).max() <= 1
    pixels = np.tile(np.arange(SIZE, dtype=np.uint8)[:, None, None] * 3, (1, 1, SIZE, 3))
    edited = Editor(diffusion, options, EditOptions(inversion="virtual")).from_photos(
        request, Photos(pixels, ["a"], [0, 0]), InversionCache()
    )
    assert edited.pictures.shape == (2, SIZE, SIZE, 3) and not np.array_equal(*edited.pictures)


def test_a_checkpoint_says_how_it_is_sampled(sd15_folder, lcm_folder, tmp_path):
    plain = sampling_of(sd15_folder)
    assert plain == Sampling("PNDMScheduler", False, False, False, None)
    assert sampling_of(lcm_folder) == Sampling("LCMScheduler", True, False, True, 50)
    turbo = distilled(sd15_folder, tmp_path / "turbo", "EulerDiscreteScheduler", **TRAILING)
    assert sampling_of(turbo) == Sampling("EulerDiscreteScheduler", False, True, False, None)
    assert UNet2DConditionModel.load_config(lcm_folder, subfolder="unet")["time_cond_proj_dim"] == 16
    assert sampling_of("owner/unknown", "0" * 40) is None


LCM = Sampling("LCMScheduler", True, False, False, 50)
WITH_INPUT = Sampling("LCMScheduler", True, False, True, 50)
TURBO = Sampling("EulerDiscreteScheduler", False, True, False, None)
PLAIN = Sampling("PNDMScheduler", False, False, False, None)


@pytest.mark.parametrize(
    ("sampling", "options", "negative", "keys"),
    [
        (LCM, {"guidance": 7.5, "steps": 4}, "", ["guidance"]),
        (LCM, {"guidance": 1, "steps": 60}, "", ["steps"]),
        (LCM, {"guidance": 7.5, "steps": 60, "scheduler": "ddim"}, "", []),
        (WITH_INPUT, {"guidance": 8, "steps": 4}, "dark", ["negative_prompt"]),
        (WITH_INPUT, {"guidance": 8, "steps": 4, "guidance_interval": (0.3, 5)}, "", ["guidance_interval"]),
        (WITH_INPUT, {"guidance": 8, "steps": 4}, "", []),
        (TURBO, {"guidance": 7.5, "steps": 50}, "", []),
        (PLAIN, {"guidance": 7.5, "steps": 50}, "dark", []),
    ],
)
def test_options_that_cannot_work_are_named(sampling, options, negative, keys):
    assert [key for key, _ in sampling.faults(RenderOptions(**options), negative)] == keys


@pytest.mark.parametrize(
    ("sampling", "options", "start"),
    [
        (LCM, {"guidance": 1, "steps": 25}, "steps 25"),
        (LCM, {"guidance": 1, "steps": 4, "scheduler": "ddim"}, "scheduler ddim"),
        (LCM, {"guidance": 1, "steps": 4}, None),
        (TURBO, {"guidance": 7.5, "steps": 4}, "guidance 7.5"),
        (TURBO, {"guidance": 0, "steps": 1}, None),
        (PLAIN, {"guidance": 7.5, "steps": 50}, None),
    ],
)
def test_options_that_are_hardly_meant_are_said(sampling, options, start):
    advice = list(sampling.advice(RenderOptions(**options)))
    assert [sentence.startswith(start) for sentence in advice] == ([True] if start else [])
