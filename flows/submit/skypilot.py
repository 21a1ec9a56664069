"""SkyPilot: a managed job on any cloud, whose nodes are independent drivers."""

from collections.abc import Iterator
from pathlib import Path

from aai.errors import BadConfig
from flows.submit.places import place_faults
from flows.submit.submission import FOLDER, Submission
from flows.submit.target import Target, fill, secret_faults, setup_faults

_THERE = "/tmp/aai"


def _render(submission: Submission) -> str:
    local = Path(FOLDER, submission.name).absolute()
    mounts = {f"{_THERE}/{name}": f"{local}/{name}" for name in submission.contents}
    return fill("skypilot/task.yaml.j2", submission, {"files": mounts, "words": submission.there(_THERE)})


def _faults(submission: Submission) -> Iterator[BadConfig]:
    yield from secret_faults(submission)
    yield from setup_faults(submission)
    options = submission.options
    if options.image is None and not options.setup:
        yield BadConfig(
            "it is missing: name a container image with AAI (infra/docker builds one), or install AAI in submit.setup",
            key="submit.image",
        )
    yield from place_faults(submission)


def _command(submission: Submission, path: Path, wait: bool) -> list[str]:
    submission.write_contents(path.with_suffix(""))
    secrets = [part for name in submission.options.secrets for part in ("--secret", name)]
    return ["sky", "jobs", "launch", "--yes", *([] if wait else ["--detach-run"]), *secrets, str(path)]


SKYPILOT = Target(
    name="skypilot",
    program="sky",
    render=_render,
    faults=_faults,
    trial=lambda submission: iter(()),  # it has none that starts nothing
    command=_command,
    needs_contents=True,
    suffix=".yaml",
    uses=frozenset(["shared_disk", "nodes", "memory_gib", "accelerator", "infra", "spot", "image", "setup"]),
    watch="sky jobs queue\n  sky jobs logs --name {name}\n  sky jobs cancel --name {name}",
)
