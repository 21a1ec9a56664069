"""A network is a folder of safetensors, and nothing is said while it is read."""

import pytest
import torch
from torch import nn

from aai.pretrained import Network


class Line(Network):
    def __init__(self, size: int = 2) -> None:
        super().__init__()
        self.layer = nn.Linear(size, 1)


def test_a_network_comes_back_with_its_configuration(tmp_path, capsys):
    line = Line(size=5)
    line.save(tmp_path)
    again = Line.load(tmp_path)
    assert torch.equal(again.layer.weight, line.layer.weight)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.json", "model.safetensors"]
    assert capsys.readouterr().out == ""


def test_half_precision_is_read_as_float(tmp_path):
    Line().half().save(tmp_path)
    assert Line.load(tmp_path).layer.weight.dtype == torch.float32


def test_an_empty_folder_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="Line"):
        Line.load(tmp_path)
