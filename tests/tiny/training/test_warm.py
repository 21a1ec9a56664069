"""A start from given weights."""

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from aai.tiny.judge import Judge
from aai.tiny.training.diffusion import new_text_encoder
from aai.tiny.training.loop import LoopOptions, TrainingSetup
from aai.tiny.training.tokenizer import make_tokenizer
from aai.tiny.training.warm import copy_weights, warm_start
from aai.tiny.world import WEIGHTS


def setup(tmp_path, start_from=None) -> TrainingSetup:
    return TrainingSetup(tmp_path, torch.device("cpu"), start_from=start_from)


def test_weights_of_equal_name_and_shape_are_copied_and_others_stay_as_they_are():
    module, known = nn.ModuleDict({"a": nn.Linear(2, 2), "b": nn.Linear(2, 2)}), nn.ModuleDict({"a": nn.Linear(2, 3)})
    before = module["a"].weight.clone()
    given = known.state_dict() | {"b.weight": torch.ones(2, 2)}
    assert copy_weights(module, given, {}, {}) == ["a.weight", "a.bias", "b.bias"]
    assert torch.equal(module["b"].weight, torch.ones(2, 2)) and torch.equal(module["a"].weight, before)


def test_embeddings_are_copied_by_token_and_those_of_new_tokens_are_zero():
    module = nn.ModuleDict({"token_embedding": nn.Embedding(3, 2)})
    known = {"token_embedding.weight": torch.tensor([[1.0, 1], [2, 2]])}
    new = copy_weights(module, known, {"rain": 0, "fire": 1}, {"fire": 0, "red": 1, "rain": 2})
    assert new == ["red"]
    assert module["token_embedding"].weight.tolist() == [[2, 2], [0, 0], [1, 1]]


def test_the_packages_weights_are_all_used(tmp_path, capsys):
    tokenizer, here = make_tokenizer(), setup(tmp_path, WEIGHTS)
    encoder = new_text_encoder(len(tokenizer), tokenizer.eos_token_id)
    warm_start(encoder, here, "pipeline/text_encoder", tokenizer.get_vocab(), "pipeline/tokenizer")
    judge = Judge()
    warm_start(judge, here, "judge")
    assert capsys.readouterr().out.count("nothing") == 2
    known = Judge.load(WEIGHTS / "judge").state_dict()
    assert all(torch.equal(weight, known[name]) for name, weight in judge.state_dict().items())


def test_without_a_start_the_module_stays_as_it_is(tmp_path, capsys):
    module = nn.Linear(2, 2)
    before = module.weight.clone()
    warm_start(module, setup(tmp_path), "judge")
    assert torch.equal(module.weight, before) and not capsys.readouterr().out


def test_a_folder_without_the_weights_or_the_tokenizer_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"judge: no weights to start from"):
        warm_start(nn.Linear(2, 2), setup(tmp_path, tmp_path), "judge")
    (tmp_path / "clip").mkdir()
    save_file({"weight": torch.ones(2, 2)}, tmp_path / "clip" / "model.safetensors")
    with pytest.raises(FileNotFoundError, match=r"clip: no tokenizer"):
        warm_start(nn.Linear(2, 2), setup(tmp_path, tmp_path), "clip", {"rain": 0})


def test_a_start_from_given_weights_takes_fewer_steps_at_two_thirds_of_the_rate(tmp_path):
    options = LoopOptions(steps=100, batch=8, learning_rate=1e-2, warm_share=0.4)
    warm, cold = setup(tmp_path, WEIGHTS).adapted(options), setup(tmp_path).adapted(options)
    assert (warm.steps, warm.batch) == (40, 8) and warm.learning_rate == pytest.approx(1e-2 * 2 / 3)
    assert (cold.steps, cold.learning_rate, cold.batch) == (100, 1e-2, 8)
