"""`aai submit`: read a command as `aai` itself would, then hand it to a target."""

import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import typer
from typer.core import TyperGroup

from aai.errors import BadConfig
from flows.submit.submission import Submission, make_submission
from flows.submit.target import Target
from flows.submit.targets import TARGETS

_COMMANDS = ("build", "render", "score", "report")


def read_command(program: TyperGroup, words: Sequence[str]) -> dict[str, Any]:
    """The arguments of a command of `aai`, by the command line's own parser, which reports wrong options itself.

    Raises:
        BadConfig: there is no such command, or it cannot run elsewhere.
    """
    if not words or words[0] not in _COMMANDS:
        raise BadConfig(
            f"{' '.join(words) or 'nothing'!r} cannot be submitted: write one of {', '.join(_COMMANDS)} after --, such "
            "as `aai submit --to slurm -- build -c aai.yaml`",
            key="aai submit",
        )
    return program.commands[words[0]].make_context(words[0], list(words[1:])).params


def find_target(name: str) -> Target:
    """A target by its name.

    Raises:
        BadConfig: there is none.
    """
    if name not in TARGETS:
        raise BadConfig(f"there is no {name!r}: choose from {', '.join(TARGETS)}", key="--to")
    return TARGETS[name]


def prepare(words: Sequence[str], arguments: dict[str, Any], changes: dict[str, Any]) -> Submission:
    """The submission of a command with parsed arguments; `changes` are those of its `--set`."""
    return make_submission(tuple(words), Path(arguments["config"]), changes, arguments.get("jobs"))


def hand_in(target: Target, submission: Submission, wait: bool) -> int:
    """Check what would fail later, hand a submission to its target, and say how to watch it.

    Returns:
        The exit code of the target's program; with `wait` it is the job's.

    Raises:
        BadConfig: the target lacks something or refuses the submission, or the file cannot be written.
    """
    target.check_program()
    target.check(submission)
    if wait:
        typer.echo(f"submitting {_watching(target, submission)}")
    path = submission.write(target.render(submission), target.suffix)
    code = subprocess.run(target.command(submission, path, wait), check=False).returncode
    if wait and code:
        typer.echo(f"aai: {target.program} ended with code {code}; the same command does what is left", err=True)
    elif wait:
        typer.echo(f"{submission.name} has finished")
    elif not code:
        typer.echo(f"submitted {_watching(target, submission)}")
    return code


def _watching(target: Target, submission: Submission) -> str:
    """How to watch a job."""
    options = submission.options
    commands = target.watch.format(name=submission.name, address=options.address, namespace=options.namespace)
    return f"{submission.name}; to watch and to stop it:\n  {commands}"
