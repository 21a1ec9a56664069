"""Slurm: one job with a Ray cluster over its nodes, or an array of independent drivers."""

import math
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

from aai.errors import BadConfig
from flows.submit.places import missing_faults, place_faults
from flows.submit.submission import FOLDER, TRAINING, Submission
from flows.submit.target import Target, fill, secret_faults, setup_faults

_S_PER_MINUTE, _MINUTES_PER_HOUR = 60, 60
_EARLY_S = 60
"""Slurm may send a signal up to this much earlier than asked for."""

_RAY_END_S = 60
"""How long Ray takes to end on several nodes."""

_ERROR = re.compile(r"^sbatch: (?:error|fatal): (.*)$", re.MULTILINE)
_BUSY, _AWAY = "allocation failure", "Unable to contact slurm controller"
"""In messages of sbatch: no node can take the job now, and nobody is there to answer."""

_JOB, _ARRAY = "slurm/job.sh.j2", "slurm/array.sh.j2"
_RAY_PORT = 6379

_DRIVER = 'echo $$ > "$0"; [ -e "$0.stop" ] && exit 143'
"""Bash before a command is executed: names its process, and ends if the job has been asked to stop already."""

_USES = frozenset(["shared_disk", "memory_gib", "accelerator", "hours", "grace_s", "partition", "account", "setup"])

_LISTING = "squeue --me --noheader --states=all --format=%j --name={name}"
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


def _faults(submission: Submission) -> Iterator[BadConfig]:
    yield from _common_faults(submission)
    if submission.options.nodes > 1:
        yield from place_faults(submission)
        yield from _grace_faults(submission)


def _faults_of_array(submission: Submission) -> Iterator[BadConfig]:
    if submission.command == TRAINING:
        yield BadConfig("a training is no work that independent jobs share: use --to slurm", key="--to slurm-array")
    yield from _common_faults(submission)
    yield from place_faults(submission)


def _common_faults(submission: Submission) -> Iterator[BadConfig]:
    yield from missing_faults(submission)
    yield from secret_faults(submission)
    yield from _script_faults(submission)
    yield from _time_faults(submission)


def _script_faults(submission: Submission) -> Iterator[BadConfig]:
    """What Bash or Slurm would take in another sense: commands with an open end, a folder of two lines."""
    yield from setup_faults(submission)
    folder = str(Path.cwd())
    if "\n" in folder:
        yield BadConfig("Slurm takes no folder with a line break in its name: change to another one", uri=folder)


def _grace_faults(submission: Submission) -> Iterator[BadConfig]:
    """Nodes have to end Ray before the time limit: a job that reaches it is not queued again."""
    least_s = submission.config.pool.grace_s + _RAY_END_S
    if submission.options.grace_s < least_s:
        yield BadConfig(
            f"several nodes need {least_s:g} s to end Ray (pool.grace_s and a minute): set it to that at least",
            key="submit.grace_s",
        )


def _time_faults(submission: Submission) -> Iterator[BadConfig]:
    """A job must not be asked to stop as soon as it starts, again and again."""
    least_s = submission.options.grace_s + _EARLY_S
    if _minutes(submission) * _S_PER_MINUTE <= least_s:
        yield BadConfig(
            f"the job would be asked to stop before it has done anything: set it to more than {least_s} s, which is "
            "submit.grace_s and a minute by which Slurm may be early, or lower submit.grace_s",
            key="submit.hours",
        )


def _trial(template: str, submission: Submission) -> Iterator[BadConfig]:
    """What Slurm says against a job. A trial also fails if nodes are down for now; then sbatch itself decides."""
    trial = subprocess.run(
        ["sbatch", "--test-only"], input=_render(template, submission), capture_output=True, text=True, check=False
    )
    if _AWAY in trial.stderr:
        yield BadConfig("Slurm's controller does not answer: see `scontrol ping`, and submit again", key="submit")
        return
    errors = [error for error in _ERROR.findall(trial.stderr) if _BUSY not in error]
    if trial.returncode and errors:
        yield BadConfig(
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
    render=partial(_render, _JOB),
    faults=_faults,
    trial=partial(_trial, _JOB),
    command=_command,
    suffix=".sh",
    uses=_USES | {"nodes"},
    min_ray_nodes=2,  # on one it does without, too
    watch=_WATCH,
    listing=_LISTING,
)
SLURM_ARRAY = Target(
    name="slurm-array",
    program="sbatch",
    render=partial(_render, _ARRAY),
    faults=_faults_of_array,
    trial=partial(_trial, _ARRAY),
    command=_command,
    suffix=".sh",
    uses=_USES | {"tasks"},
    watch=_WATCH,
    listing=_LISTING,
)
