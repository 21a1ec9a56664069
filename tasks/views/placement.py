"""Where the stages of a run would work: how many workers, with which GPUs and CPUs. No model is loaded."""

import os
from collections.abc import Sequence

from tasks.runtime.options import PoolOptions
from tasks.runtime.placement import Node, nodes_to_come, place, this_machine
from tasks.runtime.run import Run
from tasks.runtime.stage import Stage

_LOCAL = ("", "local")


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
    options = run.config.pool_of(stage.name, stage.default_slice_size(run.config))
    if options.num_workers == 0:
        return "in this process, on its first GPU" if stage.takes_gpu and this_machine().gpus else "in this process"
    return str(place(options, stage.takes_gpu, _nodes(options, nodes_to_come(run.config.submit))))


def _nodes(options: PoolOptions, to_come: Sequence[Node]) -> list[Node]:
    """The nodes of the cluster at the configured address; without one, this machine."""
    if (options.address or os.environ.get("RAY_ADDRESS", "")) in _LOCAL:
        return [this_machine()]
    from tasks.runtime.ray_cluster import cluster_nodes, connect  # importing Ray takes a second

    connect(options.address)
    return cluster_nodes(to_come)
