"""What `aai deploy` refuses; what it schedules on a real Prefect server is tested in `tests/flows/test_prefect.py`."""

import pytest
from prefect.utilities.templating import find_placeholders
from typer.testing import CliRunner

from aai.errors import BadConfig
from aai.yaml_reader import parse_yaml
from flows.app.cli import app
from flows.app.deploy import without_placeholders
from flows.app.pods import check_pods, job_variables, pool_template
from tests.flows.submit.submissions import ON_BUCKETS


@pytest.fixture
def config(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "aai.yaml"
    path.write_text(f"audio: {ON_BUCKETS['audio']}\nimages: {ON_BUCKETS['images']}\n")
    return path


def deploy(*words: str):
    return CliRunner().invoke(app, ["deploy", *words])


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--cron", "61 2 * * *"], "aai: --cron: '61 2 * * *' is no schedule"),
        (["--cron", "0 2 30 2 *"], "aai: --cron: '0 2 30 2 *' never comes"),
        (["--name", "a/b"], "aai: --name: 'a/b' is no name"),
        (["--pool", ""], "aai: --pool: '' is no name of a work pool"),
        (["--pool", "a/b"], "aai: --pool: 'a/b' is no name of a work pool: leave out / % & < >"),
        (["--jobs", "{{ x }}.yaml"], "aai: --jobs: Prefect would fill in what is in double braces"),
        (["--jobs", "wrong.yaml"], "promt"),
        (["--jobs", "missing.yaml"], "aai: missing.yaml: there is no such file"),
    ],
)
def test_options_are_checked_before_the_server_is_asked(config, monkeypatch, words, sentence):
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    config.with_name("wrong.yaml").write_text("- {promt: a photo of *}")
    result = deploy(*words)
    assert (result.exit_code, sentence in result.output) == (2, True), result.output


def test_prefect_finds_nothing_to_fill_in_in_changed_keys():
    changes = {"audio": "a {{ x }} {{{ $HOME }}", "fit": {"steps": {}}}
    text = without_placeholders(changes)
    assert parse_yaml(text) == changes and find_placeholders(text) == set()


def test_without_a_server_it_is_a_sentence(config, monkeypatch):
    result = deploy()
    assert result.exit_code == 2
    assert "PREFECT_API_URL: it is not set" in result.output


PODS = {"image": "registry.example/aai:cuda", "gpus": 2, "cpus": 16, "memory_gib": 64, "secrets": ["HF_TOKEN"]}


@pytest.mark.parametrize(
    ("keys", "key"),
    [
        ({}, "submit.image"),
        ({"image": "aai:cuda"}, "submit.volumes"),
        (PODS | {"volumes": {"a": "/a"}}, "submit.volumes"),
    ],
)
def test_pods_without_an_image_or_the_configuration_are_refused(config, keys, key):
    with pytest.raises(BadConfig) as error:
        check_pods(config, {"submit": keys, "workspace": ON_BUCKETS["workspace"]}, None)
    assert error.value.key == key


def test_pods_have_what_the_section_submit_says(config):
    changes = {"submit": PODS | {"volumes": {"data": str(config.parent)}}, "workspace": ON_BUCKETS["workspace"]}
    check_pods(config, changes, None)
    variables = job_variables(config, changes)
    assert variables.keys() <= pool_template()["variables"]["properties"].keys()
    assert variables["resources"]["limits"] == {"cpu": "16", "memory": "64Gi", "nvidia.com/gpu": "2"}
    assert {"name": "data", "mountPath": str(config.parent)} in variables["volume_mounts"]
    assert {"name": "data", "persistentVolumeClaim": {"claimName": "data"}} in variables["volumes"]
    assert [each["valueFrom"]["secretKeyRef"]["key"] for each in variables["secrets"]] == ["HF_TOKEN"]
