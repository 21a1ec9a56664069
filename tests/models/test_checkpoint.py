"""Models load frozen and complete from safetensors; incomplete, damaged and pickled weights are refused."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from safetensors.torch import load_file, save_file
from transformers import CLIPTextModel

from aai.errors import BadConfig, BadItem
from aai.models.checkpoint import load_errors, load_frozen

CLASSES = {"unet": UNet2DConditionModel, "vae": AutoencoderKL, "text_encoder": CLIPTextModel}
every_part = pytest.mark.parametrize("part", list(CLASSES))


def load(folder: Path, part: str, **options) -> torch.nn.Module:
    return load_frozen(CLASSES[part], folder, None, torch.float32, part, **options)


def change_config(folder: Path, part: str, **changes) -> None:
    config = folder / part / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | changes))


@pytest.fixture
def copy(sd15_folder, tmp_path) -> Path:
    return Path(shutil.copytree(sd15_folder, tmp_path / "copy"))


@every_part
def test_a_model_is_frozen_and_has_the_stored_weights(sd15_folder, part):
    model, reference = load(sd15_folder, part), CLASSES[part].from_pretrained(sd15_folder, subfolder=part)
    assert not model.training and not any(parameter.requires_grad for parameter in model.parameters())
    torch.testing.assert_close(model.state_dict(), reference.state_dict(), rtol=0, atol=0)


def test_a_model_has_the_requested_dtype(sd15_folder):
    model = load_frozen(CLIPTextModel, sd15_folder, None, torch.bfloat16, "text_encoder")
    assert {parameter.dtype for parameter in model.parameters()} == {torch.bfloat16}


@every_part
def test_pickled_weights_are_not_read(copy, part):
    (weights,) = (copy / part).glob("*.safetensors")
    name = "pytorch_model.bin" if part == "text_encoder" else f"{weights.stem}.bin"
    torch.save(load(copy, part).state_dict(), weights.with_name(name))
    weights.unlink()
    with pytest.raises(BadConfig, match=r"no \w+, with safetensors, can be loaded") as error:
        load(copy, part)
    assert error.value.uri == str(copy)


def test_pickled_weights_are_a_fallback_on_request(copy):
    expected = load(copy, "text_encoder").state_dict()
    torch.save(expected, copy / "text_encoder" / "pytorch_model.bin")
    torch.save({}, copy / "text_encoder" / "model.bin")
    (copy / "text_encoder" / "model.safetensors").unlink()
    loaded = load(copy, "text_encoder", allow_bin=True).state_dict()
    torch.testing.assert_close(loaded, expected, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("part", "changes"), [("unet", {"class_embed_type": "timestep"}), ("text_encoder", {"num_hidden_layers": 4})]
)
def test_missing_weights_are_an_error(copy, part, changes):
    change_config(copy, part, **changes)
    with pytest.raises(BadConfig, match=r"lacks \d+ parameters, \S+ among them: .* do not match") as error:
        load(copy, part)
    assert error.value.uri == str(copy)


def test_weights_of_other_shapes_are_an_error(copy):
    change_config(copy, "unet", layers_per_block=2)
    with pytest.raises(BadConfig, match="no UNet2DConditionModel.*expected shape"):
        load(copy, "unet")


@every_part
def test_damaged_weights_are_an_error(copy, part):
    (weights,) = (copy / part).glob("*.safetensors")
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(BadConfig, match=rf"no {CLASSES[part].__name__}, with safetensors, can be loaded"):
        load(copy, part)


def test_loading_errors_are_translated_and_others_are_not():
    with pytest.raises(BadConfig, match="no CLIPTextModel, with safetensors, can be loaded .OSError: gone.") as error:
        with load_errors(CLIPTextModel, "someone/model"):
            raise OSError("gone")
    assert error.value.uri == "someone/model"
    for ours in (BadItem("ours"), MemoryError()):
        with pytest.raises(type(ours)), load_errors(CLIPTextModel, "someone/model"):
            raise ours


def test_weights_of_more_layers_than_the_configuration_says_are_an_error(copy):
    change_config(copy, "text_encoder", num_hidden_layers=1)
    with pytest.raises(BadConfig, match=r"has \d+ further weights, as .*layers.1.* do not match") as error:
        load(copy, "text_encoder")
    assert error.value.uri == str(copy)


@every_part
def test_weights_that_are_not_finite_are_an_error(copy, part):
    (weights,) = (copy / part).glob("*.safetensors")
    tensors = load_file(weights)
    name = sorted(name for name, tensor in tensors.items() if tensor.is_floating_point())[0]
    tensors[name].view(-1)[-1] = float("inf")
    save_file(tensors, weights, {"format": "pt"})
    with pytest.raises(BadConfig, match=f"its weight {name} is not finite: as float32: download the model again"):
        load(copy, part)


def test_weights_that_are_too_large_for_half_precision_are_an_error(copy):
    (weights,) = (copy / "text_encoder").glob("*.safetensors")
    tensors = load_file(weights)
    name = min(tensors)
    tensors[name] = torch.full_like(tensors[name], 1e6, dtype=torch.float32)
    save_file(tensors, weights, {"format": "pt"})
    with pytest.raises(BadConfig, match="is not finite: as float16: set models.dtype to float32"):
        load_frozen(CLIPTextModel, copy, None, torch.float16, "text_encoder")
