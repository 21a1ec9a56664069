"""A module is saved as a folder of safetensors, and loading prints nothing."""

import os

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from aai.errors import BadConfig
from aai.pretrained import PretrainedModule


class Line(PretrainedModule):
    def __init__(self, size: int = 2) -> None:
        super().__init__()
        self.layer = nn.Linear(size, 1)


def test_a_saved_module_loads_with_its_configuration(tmp_path, capsys):
    line = Line(size=5)
    line.save(tmp_path)
    loaded = Line.load(tmp_path)
    assert torch.equal(loaded.layer.weight, line.layer.weight)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.json", "model.safetensors"]
    assert capsys.readouterr().out == ""


def test_half_precision_is_loaded_as_float32(tmp_path):
    Line().half().save(tmp_path)
    assert Line.load(tmp_path).layer.weight.dtype == torch.float32


def test_a_folder_without_weights_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError, match="Line"):
        Line.load(tmp_path)


def spoil(folder, **tensors) -> None:
    save_file(load_file(folder / "model.safetensors") | tensors, folder / "model.safetensors")


@pytest.mark.parametrize(
    "text", [None, "", "[]", '{"size": "x"}', '{"width": 3}', '{"size": -1}', '{"size": 1000000000000}']
)
def test_a_damaged_configuration_is_an_error(tmp_path, text):
    Line().save(tmp_path)
    config = tmp_path / "config.json"
    config.unlink() if text is None else config.write_text(text)
    with pytest.raises(BadConfig) as error:
        Line.load(tmp_path)
    assert error.value.uri in (str(config), str(tmp_path / "model.safetensors"))


@pytest.mark.parametrize("change", [lambda data: b"", lambda data: data[:-3], lambda data: os.urandom(len(data))])
def test_damaged_weights_are_an_error(tmp_path, change):
    Line().save(tmp_path)
    path = tmp_path / "model.safetensors"
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(BadConfig, match="damaged or cut short: copy or train it again") as error:
        Line.load(tmp_path)
    assert error.value.uri == str(path)


def test_missing_and_further_weights_are_an_error_and_never_made_up(tmp_path):
    Line().save(tmp_path)
    spoil(tmp_path, further=torch.zeros(1))
    with pytest.raises(BadConfig, match="its weights are not those of the Line that config.json describes"):
        Line.load(tmp_path)
    save_file({"layer.weight": torch.zeros(1, 2)}, tmp_path / "model.safetensors")
    with pytest.raises(BadConfig, match="its weights are not those of the Line"):
        Line.load(tmp_path)


def test_weights_that_are_not_finite_are_an_error(tmp_path):
    Line().save(tmp_path)
    spoil(tmp_path, **{"layer.bias": torch.tensor([float("nan")])})
    with pytest.raises(BadConfig, match=r"its weight layer.bias is not finite") as error:
        Line.load(tmp_path)
    assert error.value.uri == str(tmp_path / "model.safetensors")
