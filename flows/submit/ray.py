"""A running Ray cluster: the command is a Ray job, so its driver is inside the cluster."""

import json
import os
import shlex
from pathlib import Path
from urllib.parse import urlsplit

from aai.errors import BadConfig
from flows.submit.places import check_places
from flows.submit.submission import FOLDER, Submission
from flows.submit.target import Target

_LOOPBACK = ("127.0.0.1", "localhost", "::1")
_JOBS_FOLDER = "."
"""A Ray job starts in its copy of the working folder."""


def _render(submission: Submission) -> str:
    return shlex.join(_call(submission, Path(FOLDER, submission.name), wait=False)) + "\n"


def _check(submission: Submission) -> None:
    options = submission.options
    if options.secrets:
        raise BadConfig(
            "Ray stores the environment of a job readable: set these variables on the cluster's nodes instead",
            key="submit.secrets",
        )
    if urlsplit(options.address).hostname not in _LOOPBACK and not _has_token():
        raise BadConfig(
            f"there is no token for {options.address}, and a cluster that takes jobs without one runs anybody's code: "
            "set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN_PATH here and on all nodes",
            key="submit.address",
        )
    check_places(submission.config)


def _command(submission: Submission, path: Path, wait: bool) -> list[str]:
    folder = path.with_suffix("")
    submission.write_contents(folder)
    return _call(submission, folder, wait)


def _call(submission: Submission, folder: Path, wait: bool) -> list[str]:
    options = submission.options
    environment = json.dumps({"env_vars": {**options.env, "RAY_ADDRESS": "auto"}})
    waiting = [] if wait else ["--no-wait"]
    return [
        *("ray", "job", "submit", "--address", options.address, "--submission-id", submission.name),
        *("--working-dir", str(folder), "--runtime-env-json", environment, *waiting),
        *("--", *shlex.split(submission.there(_JOBS_FOLDER))),
    ]


def _has_token() -> bool:
    path = Path(os.environ.get("RAY_AUTH_TOKEN_PATH") or Path.home() / ".ray" / "auth_token")
    return bool(os.environ.get("RAY_AUTH_TOKEN")) or path.is_file()


RAY = Target(
    name="ray",
    program="ray",
    render=_render,
    check=_check,
    command=_command,
    suffix=".sh",
    watch="ray job logs --follow --address {address} {name}\n  ray job stop --address {address} {name}",
)
