"""A damaged model is one sentence that names role and file, before any work and without loading it."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file
from safetensors.torch import save_file as save_torch

from aai.errors import BadConfig
from aai.models.folders import check_folders, check_weights
from aai.profiles import PROFILES

MODELS = PROFILES["tiny"]["models"]
FOLDERS = {role: Path(MODELS[role]) for role in ("audio", "image_text", "diffusion", "aligner", "mapper")}
FOLDERS["judge"] = Path(MODELS["judge"]["folder"])
WEIGHTS = {role: "model.safetensors" for role in FOLDERS} | {"diffusion": "unet/diffusion_pytorch_model.safetensors"}
CONFIGS = {role: "config.json" for role in FOLDERS} | {"diffusion": "vae/config.json"}
every_role = pytest.mark.parametrize("role", list(FOLDERS))
but_judges = pytest.mark.parametrize("role", [role for role in FOLDERS if role != "judge"])
DAMAGES = {
    "empty": lambda data: b"",
    "cut": lambda data: data[:-100],
    "longer": lambda data: data + b"more",
    "noise": lambda data: os.urandom(len(data)),
}


@pytest.fixture
def copy(tmp_path, role) -> Path:
    return Path(shutil.copytree(FOLDERS[role], tmp_path / "copy"))


def refused(role: str, folder: Path) -> BadConfig:
    with pytest.raises(BadConfig) as error:
        check_folders(FOLDERS | {role: folder})
    return error.value


def change(path: Path, **values) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def test_the_shipped_models_are_sound():
    check_folders(FOLDERS)


@but_judges
def test_an_empty_folder_is_refused(role, tmp_path):
    error = refused(role, tmp_path)
    assert error.key == f"models.{role}" and error.uri.startswith(str(tmp_path))


@every_role
@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_weights_are_refused(copy, role, damage):
    path = copy / WEIGHTS[role]
    path.write_bytes(DAMAGES[damage](path.read_bytes()))
    error = refused(role, copy)
    assert (error.key, error.uri) == (f"models.{role}", str(path))
    assert "damaged or cut short" in error.sentence and "again" in error.sentence


@every_role
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_weights_that_are_not_finite_are_refused(copy, role, value):
    path = copy / WEIGHTS[role]
    tensors = load_file(path)
    name = [name for name, tensor in tensors.items() if tensor.dtype.kind == "f"][-1]
    tensors[name] = tensors[name].copy()
    tensors[name].flat[-1] = value
    save_file(tensors, path)
    error = refused(role, copy)
    assert (error.key, error.uri) == (f"models.{role}", str(path))
    assert f"its weight {name} is not finite" in error.sentence


@but_judges
def test_missing_weights_are_refused(copy, role):
    (copy / WEIGHTS[role]).unlink()
    error = refused(role, copy)
    assert error.key == f"models.{role}" and error.uri == str((copy / WEIGHTS[role]).parent)


@but_judges
@pytest.mark.parametrize("text", [None, "", "{", "[]", "[" * 100_000])
def test_a_missing_or_damaged_configuration_is_refused(copy, role, text):
    path = copy / CONFIGS[role]
    path.unlink() if text is None else path.write_text(text)
    error = refused(role, copy)
    assert (error.key, error.uri) == (f"models.{role}", str(path))


@pytest.mark.parametrize(("role", "other"), [("audio", "image_text"), ("image_text", "audio")])
def test_another_kind_of_model_is_refused(role, other):
    error = refused(role, FOLDERS[other])
    assert error.key == f"models.{role}" and "name another folder" in error.sentence


@pytest.mark.parametrize(
    ("role", "size", "other"),
    [
        ("aligner", "audio_dim", "audio"),
        ("aligner", "image_dim", "image_text"),
        ("mapper", "image_dim", "image_text"),
        ("mapper", "token_dim", "diffusion"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(copy, role, size, other):
    change(copy / "config.json", **{size: 5})
    error = refused(role, copy)
    assert (error.key, error.uri) == (f"models.{role}", str(copy / "config.json"))
    assert f"its {size} is 5, but models.{other} has 128" in error.sentence


@pytest.mark.parametrize("role", ["audio"])
def test_a_part_of_divided_weights_that_is_missing_is_named(copy, role):
    (copy / "model.safetensors").rename(copy / "model-1.safetensors")
    index = {"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}}
    (copy / "model.safetensors.index.json").write_text(json.dumps(index))
    assert refused(role, copy).uri == str(copy / "model-2.safetensors")


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
def test_every_type_of_numbers_is_examined(tmp_path, dtype):
    path, largest = tmp_path / "a.safetensors", torch.finfo(dtype).max
    numbers = torch.tensor([1, -largest, 1e-40, 0], dtype=dtype)
    save_torch({"ids": torch.tensor([2**62]), "none": torch.zeros(0, dtype=dtype), "numbers": numbers}, path)
    check_weights(path)
    save_torch({"numbers": torch.tensor([1, torch.nan], dtype=dtype)}, path)
    with pytest.raises(BadConfig, match="its weight numbers is not finite"):
        check_weights(path)
