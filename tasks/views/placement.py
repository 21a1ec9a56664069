"""Where the stages of a run would work: how many workers, with which GPUs and CPUs. No model is loaded."""

from tasks.runtime.estimates import placement_of
from tasks.runtime.run import Run
from tasks.runtime.stage import Stage


def placements(run: Run, command: str | None = None) -> list[str]:
    """A phrase for each group of stages that are placed alike; a cluster that is configured is asked for its nodes.

    With a command only its stages are listed.

    Raises:
        BadConfig: the cluster does not answer, or has no room for a worker.
    """
    stages: dict[str, list[str]] = {}
    for stage in run.stages:
        if not stage.is_needed(run.config) or command not in (None, stage.command):
            continue
        if stage.worker or stage.takes_gpu:  # others are the driver's work
            stages.setdefault(_phrase(run, stage), []).append(stage.name)
    return [f"{', '.join(names)}: {phrase}" for phrase, names in stages.items()]


def _phrase(run: Run, stage: Stage) -> str:
    placement = placement_of(run, stage)
    if run.config.pool_of(stage.name, 1).num_workers == 0:
        return "in this process, on its first GPU" if placement.gpus else "in this process"
    return str(placement)
