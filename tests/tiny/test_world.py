"""The pretrained models load completely and do what the model card says."""

from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL, StableDiffusionPipeline, UNet2DConditionModel
from safetensors.torch import load_file
from transformers import ClapModel, CLIPModel, CLIPTextModel, CLIPTokenizer

from aai.models.options import RenderOptions
from aai.tiny.judge import WEIGHTS as JUDGE_WEIGHTS
from aai.tiny.judge import load_judge
from aai.tiny.scenes import Scene, render
from aai.tiny.sounds import synthesise
from aai.tiny.vocabulary import PHENOMENA, caption
from aai.tiny.world import RENDER, WEIGHTS, World, load_world


@pytest.fixture(scope="module")
def world() -> World:
    return load_world()


def modules(world: World) -> dict[Path, torch.nn.Module]:
    pipeline = world.diffusion.pipeline
    return {
        WEIGHTS / "pipeline/vae/diffusion_pytorch_model.safetensors": pipeline.vae,
        WEIGHTS / "pipeline/unet/diffusion_pytorch_model.safetensors": pipeline.unet,
        WEIGHTS / "pipeline/text_encoder/model.safetensors": pipeline.text_encoder,
        WEIGHTS / "clip/model.safetensors": world.images.model,
        WEIGHTS / "clap/model.safetensors": world.audio.model,
        WEIGHTS / "aligner/model.safetensors": world.aligner,
        WEIGHTS / "mapper/model.safetensors": world.mapper,
        JUDGE_WEIGHTS / "model.safetensors": load_judge(),
    }


def test_every_tensor_on_disk_is_loaded(world):
    for path, module in modules(world).items():
        loaded, shipped = module.state_dict(), load_file(path)
        floats = {name for name in shipped if shipped[name].is_floating_point()}
        assert len(floats) > 2
        assert floats <= loaded.keys(), path
        assert not {n for n in loaded.keys() - floats if loaded[n].is_floating_point() and "relative" not in n}, path
        for name in floats:
            assert torch.equal(loaded[name], shipped[name].to(loaded[name].dtype)), (path, name)


def test_the_models_are_of_the_ordinary_classes(world):
    pipeline = world.diffusion.pipeline
    assert isinstance(pipeline, StableDiffusionPipeline)
    assert isinstance(pipeline.vae, AutoencoderKL)
    assert isinstance(pipeline.unet, UNet2DConditionModel)
    assert isinstance(pipeline.text_encoder, CLIPTextModel)
    assert isinstance(pipeline.tokenizer, CLIPTokenizer)
    assert isinstance(world.images.model, CLIPModel)
    assert isinstance(world.audio.model, ClapModel)


def test_the_unet_has_cross_attention_at_16_and_at_8(world):
    assert list(world.diffusion.pipeline.unet.config.down_block_types) == ["CrossAttnDownBlock2D"] * 2
    assert world.diffusion.pipeline.unet.config.sample_size == 16


def test_the_package_has_safetensors_and_text_only_and_is_small():
    files = [path for path in WEIGHTS.rglob("*") if path.is_file()]
    assert {path.suffix for path in files} <= {".safetensors", ".json", ".txt", ".jinja"}
    assert sum(path.stat().st_size for path in files) <= 25_000_000


def test_no_configuration_has_a_local_path():
    assert not [path for path in WEIGHTS.rglob("*.json") if "_name_or_path" in path.read_text()]


def test_an_embedding_does_not_depend_on_the_batch(world):
    waves = [synthesise(name, 0.6, 10 + i) for i, name in enumerate(PHENOMENA)]
    together = world.embed_clips(waves)
    assert torch.allclose(together[3], world.embed_clips(waves[3:4])[0], atol=1e-5)
    assert torch.allclose(together.norm(dim=1), torch.ones(len(waves)), atol=1e-5)


def test_an_image_does_not_depend_on_the_batch(world):
    prompts = [caption("noun", name) for name in PHENOMENA[:4]]
    together = world.render(prompts, [1, 2, 3, 4], options=RenderOptions(steps=8, guidance=4.0))
    alone = world.render(prompts[2:3], [3], options=RenderOptions(steps=8, guidance=4.0))[0]
    assert np.abs(together[2].astype(int) - alone).max() <= 1


def test_texts_and_cues_give_images_of_their_phenomenon(world):
    cues = world.cues(world.embed_clips([synthesise(name, 0.8, 50 + i) for i, name in enumerate(PHENOMENA)]))
    quick = RENDER.model_copy(update={"steps": 12})
    from_text = world.render([caption("noun", name) for name in PHENOMENA], [0] * 10, options=quick)
    from_cues = world.render([caption("noun")] * 10, [0] * 10, cues, quick)
    for images in (from_text, from_cues):
        predictions = load_judge().read(images).phenomenon.argmax(dim=1).tolist()
        assert sum(i == j for i, j in enumerate(predictions)) >= 9


def test_the_nearest_scene_has_the_phenomenon_of_the_clip(world):
    scenes = [Scene("noun", name, None, 0.7, 90 + i) for i, name in enumerate(PHENOMENA)]
    waves = [synthesise(name, 0.7, 70 + i) for i, name in enumerate(PHENOMENA)]
    nearest = (world.embed_clips(waves) @ world.embed_images(render(scenes).pixels).T).argmax(dim=1).tolist()
    assert sum(i == j for i, j in enumerate(nearest)) >= 9
