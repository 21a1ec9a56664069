"""A Ray job carries its files, and goes to no open cluster."""

import json
import os
import shlex
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from aai.errors import BadConfig
from flows.submit.ray import RAY
from tests.flows.submit.submissions import check as check_all
from tests.flows.submit.submissions import submission

ROOT = Path(__file__).parents[3]
CHECK = """
import sys
from pathlib import Path
from flows.submit.ray import RAY
from flows.submit.submission import make_submission
print(*RAY.all_faults(make_submission((sys.argv[2],), Path(sys.argv[1]), {})))
"""


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


class Dashboard(BaseHTTPRequestHandler):
    """A cluster that takes the token `right`, or all requests."""

    needs_token = True

    def do_GET(self):
        status = 200
        if self.needs_token:
            status = {None: 401, "Bearer right": 200}.get(self.headers["Authorization"], 403)
        self.send_response(status)
        self.end_headers()
        self.wfile.write(b'{"ray_version": "2.60.0"}')

    def log_message(self, *args):
        pass


class OpenDashboard(Dashboard):
    needs_token = False


@contextmanager
def cluster(kind: type[Dashboard]) -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), kind) as server:
        Thread(target=server.serve_forever).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def check(folder, address: str) -> None:
    check_all(RAY, submission(folder, submit={"address": address}))


def test_an_open_cluster_elsewhere_is_refused(tmp_path, monkeypatch):
    with cluster(OpenDashboard) as address:
        check(tmp_path, address)
        monkeypatch.setattr("flows.submit.ray._LOOPBACK", ())
        with pytest.raises(BadConfig, match="takes jobs without a token") as error:
            check(tmp_path, address)
    assert error.value.key == "submit.address"


@pytest.mark.parametrize("given", [{}, {"RAY_AUTH_MODE": "token"}, {"RAY_AUTH_TOKEN": "right"}])
def test_without_a_token_a_protected_cluster_is_named_with_the_remedy(given, tmp_path):
    with cluster(Dashboard) as address:
        assert_refused(address, tmp_path, given)


def test_a_wrong_token_is_refused_and_the_right_one_accepted(tmp_path):
    right = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "right"}
    with cluster(Dashboard) as address:
        assert_refused(address, tmp_path, right | {"RAY_AUTH_TOKEN": "wrong"})
        assert checked(address, tmp_path, right) == ""


def assert_refused(address: str, folder, environment: dict[str, str]) -> None:
    sentence = checked(address, folder, environment)
    assert sentence.startswith(f"submit.address: {address} refuses the token of this shell (")
    assert sentence.endswith("set RAY_AUTH_MODE=token, and RAY_AUTH_TOKEN_PATH to a copy of the cluster's token file")


def checked(address: str, folder, environment: dict[str, str]) -> str:
    """What the check says in a process of its own, because Ray reads its environment once."""
    made = submission(folder, submit={"address": address})
    own = {"PATH": os.environ["PATH"], "HOME": str(folder), "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", CHECK, str(folder / "aai.yaml"), made.command]
    return subprocess.run(command, env=own | environment, check=True, capture_output=True, text=True).stdout.strip()


def test_where_nothing_answers_is_a_sentence(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with pytest.raises(BadConfig, match="nothing answers at") as error:
        check(tmp_path, f"http://127.0.0.1:{port}")
    assert error.value.key == "submit.address"


def test_secrets_are_not_stored_with_the_job(tmp_path):
    with pytest.raises(BadConfig, match="on the cluster's nodes") as error:
        check_all(RAY, submission(tmp_path, submit={"secrets": ["AWS_SECRET_ACCESS_KEY"]}))
    assert error.value.key == "submit.secrets"
