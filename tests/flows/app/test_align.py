"""`aai align` on the tiny world: training, evaluation, and a bank that uses the result."""

import json
import math
import re
import shutil
import tarfile
from pathlib import Path
from threading import Event

import pytest
from safetensors.torch import load_file, save_file

from aai.align.projector import Projector
from aai.errors import BadConfig
from aai.tiny.world import WEIGHTS
from tasks.aligner.config import bank_of, load_training
from tasks.aligner.whole import gather, train_aligner
from tasks.stages import open_run
from tasks.views.plan import plan
from tests.collection import build, run_on, write_collection
from tests.tasks.aligner.collection import KINDS, QUICK, call, train_on_pairs, write_training

pytestmark = pytest.mark.usefixtures("models_stay")


@pytest.fixture(scope="module")
def trained(tmp_path_factory, models_stay) -> Path:
    """A folder with pairs, the file of their training, and its result."""
    folder = tmp_path_factory.mktemp("align")
    train_on_pairs(folder)
    return folder


def test_a_training_leaves_weights_a_card_and_curves(trained):
    result = trained / "trained"
    assert Projector.load(result / "aligner").first.in_features == 128
    card = (result / "aligner" / "README.md").read_text()
    assert "method: trained" in card and "license" in card and "audio encoder" in card
    num = sum(json.loads((result / "training.json").read_text())["pairs"][part] for part in ("training", "validation"))
    assert f"- sounds: not known ({num})\n- images: not known ({num})\n" in card
    assert "| `image_weight` | 1 |" in card and "| `whiten` | yes |" in card
    facts = json.loads((result / "training.json").read_text())
    assert sum(facts["pairs"].values()) == 48 and facts["curve"][-1]["step"] == 40
    assert facts["passes over the training pairs"] == 40  # of `min_steps`, though `epochs` is 1
    page = (result / "training.html").read_text()
    assert "<polyline" in page and "http" not in page.replace("http-equiv", "")
    assert not (result / "checkpoint.safetensors").exists()


def test_a_second_training_does_nothing_and_another_option_trains_again(trained):
    before = (trained / "trained" / "aligner" / "model.safetensors").stat().st_mtime_ns
    again = call("train", trained / "pairs.yaml")
    assert again.exit_code == 0 and "nothing to do" in again.output
    assert (trained / "trained" / "aligner" / "model.safetensors").stat().st_mtime_ns == before
    other = call("train", trained / "pairs.yaml", "--set", "train.noise=0.3", "--set", f"output={trained / 'other'}")
    assert other.exit_code == 0 and "nothing to do" not in other.output


def test_the_evaluation_is_a_table_a_file_and_a_page(trained):
    done = call("eval", trained / "pairs.yaml", "--clips", 3)
    assert done.exit_code == 0, done.output
    found = json.loads((trained / "trained" / "evaluation.json").read_text())
    figures = {(each["name"], each["direction"], each["queries"]): each for each in found["figures"]}
    assert figures["class precision@1", "sound to image", "raw"]["value"] >= 0.8
    assert {name for name, *_ in figures} >= {"R@1", "R@5", "R@10", "class precision@10", "hubness"}
    assert found["abstention"][0]["coverage"] == 1 and "R@10" in done.output
    recall = figures["R@10", "sound to image", "raw"]
    assert recall["chance"] == pytest.approx(min(1, 10 / found["num_images"])) and 0 <= recall["other"] <= 1
    assert found["other"] == str(WEIGHTS / "aligner") and f"other: {found['other']}" in " ".join(done.output.split())
    assert any(note.startswith("sound to image: among ") and "R@10 0." in note for note in found["notes"])
    page = (trained / "trained" / "evaluation.html").read_text()
    assert page.count("<audio") == 3 and page.count('<img class="thumb') == 3 * 6


@pytest.mark.parametrize("change", ["pairs.held_out=0.8", "seed=5"])
def test_another_split_than_that_of_the_training_is_not_evaluated(trained, change):
    refused = call("eval", trained / "pairs.yaml", "--set", change)
    assert refused.exit_code == 2 and "not those of the training" in " ".join(refused.output.split())


def test_what_was_left_out_before_the_embedding_is_on_the_page_and_the_card(trained, tmp_path):
    shutil.copytree(trained / "trained", tmp_path / "trained")
    training = load_training(trained / "pairs.yaml", {"output": str(tmp_path / "trained"), "train": {"noise": 0.25}})
    run = open_run(bank_of(training))
    found = gather(run, training, ["1 of 2 videos cannot be used"])
    train_aligner(run, training, found, lambda *_: None, Event())
    for name in ("training.html", "training.json", "aligner/README.md"):
        assert "1 of 2 videos cannot be used" in (tmp_path / "trained" / name).read_text()


