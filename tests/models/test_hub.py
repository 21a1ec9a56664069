"""A hub that does not answer is given up at once, not after many tries of each file."""

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
