"""A submission holds the command for nodes that see the folder, and all files for those that do not."""

import stat
from dataclasses import replace

import pytest
import yaml

from aai.errors import BadConfig
from flows.submit.submission import make_training_submission
from flows.submit.targets import TARGETS
from tasks.aligner.config import bank_of, load_training
from tests.flows.submit.submissions import ON_BUCKETS, submission


@pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS)
def test_an_option_that_changes_the_file_is_one_that_the_target_uses(target, tmp_path):
    others = {"nodes": 9, "tasks": 9, "memory_gib": 99, "head_memory_gib": 99, "accelerator": "A9", "hours": 9.0}
    others |= {"grace_s": 99, "partition": "p9", "account": "a9", "address": "http://h:9", "image": "i:9"}
    others |= {"namespace": "n9", "schedule": "9 9 * * *", "infra": "i9", "spot": True, "setup": "echo 9"}
    before = submission(tmp_path)
    for name, value in others.items():
        made = replace(before, config=submission(tmp_path, submit={name: value}).config)
        is_used = target.render(made) != target.render(before)
        assert target.unused(made) == ([] if is_used else [name]) or (target.name, name) == ("ray", "nodes")


def test_nodes_that_see_the_folder_run_the_command_as_it_was_given(tmp_path):
    made = submission(tmp_path, ("build", "-c", "a file.yaml", "--set", "fit.steps=3"))
    assert made.here == "aai build -c 'a file.yaml' --set fit.steps=3"
    assert made.name.startswith("aai-build-")


def test_other_nodes_get_the_configuration_with_its_changes_and_absolute_paths(tmp_path):
    (tmp_path / "aai.yaml").write_text("audio: sounds\nworkspace: s3://bucket/bank\nfit:\n  steps: 3\n")
    made = submission(tmp_path, audio="sounds", fit={"steps": 3})
    content = yaml.safe_load(made.contents["aai.yaml"])
    assert content["audio"] == str(tmp_path / "sounds")
    assert content["workspace"] == "s3://bucket/bank"
    assert content["fit"] == {"steps": 3}
    assert content["submit"].items() >= {"nodes": 1, "cpus": 8, "gpus": 1}.items()  # what an autoscaler can start
    assert made.there("/etc/aai") == "aai build -c /etc/aai/aai.yaml"


def test_models_in_folders_go_along_with_absolute_paths(tmp_path, monkeypatch):
    (tmp_path / "clap").mkdir()
    named = {
        "audio": "./clap",
        "aligner": "./gone",
        "joint": "some/model@" + "a" * 40,
        "image_reward": "/models/reward",
    }
    named["judge"] = {"kind": "tiny", "folder": "clap"}
    made = submission(tmp_path, models=named)
    models = yaml.safe_load(made.contents["aai.yaml"])["models"]
    assert models == named | {
        "audio": str(tmp_path / "clap"),
        "aligner": str(tmp_path / "gone"),
        "judge": {"kind": "tiny", "folder": str(tmp_path / "clap")},
    }
    found = {place.key: place.location for place in made.places if place.key.startswith("models.")}
    assert found == {
        "models.audio": str(tmp_path / "clap"),
        "models.aligner": str(tmp_path / "gone"),
        "models.judge": str(tmp_path / "clap"),
        "models.image_reward": "/models/reward",
    }


def test_a_job_file_goes_along_and_finds_its_photos(tmp_path):
    job = {
        "prompt": "a *",
        "mode": "edit",
        "source_prompt": "a city",
        "source_images": ["photos/1.png", "s3://bucket/2.png"],
    }
    (tmp_path / "jobs.yaml").write_text(yaml.safe_dump({"defaults": {"source_masks": "masks"}, "jobs": [job]}))
    made = submission(tmp_path, ("render", "jobs.yaml"))
    content = yaml.safe_load(made.contents["jobs.yaml"])
    assert content["jobs"][0] == job | {"source_images": [str(tmp_path / "photos/1.png"), "s3://bucket/2.png"]}
    assert content["defaults"] == {"source_masks": str(tmp_path / "masks")}
    assert made.there("/etc/aai") == "aai render /etc/aai/jobs.yaml -c /etc/aai/aai.yaml"


