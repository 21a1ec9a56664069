"""Drives stages as `aai` does, in a process that is made to be killed: it says how far it is, then waits for a word.

python -m tests.chaos.drive CONFIG STAGE        the configuration as JSON, the stage by name, or `build`
"""

import json
import sys

from flows.steps import STAGES, build
from tasks.render import render
from tasks.runtime.config import make_config
from tasks.runtime.run import Run, open_run
from tests.bank import jobs_of

JOB = {"seeds": 2}
MARK = "finished: "  # Ray writes there, too


def make_pictures(run: Run):
    """The stage `render`."""
    return render(run, jobs_of(run, JOB))


def wait(finished: int, total: int, rate: float) -> None:
    """Say how far the stage is, and go on when told to; at once, when nobody is there to tell it."""
    sys.stdout.write(f"{MARK}{finished} {total}\n")
    sys.stdout.flush()
    sys.stdin.readline()


if __name__ == "__main__":
    given, stage = sys.argv[1:]
    run = open_run(make_config(**json.loads(given)), watch=lambda stage: wait)
    (STAGES | {"build": build, "render": make_pictures})[stage](run)
