"""Slurm: one job with a Ray cluster over its nodes, or an array of independent drivers."""

import sys
from functools import partial
from pathlib import Path

from flows.submit.places import check_places
from flows.submit.submission import FOLDER, Submission
from flows.submit.target import Target, check_secrets, fill

_MINUTES_PER_HOUR = 60
_RAY_PORT = 6379
_WATCH = "squeue --me --name={name}\n  scancel --name={name}\n  tail -f submissions/{name}-*.log"


def _render(template: str, submission: Submission) -> str:
    values = {
        "folder": Path.cwd(),
        "log": Path.cwd() / FOLDER / submission.name,
        "minutes": max(1, round(submission.options.hours * _MINUTES_PER_HOUR)),
        "python_folder": Path(sys.executable).parent,
        "words": submission.here,
        "port": _RAY_PORT,
    }
    return fill(template, submission, values)


def _check(submission: Submission) -> None:
    check_secrets(submission)
    if submission.options.nodes > 1:
        check_places(submission.config)


def _check_array(submission: Submission) -> None:
    check_secrets(submission)
    check_places(submission.config)


def _command(submission: Submission, path: Path, wait: bool) -> list[str]:
    return ["sbatch", *(["--wait"] if wait else []), str(path)]


SLURM = Target(
    name="slurm",
    program="sbatch",
    render=partial(_render, "slurm/job.sh.j2"),
    check=_check,
    command=_command,
    suffix=".sh",
    watch=_WATCH,
)
SLURM_ARRAY = Target(
    name="slurm-array",
    program="sbatch",
    render=partial(_render, "slurm/array.sh.j2"),
    check=_check_array,
    command=_command,
    suffix=".sh",
    watch=_WATCH,
)
