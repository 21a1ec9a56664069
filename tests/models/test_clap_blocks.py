"""The encoder in two parts equals the whole one, with and without fusion, wherever it is cut."""

from pathlib import Path

import pytest
import torch

from aai.errors import BadConfig
from aai.models.clap import AudioEncoder
from aai.models.clap_blocks import SplitEncoder
from aai.models.revisions import resolve_revision
from tests.models.test_clap import RATE_HZ, WAVES, new_model, new_processor


@pytest.fixture(scope="module", params=[False, True])
def folder(request, tmp_path_factory) -> Path:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("models") / "clap"
    new_model(request.param, depths=[1, 1, 2, 1]).save_pretrained(path)
    new_processor(request.param).save_pretrained(path)
    return path


@pytest.mark.parametrize("num", [1, 2, 3, 5])
def test_the_parts_equal_the_whole(folder, num):
    whole, split = AudioEncoder(folder), SplitEncoder(folder, None, num)
    waves = torch.stack([torch.from_numpy(whole.prepare(wave, RATE_HZ)) for wave in WAVES])
    inputs, vectors = split.inputs_of(waves), whole.embed_prepared(waves)
    assert inputs.shape[1:] == split.blocks.input_shape
    with torch.inference_mode():
        assert torch.allclose(split.blocks(inputs), vectors, atol=1e-6)
        halved = split.blocks(inputs.half().float())
    assert (halved * vectors).sum(dim=1).min() > 0.99999


def test_only_the_last_blocks_change_and_the_result_is_an_encoder(folder, tmp_path):
    split = SplitEncoder(folder, None, 2)
    weights = {name: torch.randn_like(value) for name, value in split.blocks.named_parameters()}
    split.set_weights(weights)
    split.encoder.save(tmp_path / "own")
    before, after = AudioEncoder(folder).model.state_dict(), AudioEncoder(tmp_path / "own").model.state_dict()
    assert before.keys() == after.keys()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    own = (
        "audio_projection.",
        "audio_model.audio_encoder.norm.",
        "audio_model.audio_encoder.layers.2.blocks.1.",
        "audio_model.audio_encoder.layers.2.downsample.",
        "audio_model.audio_encoder.layers.3.",
    )
    assert changed == {name for name in before if name.startswith(own) and not name.endswith("position_index")}
    assert len(changed) == len(weights)
    texts = ["rain", "fire"]
    assert torch.equal(AudioEncoder(folder).embed_texts(texts), AudioEncoder(tmp_path / "own").embed_texts(texts))
    assert resolve_revision(tmp_path / "own", None)[1] != resolve_revision(folder, None)[1]


def test_more_blocks_than_there_are_are_refused(folder):
    with pytest.raises(BadConfig) as caught:
        SplitEncoder(folder, None, 6)
    assert caught.value.key == "train.tower_blocks" and "5 blocks" in caught.value.sentence