def test_another_encoder_trains_again(trained, tmp_path):
    shutil.copytree(WEIGHTS / "clip", tmp_path / "clip")
    weights = load_file(tmp_path / "clip" / "model.safetensors")
    weights["visual_projection.weight"] *= -1
    save_file(weights, tmp_path / "clip" / "model.safetensors", {"format": "pt"})
    lines = [f"{kind}: {trained / 'pairs'}" for kind in ("audio", "images")] + [f"workspace: {tmp_path / 'bank'}"]
    (tmp_path / "aai.yaml").write_text("\n".join([*lines, "models:", f"  image_text: {tmp_path / 'clip'}"]))
    shutil.copytree(trained / "trained", tmp_path / "trained")
    changes = (f"config={tmp_path / 'aai.yaml'}", f"output={tmp_path / 'trained'}")
    done = call("train", trained / "pairs.yaml", *[word for change in changes for word in ("--set", change)])
    assert done.exit_code == 0, done.output
    assert "nothing to do" not in done.output


def test_an_aligner_of_a_bank_with_a_joint_encoder_is_for_its_two_other_encoders(trained):
    config = trained / "joint.yaml"
    lines = [f"{kind}: {trained / 'pairs'}" for kind in ("audio", "images")] + [f"workspace: {trained / 'joint-bank'}"]
    config.write_text("\n".join([*lines, "models: {joint: /nowhere}", "align: {method: joint}"]))
    done = call("train", trained / "pairs.yaml", "--set", f"config={config}")
    assert done.exit_code == 0 and "nothing to do" in done.output, done.output


def test_captions_do_not_take_the_folder_of_a_training_from_pairs(trained):
    (trained / "captions.txt").write_text("rain\n")
    done = call("train", "--text-only", trained / "captions.txt", "-o", trained / "trained")
    assert done.exit_code == 2 and "it holds an aligner that was trained from pairs" in " ".join(done.output.split())


def test_another_aligner_is_evaluated_on_the_same_pairs(trained):
    done = call(
        "eval", trained / "pairs.yaml", "--aligner", WEIGHTS / "aligner", "-o", trained / "shipped", "--clips", 0
    )
    assert done.exit_code == 0, done.output
    found = json.loads((trained / "shipped" / "evaluation.json").read_text())
    assert found["other"] == str(trained / "trained" / "aligner")
    wrong = Projector(64, 128, 8)
    wrong.save(trained / "wrong")
    refused = call("eval", trained / "pairs.yaml", "--aligner", trained / "wrong")
    assert refused.exit_code == 2 and "takes vectors of 64 numbers" in " ".join(refused.output.split())


@pytest.mark.parametrize(("dim", "bias", "sentence"), [(64, 0.0, "vectors have 64 numbers"), (128, math.nan, "finite")])
def test_an_aligner_whose_vectors_cannot_be_compared_is_refused(trained, tmp_path, dim, bias, sentence):
    projector = Projector(128, dim, 8)
    projector.layers[-1].bias.data.fill_(bias)
    projector.save(tmp_path / "wrong")
    refused = call("eval", trained / "pairs.yaml", "--aligner", tmp_path / "wrong", "-o", tmp_path)
    assert refused.exit_code == 2 and sentence in " ".join(refused.output.split())


def test_an_aligner_of_other_encoders_is_refused_before_any_work(trained, tmp_path):
    shutil.copytree(WEIGHTS / "clap", tmp_path / "clap")
    weights = load_file(tmp_path / "clap" / "model.safetensors")
    weights["audio_projection.linear2.weight"] *= -1
    save_file(weights, tmp_path / "clap" / "model.safetensors", {"format": "pt"})
    folder = write_collection(tmp_path / "here")
    models = {"aligner": str(trained / "trained" / "aligner"), "audio": str(tmp_path / "clap")}
    with pytest.raises(BadConfig) as caught:
        plan(run_on(folder, models=models))
    assert caught.value.key == "models.aligner" and "models.audio is clap@" in caught.value.sentence
    with pytest.raises(BadConfig):
        build(run_on(folder, models=models), until="align")
    other = Path(shutil.copytree(models["aligner"], tmp_path / "other"))
    card = (other / "README.md").read_text()
    (other / "README.md").write_text(re.sub("clip@[0-9a-f]{32}", f"clip@{'0' * 32}", card))
    refused = call("eval", trained / "pairs.yaml", "--aligner", other, "-o", tmp_path)
    assert refused.exit_code == 2 and f"for the encoder clip@{'0' * 32}" in " ".join(refused.output.split())


def test_options_of_the_other_way_are_refused(trained, tmp_path):
    for command, option in (("train", "-o"), ("train", "-c")):
        refused = call(command, trained / "pairs.yaml", option, tmp_path / "x")
        assert refused.exit_code == 2 and "are for --text-only" in " ".join(refused.output.split())
    refused = call("eval", "-c", tmp_path / "aai.yaml", "--aligner", trained / "trained" / "aligner")
    assert refused.exit_code == 2 and "models.aligner" in refused.output


