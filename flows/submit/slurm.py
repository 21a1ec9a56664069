"""Slurm: one job with a Ray cluster over its nodes, or an array of independent drivers."""

import math
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from aai.errors import BadConfig
from flows.submit.places import check_places
from flows.submit.submission import FOLDER, TRAINING, Submission
from flows.submit.target import Target, check_secrets, check_setup, fill

_S_PER_MINUTE, _MINUTES_PER_HOUR = 60, 60
_EARLY_S = 60
"""Slurm may send a signal up to this much earlier than asked for."""

_RAY_END_S = 60
"""How long Ray takes to end on several nodes."""

_ERROR = re.compile(r"^sbatch: (?:error|fatal): (.*)$", re.MULTILINE)
_BUSY, _AWAY = "allocation failure", "Unable to contact slurm controller"
"""In messages of sbatch: no node can take the job now, and nobody is there to answer."""

_RAY_PORT = 6379

_DRIVER = 'echo $$ > "$0"; [ -e "$0.stop" ] && exit 143'
"""Bash before a command is executed: names its process, and ends if the job has been asked to stop already."""

_WATCH = "squeue --me --name={name}\n  scancel --name={name}\n  tail -f submissions/{name}-*.log"


def _render(template: str, submission: Submission) -> str:
    log = Path.cwd() / FOLDER / submission.name
    values = {
        "folder": Path.cwd(),
        "log": log,
        "log_pattern": str(log).replace("%", "%%"),
        "minutes": _minutes(submission),
        "python_folder": Path(sys.executable).parent,
        "words": submission.here,
        "port": _RAY_PORT,
        "driver": _DRIVER,
    }
    return fill(template, submission, values)


def _minutes(submission: Submission) -> int:
    return math.ceil(submission.options.hours * _MINUTES_PER_HOUR)


def _check(submission: Submission) -> None:
    check_secrets(submission)
    _check_script(submission)
    if submission.options.nodes > 1:
        check_places(submission)
        _check_grace(submission)
    _check_time(submission)
    _check_accepted(submission, SLURM)


def _check_array(submission: Submission) -> None:
    if submission.command == TRAINING:
        raise BadConfig("a training is no work that independent jobs share: use --to slurm", key="--to slurm-array")
    check_secrets(submission)
    _check_script(submission)
    check_places(submission)
    _check_time(submission)
    _check_accepted(submission, SLURM_ARRAY)


def _check_script(submission: Submission) -> None:
    """Check what Bash or Slurm would take in another sense: commands with an open end, a folder of two lines."""
    check_setup(submission)
    folder = str(Path.cwd())
    if "\n" in folder:
        raise BadConfig("Slurm takes no folder with a line break in its name: change to another one", uri=folder)


def _check_grace(submission: Submission) -> None:
    """Check that the nodes have ended Ray before the time limit: a job that reaches it is not queued again."""
    least_s = submission.config.pool.grace_s + _RAY_END_S
    if submission.options.grace_s < least_s:
        raise BadConfig(
            f"several nodes need {least_s:g} s to end Ray (pool.grace_s and a minute): set it to that at least",
            key="submit.grace_s",
        )


def _check_time(submission: Submission) -> None:
    """Check that a job is not asked to stop as soon as it starts, again and again."""
    least_s = submission.options.grace_s + _EARLY_S
    if _minutes(submission) * _S_PER_MINUTE <= least_s:
        raise BadConfig(
            f"the job would be asked to stop before it has done anything: set it to more than {least_s} s, which is "
            "submit.grace_s and a minute by which Slurm may be early, or lower submit.grace_s",
            key="submit.hours",
        )


def _check_accepted(submission: Submission, target: Target) -> None:
    """Check by a trial that Slurm takes the job.

    A trial also fails if nodes are down for now; then sbatch itself decides.
    """
    if not shutil.which(target.program):
        return  # a dry run
    trial = subprocess.run(
        ["sbatch", "--test-only"], input=target.render(submission), capture_output=True, text=True, check=False
    )
    if _AWAY in trial.stderr:
        raise BadConfig("Slurm's controller does not answer: see `scontrol ping`, and submit again", key="submit")
    errors = [error for error in _ERROR.findall(trial.stderr) if _BUSY not in error]
    if trial.returncode and errors:
        raise BadConfig(
            f"Slurm refuses the job ({'; '.join(errors)}): {_remedy(submission, errors)}change the section, or ask "
            "`sinfo` and `scontrol show partition` what there is",
            key="submit",
        )


def _remedy(submission: Submission, errors: Sequence[str]) -> str:
    """What Slurm's messages do not say: the job asks for GPUs by default."""
    asks = submission.options.gpus and any("gres" in error for error in errors)
    return "set submit.gpus to 0 if no node has GPUs, " if asks else ""


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
