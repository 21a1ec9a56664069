"""Passwords of Prefect's server: a wrong one is refused, and none is shown."""

from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import httpx
import pytest

from aai.errors import BadConfig


class Locked(BaseHTTPRequestHandler):
    """Answers as a Prefect server with a password does: only its health is open."""

    def do_GET(self) -> None:
        self.send_response(200 if self.path == "/api/health" else 401)
        self.end_headers()

    def log_message(self, *words: object) -> None:
        pass


def test_a_server_with_another_password_is_refused(prefect_home):
    from prefect.settings import PREFECT_API_AUTH_STRING, PREFECT_API_URL, temporary_settings

    from flows.prefect import check_server

    with ThreadingHTTPServer(("127.0.0.1", 0), Locked) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/api"
        with (
            temporary_settings({PREFECT_API_URL: url, PREFECT_API_AUTH_STRING: "aai:hunter2"}),
            pytest.raises(BadConfig) as error,
        ):
            check_server()
        server.shutdown()
    assert error.value.key == "PREFECT_API_AUTH_STRING" and "hunter2" not in str(error.value)


@pytest.mark.parametrize(
    "url",
    ["http://me:hunter2@[::1/api", "http://me:hunter2/@127.0.0.1:9/api", "http://127.0.0.1:9/api?token=hunter2"],
)
def test_no_form_of_an_address_shows_its_secrets(monkeypatch, url):
    from flows import prefect

    monkeypatch.setattr(prefect.PREFECT_API_URL, "value", lambda: url)
    with pytest.raises(BadConfig) as error:
        prefect.check_server()
    assert error.value.key == "PREFECT_API_URL" and "hunter2" not in str(error.value)


def test_a_failure_of_the_server_is_told_without_the_password():
    from flows.prefect import _described

    request = httpx.Request("GET", "http://me:hunter2@prefect:4200/api/flows/?key=hunter2")
    error = httpx.HTTPStatusError(
        f"Client error '401 Unauthorized' for url '{request.url}'", request=request, response=httpx.Response(401)
    )
    assert (
        _described(error)
        == "HTTPStatusError: Client error '401 Unauthorized' for url 'http://prefect:4200/api/flows/?…'"
    )