def test_a_bank_uses_a_trained_aligner_and_its_recipe_follows_from_the_weights(trained, tmp_path, monkeypatch):
    folder = write_collection(tmp_path / "here")
    aligner = trained / "trained" / "aligner"
    run = run_on(folder, models={"aligner": str(aligner)})
    assert build(run, until="retrieve")["align"].new == 4
    shutil.copytree(aligner, tmp_path / "renamed" / "aligner")
    same = run_on(folder, models={"aligner": str(tmp_path / "renamed" / "aligner")})
    assert same.recipe("aligned_vectors") == run.recipe("aligned_vectors")
    assert run_on(folder).recipe("aligned_vectors") != run.recipe("aligned_vectors")
    config = tmp_path / "aai.yaml"
    lines = [f"audio: {folder / 'sounds'}", f"images: {folder / 'images'}", f"metadata: {folder / 'said.csv'}"]
    lines += [f"workspace: {folder / 'bank'}", "pool: {num_workers: 0}", f"models: {{aligner: {aligner}}}"]
    config.write_text("\n".join(lines))
    monkeypatch.chdir(tmp_path)  # whose aai.yaml is found
    done = call("eval", "-o", tmp_path / "figures", "--clips", 1)
    assert done.exit_code == 0 and "with the configuration aai.yaml" in done.output, done.output
    found = json.loads((tmp_path / "figures" / "evaluation.json").read_text())
    assert (found["num_clips"], found["num_images"]) == (4, 12)


def test_pairs_in_a_tar(trained, tmp_path):
    with tarfile.open(tmp_path / "pairs.tar", "w") as tar:
        for path in sorted((trained / "pairs").iterdir())[: 3 * 24]:
            tar.add(path, path.name)
    done = call(
        "train", write_training(tmp_path / "p.yaml", {"folder": "pairs.tar", "held_out": 0.1, "validation": 0.0})
    )
    assert done.exit_code == 0, done.output
    facts = json.loads((tmp_path / "trained" / "training.json").read_text())
    assert sum(facts["pairs"].values()) == 24


def test_training_from_captions_alone(trained, tmp_path):
    levels = ("faint", "weak", "moderate", "strong", "extreme")
    names = [*KINDS, "snow", "thunder", "fireworks", "waterfall", "tornado", "helicopter"]
    (tmp_path / "captions.txt").write_text("\n".join(f"{level} {name}" for name in names for level in levels))
    options = [f"train.{name}={value}" for name, value in QUICK.items()]
    changes = [word for option in options for word in ("--set", option)]
    bank = f"workspace={trained / 'trained' / 'bank'}"
    done = call("train", "--text-only", tmp_path / "captions.txt", "-o", tmp_path / "out", *changes, "--set", bank)
    assert done.exit_code == 0, done.output
    text = " ".join(done.output.split())
    assert "held-out captions: projector" in text and "; kept the" in text
    Projector.load(tmp_path / "out" / "aligner")
    facts = json.loads((tmp_path / "out" / "training.json").read_text())
    assert facts["kept"] in ("projector", "ridge regression") and facts["captions"] == 50
    again = call("train", "--text-only", tmp_path / "captions.txt", "-o", tmp_path / "out", *changes, "--set", bank)
    assert again.exit_code == 0 and "nothing to do" in again.output and f"kept the {facts['kept']}" in again.output
    other = ("--set", "text_only.ridge=[5.0]")
    another = call("train", "--text-only", tmp_path / "captions.txt", "-o", tmp_path / "out", *changes, *other)
    assert another.exit_code == 0 and "nothing to do" not in another.output


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("pairs: {folder: nowhere}", "nowhere"),
        ("pairs: {}", "set one of folder, table and videos"),
        ("output: x", "pairs: it is missing"),
        ("output: s3://bucket/x\npairs: {folder: pairs}", "written to a folder on disk"),
        ("pairs: {folder: pairs, fodler: x}", "pairs.fodler: there is no such key: did you mean folder?"),
        ("pairs: {folder: pairs}\ntrain: {loss: triplet}", "train.loss"),
        ("pairs: {folder: pairs}\ntrain: {image_weight: 0}", "give one of them a weight"),
        ("pairs: {videos: pairs}", "pairs.videos: no video is there"),
        ("pairs: {folder: pairs, held_out: 0.85}\npool: {num_workers: 0}", "pairs are left for the training"),
        ("pairs: {folder: pairs}\npool: {num_workers: 0}\ntrain: {batch: 2}\nnum_workers: 4", "cannot be shared"),
    ],
)
def test_what_is_wrong_is_a_sentence(trained, tmp_path, text, sentence):
    (tmp_path / "pairs").symlink_to(trained / "pairs")
    (tmp_path / "p.yaml").write_text(f"{text}\n")
    done = call("train", tmp_path / "p.yaml")
    assert done.exit_code == 2 and sentence in " ".join(done.output.split()), done.output


def test_too_few_captions_and_missing_arguments_are_sentences(tmp_path):
    (tmp_path / "captions.txt").write_text("rain\nrain\nfire\n")
    few = call("train", "--text-only", tmp_path / "captions.txt", "-o", tmp_path / "out")
    assert few.exit_code == 2 and "it has 2 captions" in " ".join(few.output.split())
    assert call("train").exit_code == call("eval").exit_code == 2


def test_an_aligner_that_is_not_trained_cannot_be_evaluated(trained, tmp_path):
    done = call("eval", write_training(tmp_path / "p.yaml", {"folder": str(trained / "pairs")}))
    assert done.exit_code == 2 and "run `aai align train` first" in " ".join(done.output.split())
