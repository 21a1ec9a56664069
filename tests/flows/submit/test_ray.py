"""A Ray job carries its files, and goes to no open cluster."""

import json
import shlex

import pytest

from aai.errors import BadConfig
from flows.submit.ray import RAY
from tests.flows.submit.submissions import submission


@pytest.fixture(autouse=True)
def no_token(tmp_path, monkeypatch):
    for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))


def test_the_call_names_cluster_folder_and_command(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    made = submission(tmp_path, submit={"address": "http://head:8265", "env": {"HF_HOME": "/models"}})
    call = RAY.command(made, tmp_path / f"{made.name}.sh", False)
    assert call[call.index("--address") + 1] == "http://head:8265"
    assert call[call.index("--submission-id") + 1] == made.name
    assert call[call.index("--working-dir") + 1] == str(tmp_path / made.name)
    environment = json.loads(call[call.index("--runtime-env-json") + 1])
    assert environment["env_vars"] == {"HF_HOME": "/models", "RAY_ADDRESS": "auto"}
    assert call[call.index("--") + 1 :] == ["aai", "build", "-c", "./aai.yaml"]
    assert "--no-wait" in call
    assert (tmp_path / made.name / "aai.yaml").read_text() == made.contents["aai.yaml"]
    assert shlex.split(RAY.render(made))[:3] == ["ray", "job", "submit"]


def test_waiting_follows_the_job(tmp_path):
    assert "--no-wait" not in RAY.command(submission(tmp_path), tmp_path / "x.sh", True)


def test_an_open_cluster_elsewhere_is_refused(tmp_path, monkeypatch):
    made = submission(tmp_path, submit={"address": "http://head.example:8265"})
    with pytest.raises(BadConfig, match="no token") as error:
        RAY.check(made)
    assert error.value.key == "submit.address"
    monkeypatch.setenv("RAY_AUTH_TOKEN", "some")
    RAY.check(made)


def test_on_this_machine_no_token_is_needed(tmp_path):
    RAY.check(submission(tmp_path))


def test_secrets_are_not_stored_with_the_job(tmp_path):
    with pytest.raises(BadConfig, match="on the cluster's nodes") as error:
        RAY.check(submission(tmp_path, submit={"secrets": ["AWS_SECRET_ACCESS_KEY"]}))
    assert error.value.key == "submit.secrets"
