"""Runs stages as `aai` does, in a process that a test kills: it prints its progress, then waits for a line.

python -m tests.chaos.drive CONFIG STAGE        the configuration as JSON, the stage by name
"""

import json
import sys

from tasks.render import render
from tasks.runtime.driver import StageSummary
from tasks.runtime.run import Run
from tasks.stages import make_config, open_run
from tests.bank import jobs_of

JOB = {"seeds": 2}
MARK = "finished: "  # Ray prints to the same stream


def do(run: Run, name: str) -> StageSummary:
    """Run a stage by its name; `render` has the pictures of a job."""
    if name == "render":
        return render(run, jobs_of(run, JOB))
    return run.do(next(stage for stage in run.stages if stage.name == name))


def wait(finished: int, total: int, rate: float) -> None:
    """Print the progress, and go on with the next line of the input, or at its end; before any there is nothing."""
    if not finished:
        return
    sys.stdout.write(f"{MARK}{finished} {total}\n")
    sys.stdout.flush()
    sys.stdin.readline()


if __name__ == "__main__":
    keys, name = sys.argv[1:]
    do(open_run(make_config(**json.loads(keys)), watch=lambda stage: wait), name)
