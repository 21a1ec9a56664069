"""The declaration of a target: a module per target has one `Target` at its end, and `targets.py` lists them."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2

from aai.errors import BadConfig
from flows.infra import FOLDER
from flows.submit.submission import Submission

_templates = jinja2.Environment(
    loader=jinja2.FileSystemLoader(FOLDER),
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    keep_trailing_newline=True,
    autoescape=False,  # these are shell and YAML: the templates quote with `shell` and `tojson`
)
_templates.filters["shell"] = lambda value: shlex.quote(str(value))
_templates.filters["sbatch"] = lambda value: '"' + re.sub(r'(["\\])', r"\\\1", str(value)) + '"'


def _to_yaml(value: Any) -> str:
    """A value as JSON that is YAML, too: YAML does not join surrogates, and takes some characters in escapes only."""
    text = json.dumps(value, ensure_ascii=False)
    return "".join(c if " " <= c <= "~" else f"\\U{ord(c):08x}" for c in text)


_templates.filters["tojson"] = _to_yaml


_COMMON = frozenset(["env", "secrets", "cpus", "gpus"])


@dataclass(frozen=True, kw_only=True)
class Target:
    """A place where commands of `aai` can run."""

    name: str
    """Its name for `--to`."""

    program: str
    """The program that takes jobs."""

    render: Callable[[Submission], str]
    """The file that it takes."""

    faults: Callable[[Submission], Iterator[BadConfig]]
    """What would fail later, each as an error: a folder that nodes do not see, a token that is not there."""

    trial: Callable[[Submission], Iterator[BadConfig]]
    """Asks the target, whose program is there, whether it would take the job; what it says against it."""

    command: Callable[[Submission, Path, bool], list[str]]
    """Writes what it needs beside the file, and returns the program's call; with True it waits until the job ends."""

    suffix: str
    """File name extension of the file."""

    uses: frozenset[str]
    """The options of the section `submit` that it uses, besides those that all targets use."""

    min_ray_nodes: int | None = None
    """The number of nodes from which on the command has a Ray cluster for itself; None if it never has."""

    needs_contents: bool = False
    """Whether its file reads the configuration and the job file from a folder beside it."""

    watch: str
    """Commands that show and stop the job; `{name}` is its name, `{address}` the option."""

    listing: str = ""
    """Command whose output has the names of jobs, ended ones among them; empty if there is none that tells."""

    watch_schedule: str = ""
    """The same for jobs on a schedule, which end never; empty if the target has no schedules."""

    def unused(self, submission: Submission) -> list[str]:
        """The options that are set and have no effect here."""
        return sorted(submission.options.model_fields_set - self.uses - _COMMON)

    def idle_nodes(self, submission: Submission) -> str:
        """A sentence if the section `pool` keeps the command off the nodes that this target has for it."""
        pool = submission.config.pool
        if self.min_ray_nodes is None or submission.options.nodes < self.min_ray_nodes:
            return ""
        if pool.num_workers == 0:
            return "pool.num_workers is 0, so one process does everything on one node: leave it out to use all nodes"
        if pool.address not in (None, "auto"):
            return f"pool.address is {pool.address}, so the workers are not on the nodes of this job: leave it out"
        return ""

    def took(self, submission: Submission) -> bool | None:
        """Whether it has a job of this submission, whatever became of it; None if that cannot be known."""
        if submission.options.schedule and self.watch_schedule:
            return None  # its jobs do not exist yet
        values = submission.options.model_dump(include={"address", "namespace"})
        words = shlex.split(self.listing.format(name=submission.name, **values))
        if not words or not (program := found_program(words[0])):
            return None
        listed = subprocess.run(words, executable=program, capture_output=True, text=True, check=False)
        return submission.name in listed.stdout if listed.returncode == 0 else None

    def all_faults(self, submission: Submission) -> list[BadConfig]:
        """All that speaks against handing a submission in from this machine."""
        found = list(self.faults(submission))
        if found_program(self.program):
            return [*found, *self.trial(submission)]
        missing = BadConfig(
            f"there is no `{self.program}` on this machine: install it, or submit from a machine that has it; "
            "--dry-run prints the file",
            key=f"--to {self.name}",
        )
        return [missing, *found]


def found_program(name: str) -> str | None:
    """The path of a program, also where it is installed beside AAI in an environment that is not activated."""
    beside = os.path.dirname(sys.executable)
    return shutil.which(name, path=os.pathsep.join([os.environ.get("PATH", os.defpath), beside]))


def fill(template: str, submission: Submission, values: Mapping[str, Any]) -> str:
    """A template below `infra/` with the options of a submission, and further values."""
    shown = submission.options.model_dump() | {"name": submission.name, "title": submission.title}
    return _templates.get_template(template).render(shown | dict(values))


def setup_faults(submission: Submission) -> Iterator[BadConfig]:
    """Commands before AAI with an open end, which would swallow what follows."""
    if not submission.options.setup:
        return
    found = subprocess.run(["bash", "-n"], input=submission.options.setup, capture_output=True, text=True, check=False)
    if found.stderr:
        yield BadConfig(
            f"Bash does not take these commands ({found.stderr.strip().splitlines()[-1]}): correct them",
            key="submit.setup",
        )


def secret_faults(submission: Submission) -> Iterator[BadConfig]:
    """Secrets that are no variables of this shell."""
    for name in submission.options.secrets:
        if name not in os.environ:
            yield BadConfig(f"{name} is not set in this shell: export it, then submit", key="submit.secrets")
