"""`aai submit`: read a command as `aai` itself would, then hand it to a target."""

import subprocess
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, cast

import typer
from typer.core import TyperGroup

from aai.errors import BadConfig
from flows.app.terminal import remark
from flows.submit.submission import FOLDER, TRAINING, Submission, make_submission, make_training_submission
from flows.submit.target import Target, found_program
from flows.submit.targets import TARGETS

_COMMANDS = ("build", "render", "score", "report", TRAINING)
_HINTS = {
    "nodes": "its jobs have one node each, and submit.tasks says how many there are",
    "tasks": "only slurm-array has tasks",
}
_REFUSED_CODE = 2
_SIGNALLED = 128
"""A shell's exit code of a process that a signal ended, less the signal's number."""
_MAX_FAULTS = 20
_END_S = 10  # how long a program that is asked to end may take
_HANDLED = ("config", "changes", "jobs")
_REFUSED = {
    "text_only": "it takes seconds: run it here",
    "dry_run": "it only counts pictures: run it here",
    "output": "leave it out: the page goes into the workspace, where it can be found",
}


def read_command(program: TyperGroup, words: Sequence[str]) -> typer.Context:
    """A command of `aai`, read by the command line's own parser, which reports wrong options itself.

    Raises:
        BadConfig: there is no such command, or it or one of its options is of no use elsewhere.
    """
    name = next((each for each in _COMMANDS if list(words[: len(each.split())]) == each.split()), None)
    if name is None:
        raise BadConfig(
            f"{' '.join(words) or 'nothing'!r} cannot be submitted: write one of {', '.join(_COMMANDS)} after --, such "
            "as `aai submit --to slurm -- build -c aai.yaml`",
            key="aai submit",
        )
    *groups, last = name.split()
    for group in groups:
        program = cast(TyperGroup, program.commands[group])
    context = cast(typer.Context, program.commands[last].make_context(last, list(words[len(groups) + 1 :])))
    for name, reason in _REFUSED.items():
        if context.params.get(name):
            raise BadConfig(reason, key=f"--{name.replace('_', '-')}")
    return context


def find_target(name: str) -> Target:
    """A target by its name.

    Raises:
        BadConfig: there is none.
    """
    if name not in TARGETS:
        raise BadConfig(f"there is no {name!r}: choose from {', '.join(TARGETS)}", key="--to")
    return TARGETS[name]


def prepare(words: Sequence[str], command: typer.Context, changes: dict[str, Any]) -> Submission:
    """The submission of a command; `changes` are those of its `--set`.

    Raises:
        BadConfig: its configuration or its job file is wrong.
    """
    arguments = command.params
    if "pairs" in arguments:
        if arguments["pairs"] is None:
            raise BadConfig("name the file that describes the pairs", key=f"aai {TRAINING}")
        return make_training_submission(tuple(words), arguments["pairs"], changes)
    given = [
        each
        for each in command.command.params
        if each.name and each.name not in _HANDLED and _is_given(command, each.name)
    ]
    others = tuple(word for each in given for word in (each.opts[0], str(arguments[each.name or ""])))
    return make_submission(tuple(words), Path(arguments["config"]), changes, arguments.get("jobs"), others)


def _is_given(command: typer.Context, name: str) -> bool:
    source = command.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"


def show(target: Target, submission: Submission, wait: bool) -> int:
    """Print the file of a submission, and say what would be refused or is missing for it, and what to do next.

    Returns:
        The exit code: 2 if it would be refused, else 0.
    """
    typer.echo(target.render(submission), nl=False)
    _say_unused(target, submission)
    is_refused = _say_faults(target, submission, wait, "as it is, this would be refused: ")
    if target.needs_contents:
        typer.echo(
            f"aai: it reads files in {FOLDER}/{submission.name}, which are written when it is handed in", err=True
        )
    typer.echo(
        f"aai: nothing was handed in: the same command without --dry-run hands it to `{target.program}`; "
        "docs/CLUSTERS.md explains the targets, and `aai init` the section `submit`",
        err=True,
    )
    return _REFUSED_CODE if is_refused else 0


