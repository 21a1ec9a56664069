"""A Prefect server that the tests of flows share: a real one, on loopback, with a home of its own."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from flows.app.server import _flush, be_quiet

_START_S = 300  # it makes its database; the machine may be busy


@pytest.fixture(scope="session")
def prefect_home(tmp_path_factory) -> Iterator[Path]:
    """Where Prefect keeps what it knows; set before it is imported, so that no test writes to the user's."""
    home = tmp_path_factory.mktemp("prefect")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PREFECT_HOME", str(home))
        patch.delenv("PREFECT_API_URL", raising=False)
        be_quiet()
        yield home


@pytest.fixture(scope="session")
def prefect_url(prefect_home) -> Iterator[str]:
    """The API of `prefect server start`."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port)]
    said = (prefect_home / "server.log").open("wb")
    server = subprocess.Popen(command, stdout=said, stderr=said, env=os.environ | {"PREFECT_UI_ENABLED": "false"})
    url = f"http://127.0.0.1:{port}/api"
    try:
        end_s = time.monotonic() + _START_S
        while not _answers(url):
            text = (prefect_home / "server.log").read_text()
            assert server.poll() is None and time.monotonic() < end_s, f"no server: {text}"
            time.sleep(0.2)
        yield url
        _flush()  # what the last flows said, which Prefect gathers for 2 s, finds nobody later
    finally:
        server.terminate()
        server.wait(60)
        said.close()


@pytest.fixture
def prefect_api(prefect_home, prefect_url) -> Iterator[str]:
    """That server is the one for all flows of a test."""
    from prefect.settings import PREFECT_API_URL, PREFECT_HOME, temporary_settings

    with temporary_settings({PREFECT_API_URL: prefect_url, PREFECT_HOME: prefect_home}):
        yield prefect_url


def _answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/health").is_success
    except httpx.TransportError:
        return False
