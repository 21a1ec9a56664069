"""`aai submit`: read a command as `aai` itself would, then hand it to a target."""

import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

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


def check(target: Target, submission: Submission) -> None:
    """Check what would fail later.

    Raises:
        BadConfig: the target lacks something, or refuses the submission.
    """
    target.check_program()
    target.check(submission)


def hand_in(target: Target, submission: Submission, wait: bool) -> int:
    """Hand a submission to its target, and return the exit code of the target's program.

    Raises:
        BadConfig: the file cannot be written.
    """
    path = submission.write(target.render(submission), target.suffix)
    return subprocess.run(target.command(submission, path, wait), check=False).returncode


def watching(target: Target, submission: Submission) -> str:
    """How to watch the submitted job."""
    options = submission.options
    commands = target.watch.format(name=submission.name, address=options.address, namespace=options.namespace)
    return f"{submission.name}; to watch and to stop it:\n  {commands}"
