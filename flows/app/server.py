"""Prefect's server for one command: on loopback, silent, and gone with whoever started it.

Prefect starts one by itself where none is named, but waits for it, imports it into the process that it serves, and
leaves it to a Ctrl-C that is meant for the command. This one starts aside and outlives a Ctrl-C; it sees by its
standard input that its parent is gone. Its database is Prefect's usual one: `prefect server start` shows the run later.
"""

import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Thread
from typing import IO

from aai.errors import BadConfig, Transient

_HOST = "127.0.0.1"
_START_S = 120.0
"""How long the server may take: it makes its database the first time."""
_STOP_S = 10.0
"""How long it may take to write what it knows."""
_QUIET = {
    "DO_NOT_TRACK": "1",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_SERVER_LOGGING_LEVEL": "CRITICAL",
    "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "CRITICAL",  # the command itself says what there is to say
}


def be_quiet() -> None:
    """Let Prefect write nothing to the terminal and report nothing; before it is imported. Own settings go first."""
    for name, value in _QUIET.items():
        os.environ.setdefault(name, value)


@contextmanager
def prefect_server() -> Iterator[None]:
    """A server for the flows within: the one that Prefect's settings name, else one of our own.

    Raises:
        BadConfig: the server that is named does not answer.
        Transient: our own does not start.
    """
    from prefect.settings import PREFECT_API_URL, temporary_settings

    if named := PREFECT_API_URL.value():
        _check(named)
        yield
        return
    with _Server() as server, temporary_settings({PREFECT_API_URL: server.url}):
        import flows.prefect  # noqa: F401  (seconds, which the server needs as well)

        server.wait()
        try:
            yield
        finally:
            _flush()


def _check(url: str) -> None:
    import httpx

    try:
        httpx.get(f"{url}/health", timeout=10).raise_for_status()
    except httpx.HTTPError as error:
        raise BadConfig(
            f"PREFECT_API_URL: nothing answers at {url} ({type(error).__name__}): start `prefect server start` there, "
            "or unset it, also in the Prefect profile"
        ) from error


def _flush() -> None:
    """Send what Prefect has gathered of logs and of the tasks' states: there will be nobody to send it to."""
    from prefect.events.worker import EventsWorker
    from prefect.logging.handlers import APILogWorker

    for worker in (EventsWorker, APILogWorker):
        worker.drain_all(timeout=_STOP_S)


class _Server:
    """A process of our own that serves Prefect's API."""

    def __init__(self) -> None:
        with socket.create_server((_HOST, 0)) as listening:
            self.url = f"http://{_HOST}:{listening.getsockname()[1]}/api"
            self._said: IO[bytes] = tempfile.TemporaryFile()
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", __name__, str(listening.fileno())],
                stdin=subprocess.PIPE,
                stdout=self._said,
                stderr=self._said,
                pass_fds=[listening.fileno()],
                start_new_session=True,  # a Ctrl-C reaches the whole terminal
                env=os.environ | {"PREFECT_UI_ENABLED": "false"},
            )

    def __enter__(self) -> "_Server":
        return self

    def wait(self) -> None:
        """Wait until it serves: it listens already, so that one request does.

        Raises:
            Transient: it does not.
        """
        import httpx

        try:
            httpx.get(f"{self.url}/health", timeout=_START_S).raise_for_status()
        except httpx.HTTPError as error:
            self._process.kill()
            self._said.seek(0)
            said = self._said.read().decode(errors="replace").strip()
            raise Transient(
                f"Prefect's own server does not start ({type(error).__name__}): try again, or name one in "
                f"PREFECT_API_URL. It said: {said[-2000:] or 'nothing'}"
            ) from error

    def __exit__(self, *reason: object) -> None:
        """Have it end; nobody needs to wait until it has written what it knows."""
        assert self._process.stdin, "asked for as it was started"
        self._process.stdin.close()
        self._said.close()
        Thread(target=self._process.wait, daemon=True).start()


def _serve(descriptor: int) -> None:
    """Serve on a socket that listens already, until standard input ends."""
    import uvicorn
    from prefect.server.api.server import create_app

    app = create_app(ephemeral=True, final=True)
    server = uvicorn.Server(uvicorn.Config(app, log_level="critical", access_log=False))

    def end_with_parent() -> None:
        sys.stdin.read()
        server.should_exit = True
        time.sleep(_STOP_S)
        os._exit(0)

    Thread(target=end_with_parent, daemon=True).start()
    server.run(sockets=[socket.socket(fileno=descriptor)])


if __name__ == "__main__":
    _serve(int(sys.argv[1]))
