"""What `aai deploy` refuses; what it schedules on a real Prefect server is tested in `tests/flows/test_prefect.py`."""

import pytest
from typer.testing import CliRunner

from flows.app.cli import app
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
        (["--name", "a/b"], "aai: --name: 'a/b' is no name"),
        (["--jobs", "wrong.yaml"], "promt"),
        (["--jobs", "missing.yaml"], "aai: missing.yaml: there is no such file"),
    ],
)
def test_options_are_checked_before_the_server_is_asked(config, monkeypatch, words, sentence):
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    config.with_name("wrong.yaml").write_text("- {promt: a photo of *}")
    result = deploy(*words)
    assert (result.exit_code, sentence in result.output) == (2, True), result.output


def test_without_a_server_it_is_a_sentence(config, monkeypatch):
    result = deploy()
    assert result.exit_code == 2
    assert "PREFECT_API_URL: it is not set" in result.output
