"""An S3 server on loopback that fails one request of one's choice in one of several ways."""

import logging
import os
import socket
import struct
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from threading import Lock, Thread
from typing import Any

import boto3
import fsspec
import pytest
import s3fs
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import WSGIRequestHandler, make_server

CLIENT_TIMEOUT_S = float(os.environ.get("AAI_CHAOS_TIMEOUT_S", "1"))
"""How long the clients of the tests wait for an answer; by default they wait 30 s (Delta) and 60 s (s3fs). On a machine
so busy that the server itself is slower, set it higher."""

ERRORS = {"500": ("500 Internal Server Error", "InternalError"), "503": ("503 Slow Down", "SlowDown")}
WRITES = frozenset(["PUT", "POST", "DELETE"])
RESET = struct.pack("ii", 1, 0)

Environ = dict[str, Any]
Place = tuple[bool, int]
"""Whether a request writes, and its number among those that do or do not, from 1."""
App = Callable[[Environ, Callable[..., Any]], Iterable[bytes]]


class FaultyServer:
    """Forwards requests to moto, and fails some of them, each once.

    500, 503: an answer with this status; the request has no effect.
    reset: the connection is reset; the request has no effect.
    silence: no answer until the client has given up; the request has no effect.
    lost: the request takes effect, and the connection is reset before the answer.
    lost 500: the request takes effect, and the answer is an error.
    """

    FAULTS = ("500", "503", "reset", "silence", "lost", "lost 500")
    FAULTS_OF_READS = ("500", "503", "reset", "silence")

    def __init__(self) -> None:
        self._app: App = DomainDispatcherApplication(create_backend_app)
        self._lock = Lock()
        self.is_conditional = True
        """Whether it heeds `If-None-Match`."""
        self.arm({})

    def arm(self, faults: Mapping[Place, str], keep: bool = False) -> None:
        """Fail these requests of those that come from now on; with `keep`, remember which have failed."""
        with self._lock:
            self._faults = dict(faults)
            self._awaited: list[str] = []
            self.num = {False: 0, True: 0}
            """Requests since then: those that do not write, and those that do."""
            self.failed: dict[Place, str] = self.failed if keep else {}
            """The requests that have failed."""

    def __call__(self, environ: Environ, start: Callable[..., Any]) -> Iterable[bytes]:
        if not self.is_conditional:
            environ.pop("HTTP_IF_NONE_MATCH", None)
        fault = self._next(environ)
        if fault in ERRORS:
            environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
            return _error(start, *ERRORS[fault])
        if fault == "lost 500":
            list(self._app(environ, lambda *_: None))
            return _error(start, *ERRORS["500"])
        if fault == "lost":
            list(self._app(environ, lambda *_: None))
        if fault == "silence":
            time.sleep(CLIENT_TIMEOUT_S * 1.5)
        if fault:
            _reset(environ["werkzeug.socket"])
            raise ConnectionResetError
        return self._app(environ, start)

    def _next(self, environ: Environ) -> str:
        """The fault of this request, if it has one; the client's next attempt at a failed one does not count."""
        request = f"{environ['REQUEST_METHOD']} {environ['PATH_INFO']}?{environ['QUERY_STRING']}"
        with self._lock:
            if request in self._awaited:
                self._awaited.remove(request)
                return ""
            is_write = environ["REQUEST_METHOD"] in WRITES
            self.num[is_write] += 1
            place = is_write, self.num[is_write]
            if place in self._faults:
                self.failed[place] = request
                self._awaited.append(request)
            return self._faults.get(place, "")


def _reset(connection: socket.socket) -> None:
    """Reset a connection at once: `close` would wait for the files that the server's handler has made of it."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    os.close(connection.detach())


def _error(start: Callable[..., Any], status: str, code: str) -> Iterable[bytes]:
    body = f"<Error><Code>{code}</Code><Message>a test</Message></Error>".encode()
    start(status, [("Content-Type", "application/xml"), ("Content-Length", str(len(body)))])
    return [body]


class _Handler(WSGIRequestHandler):
    """Keeps connections open, as S3 does, and prints nothing."""

    protocol_version = "HTTP/1.1"

    def log(self, *_: Any) -> None:
        pass

    def handle(self) -> None:
        with suppress(OSError):  # the connection was reset
            super().handle()

    def finish(self) -> None:
        with suppress(OSError):
            super().finish()


@contextmanager
def faulty_s3(bucket: str) -> Iterator[FaultyServer]:
    """The server with an empty bucket; the environment leads all clients to it."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    app = FaultyServer()
    server = make_server("127.0.0.1", 0, app, threaded=True, request_handler=_Handler)
    Thread(target=server.serve_forever, daemon=True).start()
    settings = {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{server.server_port}", "AWS_ALLOW_HTTP": "true"}
    settings |= {"AWS_DEFAULT_REGION": "us-east-1", "AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"}
    settings |= {"AWS_TIMEOUT": f"{CLIENT_TIMEOUT_S}s"}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in settings.items():
            patch.setenv(name, value)
        patch.setitem(fsspec.config.conf, "s3", {"config_kwargs": {"read_timeout": CLIENT_TIMEOUT_S}})
        boto3.client("s3").create_bucket(Bucket=bucket)
        yield app
    s3fs.S3FileSystem.clear_instance_cache()
    server.shutdown()
