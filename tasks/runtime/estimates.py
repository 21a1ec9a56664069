"""How long a stage will take, from what earlier runs took.

A run notes the work of its workers apart from their loading, so its rate holds for any number of items and workers.
"""

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import ceil
from typing import Any

from aai.format import duration
from aai.workspace import RECIPE
from tasks.runtime.options import PoolOptions
from tasks.runtime.placement import Node, Placement, nodes_to_come, place, this_machine
from tasks.runtime.run import Run
from tasks.runtime.stage import Stage

_COLUMNS = (
    *("stage", RECIPE, "started_at", "took_s", "new", "rejected"),
    *("num_workers", "worker_gpus", "loading_s", "worked_s"),
)
_LOCAL = ("", "local")

_ENOUGH_S = 60.0
"""Work of a worker after which its rate is steady: what its first batch took longer is little of it."""


@dataclass(frozen=True)
class Estimate:
    """How long a stage will take for some items."""

    seconds: float | None = None
    """None if no run tells."""
    basis: str = ""
    """The run that it follows from, or why none tells."""
    is_rough: bool = False
    """Whether it is much longer than a run that was too short to tell much."""


class Estimates:
    """The runs of a workspace, and what follows from them for a run to come."""

    def __init__(self, run: Run) -> None:
        self._run = run
        rows = run.workspace.table("runs").read(_COLUMNS).to_pylist()
        self._rows = [row for row in rows if _num_items(row) and row["took_s"] > 0 and row["worked_s"] != 0]
        recipes = run.workspace.table("recipes").read((RECIPE, "options", "models")).to_pylist() if self._rows else []
        self._settings = {row[RECIPE]: (row["options"], row["models"]) for row in recipes}

    def of(self, stage: Stage, num: float, placement: Placement | None = None) -> Estimate:
        """The time for some items of a stage on the workers of a placement; without one on as many as in the past."""
        rows = self._of_stage(stage)
        alike = [row for row in rows if placement is None or _is_alike(row, placement)]
        if not alike:
            kind = "" if not rows or placement is None else " on GPUs" if placement.gpus else " on CPUs"
            return Estimate(basis=f"no run{kind} yet")
        row = max(alike, key=lambda row: self._value(row, stage))
        found = _of_driver(row, num, stage) if row["worked_s"] is None else _of_workers(row, num, placement)
        if self._has_settings_of(row, stage):
            return found
        return replace(found, basis=f"{found.basis}, with other options or models", is_rough=True)

    def last_s(self, stage: Stage) -> float | None:
        """Seconds that the last run of a stage took; None without one."""
        last = max(self._of_stage(stage), key=lambda row: row["started_at"], default=None)
        return None if last is None else float(last["took_s"])

    def _of_stage(self, stage: Stage) -> list[dict[str, Any]]:
        return [row for row in self._rows if row["stage"] == stage.name]

    def _value(self, row: dict[str, Any], stage: Stage) -> tuple[bool, bool, float, str]:
        """The run that tells most has the greatest value: with these options, long enough, and the last of those."""
        is_alike, is_known = self._has_settings_of(row, stage), row["worked_s"] is not None
        return is_alike, is_known, min(_ENOUGH_S, _work_s(row)), row["started_at"]

    def _has_settings_of(self, row: dict[str, Any], stage: Stage) -> bool:
        """Whether a run had a stage's options and models of now, whatever those of the stages before it were."""
        recipe = self._run.recipes[stage.table]
        settings = tuple(json.dumps(each, sort_keys=True) for each in (recipe.options, recipe.models))
        return row[RECIPE] == recipe.name or self._settings.get(row[RECIPE]) == settings


def placement_of(run: Run, stage: Stage, nodes: Sequence[Node] | None = None) -> Placement:
    """The workers of a stage on some nodes; by default on the configured cluster, without one on this machine.

    Raises:
        BadConfig: the cluster does not answer, or has no room for a worker.
    """
    options = run.config.pool_of(stage.name, stage.default_slice_size(run.config))
    if options.num_workers == 0:
        node = nodes[0] if nodes else this_machine()
        return Placement(1, node.cpus, min(1, node.gpus) if stage.takes_gpu else 0, 1)
    if nodes is None:
        nodes = _nodes(options, nodes_to_come(run.config.submit))
    return place(options, stage.takes_gpu, nodes)


def _nodes(options: PoolOptions, to_come: Sequence[Node]) -> list[Node]:
    """The nodes of the cluster at the configured address; without one, this machine."""
    if (options.address or os.environ.get("RAY_ADDRESS", "")) in _LOCAL:
        return [this_machine()]
    from tasks.runtime.ray_cluster import cluster_nodes, connect  # importing Ray takes a second

    connect(options.address)
    return cluster_nodes(to_come)


def _num_items(row: dict[str, Any]) -> int:
    return int(row["new"] + row["rejected"])


def _work_s(row: dict[str, Any]) -> float:
    """Seconds of work of a worker; of runs that did not note it all of their time."""
    return float(row["took_s"] if row["worked_s"] is None else row["worked_s"] / max(1, row["num_workers"]))


def _is_alike(row: dict[str, Any], placement: Placement) -> bool:
    """Whether a run was on GPUs if and only if a placement is; older runs did not note it."""
    return row["worker_gpus"] is None or bool(row["worker_gpus"]) == bool(placement.gpus)


def _of_driver(row: dict[str, Any], num: float, stage: Stage) -> Estimate:
    """The estimate from work of the driver, or from a run that noted no more than its time."""
    seconds = num * row["took_s"] / _num_items(row)
    loading = " with the loading, which older runs did not note apart" if stage.worker else ""
    basis = f"{_count(_num_items(row), 'item')} in {_time(row['took_s'])}{loading}"
    return Estimate(seconds, basis, _is_rough(row, seconds))


def _of_workers(row: dict[str, Any], num: float, placement: Placement | None) -> Estimate:
    num_then = max(1, row["num_workers"])
    num_now = min(placement.num_workers, max(1, ceil(num))) if placement else num_then
    seconds = row["loading_s"] + num * row["worked_s"] / _num_items(row) / num_now
    on = f"{_count(num_then, 'worker')}{' with GPUs' if row['worker_gpus'] else ''}"
    now = f"; now on {num_now:,}" if num_now != num_then else ""
    basis = (
        f"{_count(_num_items(row), 'item')} in {_time(row['worked_s'])} of work by {on}, "
        f"after {_time(row['loading_s'])} of loading{now}"
    )
    return Estimate(seconds, basis, _is_rough(row, seconds))


def _is_rough(row: dict[str, Any], seconds: float) -> bool:
    return _work_s(row) < _ENOUGH_S < seconds


def _time(seconds: float) -> str:
    return duration(seconds) if seconds >= 1 else f"{max(1, round(1000 * seconds))} ms"


def _count(num: int, what: str) -> str:
    return f"{num:,} {what}" if num == 1 else f"{num:,} {what}s"
