"""A SkyPilot task has a driver per node, and is restarted where it stopped."""

from pathlib import Path

import pytest
import yaml

from aai.errors import BadConfig
from flows.submit.skypilot import SKYPILOT
from tests.flows.submit.submissions import check, submission

IMAGE = {"image": "registry.example/aai:1"}


def test_the_task_says_what_was_asked_for(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    options = {
        "nodes": 4,
        "gpus": 8,
        "accelerator": "H100",
        "spot": True,
        "infra": "aws/us-east-1",
        "env": {"A": "1 2"},
    }
    made = submission(tmp_path, submit=IMAGE | options | {"secrets": ["HF_TOKEN"], "setup": "echo one\necho two"})
    task = yaml.safe_load(SKYPILOT.render(made))
    assert task["num_nodes"] == 4
    assert task["resources"]["accelerators"] == "H100:8"
    assert task["resources"]["infra"] == "aws/us-east-1"
    assert task["resources"]["use_spot"] is True
    assert task["resources"]["image_id"] == "docker:registry.example/aai:1"
    assert task["resources"]["job_recovery"]["recover_on_exit_codes"] == [143]
    assert (task["envs"], task["secrets"]) == ({"A": "1 2"}, {"HF_TOKEN": None})
    assert task["setup"] == "echo one\necho two"
    assert task["run"] == "aai build -c /tmp/aai/aai.yaml"
    assert task["file_mounts"] == {"/tmp/aai/aai.yaml": str(tmp_path / "submissions" / made.name / "aai.yaml")}


def test_the_files_are_where_the_task_looks_for_them(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    made = submission(tmp_path, submit=IMAGE)
    task, path = yaml.safe_load(SKYPILOT.render(made)), made.write("", ".yaml")
    call = SKYPILOT.command(made, path, False)
    assert call == ["sky", "jobs", "launch", "--yes", "--detach-run", str(path)]
    [local] = task["file_mounts"].values()
    assert yaml.safe_load(Path(local).read_text())["workspace"] == "s3://bucket/bank"


def test_an_image_or_a_set_up_is_needed(tmp_path):
    with pytest.raises(BadConfig) as error:
        check(SKYPILOT, submission(tmp_path))
    assert error.value.key == "submit.image"
    check(SKYPILOT, submission(tmp_path, submit={"setup": "pip install aai"}))
