"""A real Prefect server that the tests of flows share, on loopback and with a home of its own."""

import logging
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.flows.site import QUIET

_IDLE_SERVICES = ("CANCELLATION_CLEANUP", "FOREMAN", "LATE_RUNS", "PAUSE_EXPIRATIONS", "REPOSSESSOR", "SCHEDULER")
"""What no test here waits for."""

_START_S = 300  # it creates its database; the machine may be busy
_FLUSH_S = 10


@pytest.fixture(scope="session", autouse=True)
def _models_stay(models_stay) -> None:
    """As the fixture of that name says, for all tests here."""


@pytest.fixture(scope="session", autouse=True)
def _closed_streams_are_no_errors() -> Iterator[None]:
    """Prefect's console keeps the standard error of its first use, which a test's command may have closed since."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(logging, "raiseExceptions", False)
        yield


@pytest.fixture(scope="session")
def prefect_home(tmp_path_factory) -> Iterator[Path]:
    """Prefect's folder, set before it is imported, so that no test writes to the user's."""
    home = tmp_path_factory.mktemp("prefect")
    with pytest.MonkeyPatch.context() as patch:
        idle = {f"PREFECT_SERVER_SERVICES_{name}_ENABLED": "false" for name in _IDLE_SERVICES}
        for name, value in (QUIET | idle | {"PREFECT_HOME": str(home)}).items():
            patch.setenv(name, value)
        patch.delenv("PREFECT_API_URL", raising=False)
        yield home


@pytest.fixture(scope="module")
def prefect_url(prefect_home) -> Iterator[str]:
    """The API of `prefect server start`, which ends with its module: it takes processor time while nothing asks."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port)]
    log, url = prefect_home / "server.log", f"http://127.0.0.1:{port}/api"
    with log.open("wb") as output:
        server = subprocess.Popen(command, stdout=output, stderr=output, env=os.environ)
    try:
        end_s = time.monotonic() + _START_S
        while not _answers(url):
            assert server.poll() is None and time.monotonic() < end_s, f"no server: {log.read_text()}"
            time.sleep(0.2)
        yield url
        _flush()
    finally:
        server.terminate()
        server.wait(60)


@pytest.fixture
def prefect_api(prefect_home, prefect_url, monkeypatch) -> Iterator[str]:
    """All flows of a test are followed by that server."""
    monkeypatch.setenv("PREFECT_API_URL", prefect_url)
    from prefect.settings import PREFECT_API_URL, PREFECT_HOME, temporary_settings

    with temporary_settings({PREFECT_API_URL: prefect_url, PREFECT_HOME: prefect_home}):
        yield prefect_url


@pytest.fixture(autouse=True)
def _without_prefect(request, monkeypatch) -> None:
    """Other tests run without Prefect, whatever the developer's environment says."""
    if "prefect_api" not in request.fixturenames:
        monkeypatch.delenv("PREFECT_API_URL", raising=False)
        for name in ("aai", "tasks"):  # a flow of another test has given them Prefect's handlers
            monkeypatch.setattr(logging.getLogger(name), "handlers", [])


def _flush() -> None:
    """Send the logs and events that Prefect still buffers, while the server answers."""
    from prefect.events.worker import EventsWorker
    from prefect.logging.handlers import APILogWorker

    for worker in (EventsWorker, APILogWorker):
        worker.drain_all(timeout=_FLUSH_S)


def _answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/health").is_success
    except httpx.TransportError:
        return False
