"""The device of models, its floating-point type, and what is done on a CPU alone."""

import pytest
import torch
from torch import nn

from aai.models import device as device_module
from aai.models.clap import AudioEncoder
from aai.models.device import best_device, dtype_named, to_device
from aai.models.diffusion import load_diffusion
from aai.models.onednn import OneDnnLinear
from aai.tiny.world import WEIGHTS

able = pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="PyTorch was built without oneDNN")


def linear_classes(model: nn.Module) -> set[type]:
    return {type(layer) for layer in model.modules() if isinstance(layer, nn.Linear)}


@pytest.mark.parametrize("available", [True, False])
def test_the_gpu_is_used_if_there_is_one(monkeypatch, available):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: available)
    assert best_device() == torch.device("cuda:0" if available else "cpu")


@pytest.mark.parametrize("name", ["float16", "bfloat16", "float32"])
def test_a_dtype_is_the_one_of_the_recipe(name):
    assert dtype_named(name) == getattr(torch, name)


@pytest.fixture
def allocator_calls(monkeypatch) -> list[bool]:
    calls = []
    monkeypatch.setattr(device_module, "keep_memory", lambda: calls.append(True))
    return calls


@able
@pytest.mark.parametrize("cpu", ["cpu", torch.device("cpu")])
def test_on_a_cpu_linear_layers_use_onednn_and_freed_memory_is_kept(allocator_calls, cpu):
    model = nn.Sequential(nn.Linear(2, 2))
    assert to_device(model, cpu) is model
    assert linear_classes(model) == {OneDnnLinear} and allocator_calls == [True]


def test_on_another_device_layers_are_unchanged_and_freed_memory_is_kept_for_decoding(allocator_calls):
    model = to_device(nn.Sequential(nn.Linear(2, 2)), "meta")
    assert model[0].weight.device.type == "meta"
    assert linear_classes(model) == {nn.Linear} and allocator_calls == [True]


@able
def test_every_adapter_moves_its_models_so(allocator_calls):
    audio = AudioEncoder(WEIGHTS / "clap")
    assert nn.Linear not in linear_classes(audio.model) and len(allocator_calls) == 1
    pipeline = load_diffusion(WEIGHTS / "pipeline").pipeline
    for model in (pipeline.unet, pipeline.vae, pipeline.text_encoder):
        assert nn.Linear not in linear_classes(model)


def test_a_pipeline_on_another_device_keeps_its_layers(sdxl_folder):
    pipeline = load_diffusion(sdxl_folder, "meta").pipeline
    for model in (pipeline.unet, pipeline.vae, pipeline.text_encoder, pipeline.text_encoder_2):
        assert model.device.type == "meta" and linear_classes(model) == {nn.Linear}