def hand_in(target: Target, submission: Submission, wait: bool) -> int:
    """Check what would fail later, hand a submission to its target, and say how to watch it.

    Returns:
        2 if something speaks against it; else the exit code of the target's program, with `wait` that of the job.

    Raises:
        BadConfig: the file cannot be written.
    """
    if _say_faults(target, submission, wait):
        return _REFUSED_CODE
    _say_unused(target, submission)
    if wait:
        typer.echo(f"submitting {_watching(target, submission)}")
    path = submission.write(target.render(submission), target.suffix)
    code = _call(target, submission, path, wait)
    if code:
        _say_failed(target, submission, path, wait, code)
    else:
        typer.echo(f"{submission.name} has finished" if wait else f"submitted {_watching(target, submission)}")
    return code if code >= 0 else _SIGNALLED - code


def _call(target: Target, submission: Submission, path: Path, wait: bool) -> int:
    """Run the program of a target; its exit code.

    Raises:
        KeyboardInterrupt: this process was asked to stop, with a sentence on the job.
    """
    command = target.command(submission, path, wait)
    process = None
    try:
        process = subprocess.Popen(command, executable=found_program(command[0]))
        return process.wait()
    except KeyboardInterrupt as error:
        if process:
            _end(process)
        raise KeyboardInterrupt(
            f"stopped; what `{target.program}` took goes on without this command: {_watching(target, submission)}"
        ) from error


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    with suppress(subprocess.TimeoutExpired):
        process.wait(_END_S)


def _say_failed(target: Target, submission: Submission, path: Path, wait: bool, code: int) -> None:
    """Say whether there is a job, after the program of a target has failed; without one remove what was written."""
    ended = f"{target.program} {f'ended with code {code}' if code > 0 else f'was ended by signal {-code}'}"
    is_job_there = target.took(submission)
    if is_job_there is None and not wait and code > 0:
        is_job_there = False  # a program that only hands in has said so
    if is_job_there is False:
        submission.remove(path)
        sentence = f"nothing was submitted: {ended}, as it says above"
    elif is_job_there and wait and code > 0:
        sentence = f"{ended}; the same command does what is left"
    elif is_job_there:
        sentence = f"{ended}, and the job is there: {_watching(target, submission)}"
    else:
        sentence = f"{ended}; if it took the job, the same command does what is left"
        sentence += "; the commands above tell" if wait else f": {_watching(target, submission)}"
    typer.echo(f"aai: {sentence}", err=True)


def _say_faults(target: Target, submission: Submission, wait: bool, words: str = "") -> bool:
    """Print all that speaks against a submission, up to a limit; whether there is anything."""
    faults = target.all_faults(submission)
    if wait and submission.options.schedule and target.watch_schedule:
        faults.append(BadConfig("a schedule never ends: leave out --wait, or submit.schedule", key="--wait"))
    for fault in faults[:_MAX_FAULTS]:
        typer.echo(f"aai: {words}{fault}", err=True)
    if len(faults) > _MAX_FAULTS:
        typer.echo(f"aai: and {len(faults) - _MAX_FAULTS:,} faults more", err=True)
    return bool(faults)


def _say_unused(target: Target, submission: Submission) -> None:
    """Print which keys have no effect on a target, for the number of nodes what has, and which keep nodes idle."""
    if unused := target.unused(submission):
        keys = ", ".join(f"submit.{name}" for name in unused)
        hints = [f"; {hint}" for name, hint in _HINTS.items() if name in unused]
        remark(f"{keys} {'has' if len(unused) == 1 else 'have'} no effect with --to {target.name}{''.join(hints)}")
    if idle := target.idle_nodes(submission):
        remark(idle)


def _watching(target: Target, submission: Submission) -> str:
    """How to watch a job."""
    options = submission.options
    shown = options.schedule and target.watch_schedule or target.watch
    commands = shown.format(name=submission.name, address=options.address, namespace=options.namespace)
    return f"{submission.name}; to watch and to stop it:\n  {commands}"
