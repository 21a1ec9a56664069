"""A running Ray cluster: the command is a Ray job, so its driver is inside the cluster."""

import json
import shlex
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import httpx

from aai.errors import BadConfig
from flows.submit.places import place_faults
from flows.submit.submission import FOLDER, Submission
from flows.submit.target import Target

_ADDRESS = "submit.address"
_LOOPBACK = ("127.0.0.1", "localhost", "::1")
_ANSWER_S = 10.0  # how long a cluster has to answer
_JOBS_FOLDER = "."
"""A Ray job starts in its copy of the working folder."""


def _render(submission: Submission) -> str:
    return shlex.join(_call(submission, Path(FOLDER, submission.name), wait=False)) + "\n"


def _faults(submission: Submission) -> Iterator[BadConfig]:
    if submission.options.secrets:
        yield BadConfig(
            "Ray stores the environment of a job readable: set these variables on the cluster's nodes instead",
            key="submit.secrets",
        )
    yield from place_faults(submission)


def _trial(submission: Submission) -> Iterator[BadConfig]:
    try:
        _check_cluster(submission.options.address)
    except BadConfig as error:
        yield error


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


def _check_cluster(address: str) -> None:
    """Check that a cluster answers and takes our token, and that one elsewhere takes no jobs without a token.

    Raises:
        BadConfig: it does not.
    """
    if _is_open(address):
        if urlsplit(address).hostname not in _LOOPBACK:
            raise BadConfig(
                f"{address} takes jobs without a token, so it runs anybody's code: start Ray on all its nodes, and "
                "submit, with RAY_AUTH_MODE=token and RAY_AUTH_TOKEN_PATH",
                key=_ADDRESS,
            )
        return
    from ray.exceptions import AuthenticationError  # importing Ray takes a second
    from ray.job_submission import JobSubmissionClient

    try:
        JobSubmissionClient(address)
    except AuthenticationError as error:
        reason = str(error).split(".", 1)[0].split("\n", 1)[0]
        raise BadConfig(
            f"{address} refuses the token of this shell ({reason}): set RAY_AUTH_MODE=token, and RAY_AUTH_TOKEN_PATH "
            "to a copy of the cluster's token file",
            key=_ADDRESS,
        ) from error
    except (OSError, RuntimeError) as error:
        raise BadConfig(
            f"{address} does not take jobs ({error}): look at the cluster's dashboard", key=_ADDRESS
        ) from error


def _is_open(address: str) -> bool:
    """Whether a cluster answers requests that have no token.

    Raises:
        BadConfig: it does not answer at all.
    """
    try:
        # Nothing secret is sent; Ray's own client looks at the certificate afterwards.
        return httpx.get(f"{address.rstrip('/')}/api/version", timeout=_ANSWER_S, verify=False).is_success  # noqa: S501
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise BadConfig(
            f"nothing answers at {address} ({type(error).__name__}): name the dashboard of a running head node, "
            "started with --dashboard-host",
            key=_ADDRESS,
        ) from error


RAY = Target(
    name="ray",
    program="ray",
    render=_render,
    faults=_faults,
    trial=_trial,
    command=_command,
    min_ray_nodes=1,
    needs_contents=True,
    suffix=".sh",
    uses=frozenset(["shared_disk", "address", "nodes"]),  # nodes, CPUs and GPUs are what its autoscaler can start
    listing="ray job list --address {address}",
    watch="ray job logs --follow --address {address} {name}\n  ray job stop --address {address} {name}",
)
