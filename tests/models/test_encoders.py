"""Embedding dimensions are read without the model, and equal the model's."""

import json
import shutil

import huggingface_hub.constants
import pytest

from aai.errors import BadConfig
from aai.models.encoders import embedding_dims
from aai.profiles import PROFILES
from tests.models.shrunk import DIM, DIM_2

COMMIT = "a" * 40


def test_there_is_a_dimension_for_each_text_encoder(sd15_folder, sdxl_folder):
    assert embedding_dims(sd15_folder) == [DIM]
    assert embedding_dims(sdxl_folder) == [DIM, DIM_2]
    assert embedding_dims(PROFILES["tiny"]["models"]["diffusion"]) == [128]


def test_a_model_on_the_hub_is_read_from_the_local_cache(sdxl_folder, tmp_path, monkeypatch):
    snapshot = tmp_path / "models--someone--pictures" / "snapshots" / COMMIT
    shutil.copytree(sdxl_folder, snapshot)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    assert embedding_dims("someone/pictures", COMMIT) == [DIM, DIM_2]
    with pytest.raises(BadConfig, match=r"cannot read model_index.json \(.*or go online") as error:
        embedding_dims("someone/others", COMMIT)
    assert error.value.uri == "someone/others"


@pytest.mark.parametrize(
    ("file", "text", "sentence"),
    [
        ("model_index.json", None, "cannot read model_index.json .*: name a complete diffusers pipeline"),
        ("model_index.json", "[]", "no embedding dimension of a text encoder: name a complete diffusers pipeline"),
        ("model_index.json", "{", "cannot read model_index.json"),
        ("text_encoder_2/config.json", None, "cannot read text_encoder_2/config.json"),
        ("text_encoder/config.json", json.dumps({"d_model": 4}), "no embedding dimension"),
    ],
)
def test_an_incomplete_pipeline_is_refused(sdxl_folder, tmp_path, file, text, sentence):
    folder = shutil.copytree(sdxl_folder, tmp_path / "pictures")
    (folder / file).unlink()
    if text is not None:
        (folder / file).write_text(text)
    with pytest.raises(BadConfig, match=sentence) as error:
        embedding_dims(folder)
    assert error.value.uri == str(folder)
