"""How long rows are is read without the model, and is what the model has."""

import json
import shutil

import huggingface_hub.constants
import pytest

from aai.errors import BadConfig
from aai.models.encoders import row_dims
from aai.profiles import PROFILES
from tests.models.shrunk import DIM, DIM_2

COMMIT = "a" * 40


def test_rows_have_a_part_for_each_text_encoder(sd15_folder, sdxl_folder):
    assert row_dims(sd15_folder) == [DIM]
    assert row_dims(sdxl_folder) == [DIM, DIM_2]
    assert row_dims(PROFILES["tiny"]["models"]["diffusion"]) == [128]


def test_a_model_of_the_hub_is_read_from_its_cache(sdxl_folder, tmp_path, monkeypatch):
    snapshot = tmp_path / "models--someone--pictures" / "snapshots" / COMMIT
    shutil.copytree(sdxl_folder, snapshot)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    assert row_dims("someone/pictures", COMMIT) == [DIM, DIM_2]
    with pytest.raises(BadConfig, match=r"someone/others: model_index.json cannot be read \(.*or go online"):
        row_dims("someone/others", COMMIT)


@pytest.mark.parametrize(
    ("file", "text", "said"),
    [
        ("model_index.json", None, "model_index.json cannot be read .*: name a whole pipeline"),
        ("model_index.json", "[]", "it does not say how long a text encoder's rows are: name a whole pipeline"),
        ("model_index.json", "{", "model_index.json cannot be read"),
        ("text_encoder_2/config.json", None, "text_encoder_2/config.json cannot be read"),
        ("text_encoder/config.json", json.dumps({"d_model": 4}), "it does not say how long"),
    ],
)
def test_what_is_no_whole_pipeline_is_refused(sdxl_folder, tmp_path, file, text, said):
    folder = shutil.copytree(sdxl_folder, tmp_path / "pictures")
    (folder / file).unlink()
    if text is not None:
        (folder / file).write_text(text)
    with pytest.raises(BadConfig, match=said):
        row_dims(folder)