def test_written_files_are_for_their_owner_alone(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    made = submission(tmp_path)
    path = made.write("text", ".sh")
    assert (path.read_text(), stat.S_IMODE(path.stat().st_mode)) == ("text", 0o600)
    made.write_contents(path.with_suffix(""))
    assert stat.S_IMODE(path.with_suffix("").stat().st_mode) == 0o700
    assert (path.with_suffix("") / "aai.yaml").read_text() == made.contents["aai.yaml"]


def test_a_training_is_the_same_in_another_folder(tmp_path):
    (tmp_path / "bank.yaml").write_text(yaml.safe_dump(ON_BUCKETS | {"submit": {"nodes": 3}}))
    (tmp_path / "pairs.yaml").write_text("config: bank.yaml\npairs: {folder: pairs}\ntrain: {batch: 64}\n")
    made = make_training_submission(("align", "train", "pairs.yaml"), tmp_path / "pairs.yaml", {"seed": 3})
    made.write_contents(tmp_path / "elsewhere")
    assert made.there("/etc/aai") == "aai align train /etc/aai/pairs.yaml" and made.name.startswith("aai-align-")
    here = load_training(tmp_path / "pairs.yaml", {"seed": 3})
    there = load_training(tmp_path / "elsewhere" / "pairs.yaml", {})
    assert there.model_copy(update={"config": here.config}) == here
    assert bank_of(there) == made.config == bank_of(here) and made.options.nodes == 3


def test_a_folder_that_cannot_be_written_is_a_sentence(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    made = submission(tmp_path)
    (tmp_path / "submissions").write_text("in the way")
    with pytest.raises(BadConfig, match="cannot be written") as error:
        made.write("text", ".sh")
    assert error.value.uri == str(tmp_path / "submissions" / f"{made.name}.sh")


@pytest.mark.parametrize("name", ["AWS_SECRET_ACCESS_KEY", "RAY_AUTH_TOKEN", "db_password", "AWS_ACCESS_KEY_ID"])
def test_secrets_are_refused_among_the_readable_variables(tmp_path, name):
    with pytest.raises(BadConfig, match="name it under submit.secrets") as error:
        submission(tmp_path, submit={"env": {name: "hunter2"}})
    assert error.value.key == "submit.env"
    assert "hunter2" not in str(error.value)


@pytest.mark.parametrize("value", ["gpu; rm -rf /", "$(id)", "a b", "", "-x"])
def test_values_that_could_end_a_line_of_a_script_are_refused(tmp_path, value):
    with pytest.raises(BadConfig) as error:
        submission(tmp_path, submit={"partition": value})
    assert error.value.key == "submit.partition"


@pytest.mark.parametrize(
    "keys, key",
    [
        ({"workspace": "s3://KEY:SECRET@bucket/bank"}, "workspace"),
        ({"submit": {"env": {"STORE": "https://me:hunter2@example.org"}}}, "submit.env.STORE"),
    ],
)
def test_an_address_with_a_password_is_refused(tmp_path, keys, key):
    with pytest.raises(BadConfig, match="leave it out") as error:
        submission(tmp_path, **keys)
    assert error.value.key == key


@pytest.mark.parametrize(
    ("keys", "key", "words"),
    [
        ({"namespace": "Sounds"}, "submit.namespace", "'Sounds' has to be a name of Kubernetes"),
        ({"namespace": "a" * 64}, "submit.namespace", "up to 63"),
        ({"partition": "-p"}, "submit.partition", "one word"),
        ({"env": {"a b": "c"}}, "submit.env.a b", "letters, digits and _"),
        ({"volumes": {"data": "data"}}, "submit.volumes.data", "an absolute path"),
        ({"volumes": {"data": "/"}}, "submit.volumes.data", "an absolute path"),
        ({"volumes": {"data": "/data", "more": "/data/"}}, "submit.volumes", "/data cannot be mounted"),
        ({"volumes": {"data": "/data/../etc"}}, "submit.volumes", "cannot be mounted"),
        ({"volumes": {"data": "/dev/shm/"}}, "submit.volumes", "cannot be mounted"),
        ({"secrets": ["HF_TOKEN", "HF_TOKEN"]}, "submit", "HF_TOKEN: given more than once"),
        ({"secrets": ["WORD"], "env": {"WORD": "a"}}, "submit", "WORD: given more than once"),
    ],
)
def test_what_a_target_would_refuse_is_said_in_words(tmp_path, keys, key, words):
    with pytest.raises(BadConfig, match=words) as error:
        submission(tmp_path, submit=keys)
    assert error.value.key == key
