"""Export of the trained models into the package."""

import pytest

from aai.tiny.training import ship as module
from aai.tiny.training.ship import ship
from aai.tiny.world import WEIGHTS, World


def test_exported_models_load_and_name_no_folder(tmp_path):
    size = ship(WEIGHTS, tmp_path / "weights")
    assert size == sum(path.stat().st_size for path in (tmp_path / "weights").rglob("*") if path.is_file())
    assert not [path for path in (tmp_path / "weights").rglob("*.json") if "_name_or_path" in path.read_text()]
    assert World(tmp_path / "weights").diffusion.cue_dim == 128


def test_models_that_are_too_large_are_an_error(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_MAX_SIZE_BYTES", 1_000_000)
    with pytest.raises(ValueError, match="more than 1,000,000: make the models smaller"):
        ship(WEIGHTS, tmp_path / "weights")
