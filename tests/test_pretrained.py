"""A module is saved as a folder of safetensors, and loading prints nothing."""

import pytest
import torch
from torch import nn

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
