"""Training over vectors on disk: it learns, resumes, and is the same in one process and in two."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from aai.align.pair_vectors import HELD_OUT, TRAIN, VALIDATION, PairVectors, PairWriter, batches_of
from aai.align.train_options import TrainAlignerOptions
from aai.align.training import Setup, match_weights, train
from aai.align.whitening import fold, whitening_of
from aai.errors import BadConfig
from tests.align.pairs import AUDIO_DIM, IMAGE_DIM, write_pairs

QUICK = TrainAlignerOptions(
    learning_rate=5e-3, batch=32, epochs=1, min_steps=60, hidden_dim=64, evaluations=3, checkpoint_steps=10
)


def setup_in(folder: Path, options: TrainAlignerOptions = QUICK, **changes) -> Setup:
    return Setup(options, "digest", folder / "checkpoint.safetensors", torch.device("cpu"), **changes)


def ignore(*of_step: object) -> None:
    pass


def recall(projector, pairs: PairVectors) -> float:
    members = pairs.members(HELD_OUT)
    with torch.inference_mode():
        aligned = projector(torch.from_numpy(pairs.audio[members].astype(np.float32))).numpy()
    return float(((aligned @ pairs.image[members].T).argmax(1) == np.arange(len(members))).mean())


@pytest.mark.parametrize("changes", [{}, {"loss": "sigmoid"}, {"whiten": False}, {"same_class": 0.02}])
def test_the_projector_finds_the_images_of_held_out_sounds(tmp_path, changes):
    pairs = write_pairs(tmp_path / "pairs", 200)
    trained = train(pairs, setup_in(tmp_path, QUICK.model_copy(update={"min_steps": 120} | changes)), ignore)
    assert trained.is_finished and recall(trained.projector, pairs) > 0.6


def test_texts_alone_are_an_anchor(tmp_path):
    pairs = write_pairs(tmp_path / "pairs", 200, has_text=True)
    options = QUICK.model_copy(update={"image_weight": 0.0, "text_weight": 1.0, "min_steps": 120})
    assert recall(train(pairs, setup_in(tmp_path, options), ignore).projector, pairs) > 0.5


def test_without_texts_their_weight_is_refused(tmp_path):
    pairs = write_pairs(tmp_path / "pairs", 40)
    with pytest.raises(BadConfig) as caught:
        train(pairs, setup_in(tmp_path, QUICK.model_copy(update={"text_weight": 1.0})), ignore)
    assert caught.value.key == "train.text_weight"


def test_too_few_pairs_are_refused(tmp_path):
    with pytest.raises(BadConfig) as caught:
        train(write_pairs(tmp_path / "pairs", 10), setup_in(tmp_path), ignore)
    assert caught.value.key == "pairs"


def test_a_stopped_training_goes_on_to_the_same_weights(tmp_path):
    pairs = write_pairs(tmp_path / "pairs", 100)
    (tmp_path / "whole").mkdir()
    whole = train(pairs, setup_in(tmp_path / "whole"), ignore)
    calls = iter(range(10**6))
    stopped = train(pairs, setup_in(tmp_path, stop=lambda: next(calls) == 24), ignore)
    assert not stopped.is_finished and stopped.progress.step == 25
    steps: list[int] = []
    resumed = train(pairs, setup_in(tmp_path), lambda step, *rest: steps.append(step))
    assert steps[0] == 26 and resumed.progress.curve == whole.progress.curve
    for own, other in zip(resumed.projector.parameters(), whole.projector.parameters(), strict=True):
        assert torch.equal(own, other)


def test_a_checkpoint_of_other_options_or_a_damaged_one_is_not_used(tmp_path):
    pairs, setup = write_pairs(tmp_path / "pairs", 100), setup_in(tmp_path)
    calls = iter(range(10**6))
    train(pairs, setup_in(tmp_path, stop=lambda: next(calls) == 9), ignore)
    for spoil in (lambda: None, lambda: setup.checkpoint.write_bytes(b"damaged")):
        spoil()
        steps: list[int] = []
        other = Setup(setup.options, "another digest", setup.checkpoint, setup.device, stop=lambda: True)
        train(pairs, other, lambda step, *rest: steps.append(step))  # noqa: B023
        assert steps == [1]


@pytest.mark.slow
def test_two_ranks_have_the_loss_of_one(tmp_path):
    """The same global batches and noise, so the same losses; negatives and gradients come from both ranks."""
    pairs = write_pairs(tmp_path / "pairs", 100, has_text=True)
    losses: list[float] = []
    options = QUICK.model_copy(update={"text_weight": 0.5, "min_steps": 20, "same_class": 0.1})
    trained = train(pairs, setup_in(tmp_path, options), lambda step, steps, values: losses.append(values["loss"]))
    port = 20_000 + os.getpid() % 20_000
    command = [sys.executable, "-m", "tests.align.ranks", str(tmp_path), options.model_dump_json(), str(port)]
    ranks = [subprocess.Popen([*command, str(rank)]) for rank in range(2)]
    assert [rank.wait(120) for rank in ranks] == [0, 0]
    two = json.loads((tmp_path / "losses.json").read_text())
    assert np.allclose(two["losses"], losses, atol=1e-3, rtol=0) and len(losses) == 20
    weight = torch.tensor(two["weight"])
    assert torch.allclose(weight, trained.projector.first.weight, atol=1e-3)


def test_each_pass_has_every_pair_once_up_to_a_batch():
    members = np.arange(3, 1_000)
    batches = list(batches_of(members, 8, np.random.default_rng(0)))
    seen = np.concatenate(batches)
    assert len(seen) == len(members) // 8 * 8 == len(np.unique(seen))
    assert set(seen) <= set(members) and {len(batch) for batch in batches} == {8}
    assert np.corrcoef(seen, np.arange(len(seen)))[0, 1] < 0.3


def test_pairs_with_a_common_sound_or_image_are_matches(tmp_path):
    writer = PairWriter(tmp_path, 4, {"audio": 2, "image": 2})
    pairs = writer.finish(np.array([[0, 0, 5, 0], [0, 1, 5, 0], [1, 1, -1, 0], [2, 2, 5, 0]]), "x")
    shared = [[1, 1, 0, 0], [1, 1, 1, 0], [0, 1, 1, 0], [0, 0, 0, 1]]
    assert match_weights(pairs, np.arange(4), 0.0).tolist() == shared
    assert match_weights(pairs, np.arange(4), 0.5)[0].tolist() == [1, 1, 0, 0.5]


def test_whitening_becomes_part_of_the_first_layer():
    from aai.align.projector import Projector

    rng = np.random.default_rng(0)
    vectors = (rng.normal(size=(500, 6)) @ rng.normal(size=(6, 6)) + 3).astype(np.float32)
    whitening = whitening_of(vectors, np.arange(500), full=True)
    whitened, projector = whitening(torch.from_numpy(vectors)), Projector(6, 4, 8)
    assert whitened.mean(0).abs().max() < 1e-3
    before = projector(whitened)
    assert torch.allclose(fold(projector, whitening)(torch.from_numpy(vectors)), before, atol=1e-4)


def test_parts_are_disjoint(tmp_path):
    pairs = write_pairs(tmp_path, 60)
    members = [set(pairs.members(part)) for part in (TRAIN, VALIDATION, HELD_OUT)]
    assert sum(map(len, members)) == len(set.union(*members)) == 60
    assert pairs.audio.shape[1] == AUDIO_DIM and pairs.image.shape[1] == IMAGE_DIM
