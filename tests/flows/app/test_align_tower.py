"""`aai align train` with the last blocks of the audio encoder: what is left behind is an encoder that a build uses."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from aai.models.clap import AudioEncoder
from aai.tiny.world import WEIGHTS
from tests.collection import build, run_on, write_collection
from tests.tasks.aligner.collection import QUICK, call, train_on_pairs, write_training

pytestmark = pytest.mark.usefixtures("models_stay")
TOWER = QUICK | {"tower_blocks": 2, "tower_learning_rate": 2e-4}


@pytest.fixture(scope="module")
def trained(tmp_path_factory, models_stay) -> Path:
    folder = tmp_path_factory.mktemp("align")
    done = train_on_pairs(folder, train=TOWER)
    assert f"models.audio: {folder / 'trained' / 'audio'}" in "".join(done.output.split("\n"))
    return folder


def test_the_result_is_an_encoder_of_which_only_the_last_blocks_have_changed(trained):
    before, after = (
        AudioEncoder(path).model.state_dict() for path in (WEIGHTS / "clap", trained / "trained" / "audio")
    )
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    blocks = tuple(f"audio_model.audio_encoder.layers.2.blocks.{number}." for number in (4, 5))
    own = ("audio_projection.", "audio_model.audio_encoder.norm.", *blocks)
    assert changed and all(name.startswith(own) for name in changed)
    assert {name for name in before if name.startswith(blocks)} - changed == {
        name for name in before if name.endswith("relative_position_index") and name.startswith(blocks)
    }
    for name, sentence in (("aligner", "audio: this/folder/../audio"), ("audio", "the last 2 blocks")):
        assert sentence in (trained / "trained" / name / "README.md").read_text()
    curve = json.loads((trained / "trained" / "training.json").read_text())["curve"]
    assert curve[-1]["train loss"] < curve[0]["train loss"]


@pytest.mark.slow
def test_a_second_training_does_nothing_and_reads_no_sound_for_another_learning_rate(trained):
    assert "nothing to do" in call("train", trained / "pairs.yaml").output
    written = (trained / "trained" / "vectors" / "inputs.npy").stat().st_mtime_ns
    changes = ("--set", "train.tower_learning_rate=0.0001")
    before = load_file(trained / "trained" / "audio" / "model.safetensors")
    done = call("train", trained / "pairs.yaml", *changes)
    assert done.exit_code == 0 and "nothing to do" not in done.output, done.output
    assert (trained / "trained" / "vectors" / "inputs.npy").stat().st_mtime_ns == written
    after = load_file(trained / "trained" / "audio" / "model.safetensors")
    assert any(not torch.equal(before[name], after[name]) for name in before)


def test_the_evaluation_hears_by_the_trained_encoder(trained):
    done = call("eval", trained / "pairs.yaml", "--clips", 0)
    assert done.exit_code == 0, done.output
    found = json.loads((trained / "trained" / "evaluation.json").read_text())
    figures = {(each["name"], each["direction"], each["queries"]): each for each in found["figures"]}
    assert figures["class precision@1", "sound to image", "raw"]["value"] >= 0.8


@pytest.mark.slow
def test_a_bank_uses_encoder_and_aligner_together(trained, tmp_path):
    folder, result = write_collection(tmp_path / "here"), trained / "trained"
    models = {"audio": {"name": str(result / "audio")}, "aligner": str(result / "aligner")}
    run = run_on(folder, models=models)
    assert build(run, until="retrieve")["align"].new == 4
    assert run.recipe("audio_vectors") != run_on(folder).recipe("audio_vectors")


@pytest.mark.slow
def test_another_audio_encoder_trains_again(trained, tmp_path):
    train_on_pairs(tmp_path, train=TOWER)
    assert "nothing to do" in call("train", tmp_path / "pairs.yaml").output
    (tmp_path / "aai.yaml").write_text(f"models: {{audio: {{name: {trained / 'trained' / 'audio'}}}}}")
    again = call("train", tmp_path / "pairs.yaml", "--set", f"config={tmp_path / 'aai.yaml'}")
    assert again.exit_code == 0 and "nothing to do" not in again.output, again.output


def test_captions_alone_are_refused(trained, tmp_path):
    (tmp_path / "captions.txt").write_text("\n".join(f"sound {number}" for number in range(60)))
    refused = call("train", "--text-only", tmp_path / "captions.txt", "-o", tmp_path, "--set", "train.tower_blocks=1")
    assert refused.exit_code == 2 and "train.tower_blocks" in refused.output


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of Ray Train itself
def test_two_ray_train_workers_train_the_encoder_as_one_does(trained, tmp_path):
    shutil.copytree(trained / "pairs", tmp_path / "pairs")
    losses = []
    for num in (1, 2):
        pool = {"num_workers": 0, "address": "local"}
        keys = {
            "train": TOWER | {"evaluations": 40, "batch": 16},
            "num_workers": num,
            "output": f"by {num}",
            "pool": pool,
        }
        path = write_training(tmp_path / "pairs.yaml", {"folder": "pairs"}, **keys)
        done = call("train", path)
        assert done.exit_code == 0, done.output
        AudioEncoder(tmp_path / f"by {num}" / "audio")
        curve = json.loads((tmp_path / f"by {num}" / "training.json").read_text())["curve"]
        losses.append([row["train loss"] for row in curve])
    assert len(losses[0]) == 40 and losses[1] == pytest.approx(losses[0], abs=1e-3)
