"""The workers of a command. A stage's processes are kept for the next one, so that models are loaded once."""

import logging
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from aai.format import duration
from tasks.runtime.loaded import LoadedModels
from tasks.runtime.options import PoolOptions
from tasks.runtime.placement import Node, this_machine
from tasks.runtime.work import LocalPool, Pool, Worker

if TYPE_CHECKING:
    from tasks.runtime.ray_actors import IdleActors

_log = logging.getLogger(__name__)


class Workers:
    """Opens a pool for each stage, and keeps processes and models between stages until `close`.

    Args:
        to_come: the nodes that the cluster's autoscaler can start.
        keeps_actors: whether actors outlive a stage.
    """

    def __init__(self, to_come: Sequence[Node] = (), keeps_actors: bool = True) -> None:
        self._to_come = to_come
        self._keeps_actors = keeps_actors
        self._models = LoadedModels()
        self._idle: IdleActors | None = None
        self._is_connected = False

    def connect(self, options: PoolOptions) -> float:
        """Join or start Ray, and say so, if a stage needs it and it is not there; the seconds that it took.

        Raises:
            BadConfig: the Ray cluster does not answer.
            Transient: Ray does not start on this machine.
        """
        if options.num_workers == 0 or self._is_connected:
            return 0.0
        start_s = time.monotonic()
        _log.warning("starting Ray")
        from tasks.runtime.ray_cluster import connect  # importing Ray takes a second

        connect(options.address)
        self._is_connected, took_s = True, time.monotonic() - start_s
        _log.warning("Ray is ready after %s", duration(took_s))
        return took_s

    def open(
        self, make_worker: Callable[[], Worker], id_column: str, options: PoolOptions, has_model: bool = False
    ) -> Pool:
        """The workers of a stage, in this process or on Ray.

        Raises:
            BadConfig: the Ray cluster does not answer, or has no room for a worker.
        """
        if options.num_workers == 0:
            gpus = min(1, this_machine().gpus) if has_model else 0
            return LocalPool(make_worker, id_column, options, self._models, gpus)
        from tasks.runtime.ray_actors import IdleActors  # importing Ray takes a second
        from tasks.runtime.ray_pool import RayPool

        if self._idle is None and self._keeps_actors:
            self._idle = IdleActors()
        return RayPool(make_worker, id_column, options, has_model, self._idle, self._to_come)

    def release_gpus(self) -> None:
        """End the idle processes that hold GPUs, before a stage that uses none."""
        if self._idle is not None:
            self._idle.release_gpus()

    def close(self) -> None:
        """End all idle processes, and drop the models of this one."""
        if self._idle is not None:
            self._idle.release()
        self._models.clear()
