"""A hub that does not answer is given up at once, not after many tries of each file."""

import shutil
import socket
import ssl
import time
from pathlib import Path
from urllib.error import HTTPError, URLError

import pytest
from huggingface_hub import constants

from aai.errors import BadConfig
from aai.models import hub
from aai.models.clip import ImageTextEncoder
from aai.models.encoders import embedding_dims
from aai.models.folders import check_hub_model
from aai.tiny.world import WEIGHTS
from tests.bank import run_on

COMMIT = "0" * 40


@pytest.fixture
def silent_hub(monkeypatch) -> None:
    """An address that refuses connections."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{free.getsockname()[1]}")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    hub._answers.cache_clear()


def test_a_hub_that_refuses_connections_is_a_sentence_without_retries(silent_hub, monkeypatch):
    monkeypatch.setattr(time, "sleep", lambda pause_s: pytest.fail("it tries again"))
    for load in (lambda: embedding_dims("no/model", COMMIT), lambda: ImageTextEncoder("no/model", COMMIT)):
        with pytest.raises(BadConfig) as error:
            load()
        assert error.value.uri == "no/model"
    assert constants.HF_HUB_OFFLINE


@pytest.mark.parametrize(
    ("error", "is_offline"),
    [
        (HTTPError("", 503, "busy", None, None), False), (TimeoutError("slow"), False),
        (URLError(ssl.SSLError("own certificate")), False), (URLError(socket.gaierror("no such host")), True),
    ],
)  # fmt: skip
def test_only_a_hub_that_cannot_be_reached_is_left_alone(silent_hub, monkeypatch, error, is_offline):
    def fail(*args, **options):
        raise error

    monkeypatch.setattr(hub, "urlopen", fail)
    hub.use_hub("some/model")
    assert constants.HF_HUB_OFFLINE is is_offline


def test_a_folder_needs_no_hub(silent_hub, tmp_path: Path):
    hub.use_hub(tmp_path)
    assert not constants.HF_HUB_OFFLINE


@pytest.fixture
def cached(tmp_path, monkeypatch) -> Path:
    """The tiny image-text encoder as the hub's cache has it."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    return Path(shutil.copytree(WEIGHTS / "clip", hub.cached_folder("someone/clip", COMMIT)))


def test_a_model_in_the_cache_is_checked_without_the_hub(silent_hub, cached):
    assert check_hub_model("image_text", "someone/clip", COMMIT) == cached
    assert check_hub_model("image_text", "someone/clip", COMMIT) == cached and not hub._answers.cache_info().currsize
    weights = cached / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(BadConfig, match="cut short.*delete it there") as error:
        check_hub_model("image_text", "someone/clip", COMMIT)
    assert (error.value.key, error.value.uri) == ("models.image_text", str(weights))


@pytest.mark.parametrize("missing", ["config.json", "model.safetensors", ""])
def test_what_is_missing_in_the_cache_is_known_before_any_work(silent_hub, cached, missing, monkeypatch):
    shutil.rmtree(cached) if not missing else (cached / missing).unlink()
    with pytest.raises(BadConfig, match="and the hub does not answer: go online") as error:
        check_hub_model("image_text", "someone/clip", COMMIT)
    assert (error.value.key, error.value.uri) == ("models.image_text", "someone/clip")
    monkeypatch.setattr(hub, "_answers", lambda endpoint: True)
    assert check_hub_model("image_text", "someone/clip", COMMIT) is None, "it is downloaded"


def test_a_run_checks_its_models_on_the_hub(silent_hub, cached, tmp_path):
    names = {"image_text": {"name": "someone/clip", "revision": COMMIT}}
    run_on(tmp_path / "bank", models=names).check_models()
    (cached / "config.json").unlink()
    with pytest.raises(BadConfig) as error:
        run_on(tmp_path / "bank", models=names).check_models()
    assert error.value.key == "models.image_text"
