"""The passes of workers that optimise under the text-to-image model: how many rows each has, and when they compile."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

from tasks.runtime.config import Config
from tasks.runtime.process import num_threads
from tasks.runtime.stage import Context

if TYPE_CHECKING:
    from aai.models.diffusion import Diffusion


class Passes:
    """Rows in a pass: those of the options, or as many as fit into the worker's share of the memory.

    Args:
        context: the worker's.
        stage: its stage.
        diffusion: the model, loaded.
        num_tokens: token vectors of a cue.
        max_rows: rows in a pass by the options; none if they follow from the memory.
        most: rows that are not needed beyond.

    Raises:
        RuntimeError: not even a single row fits (out of memory).
    """

    def __init__(
        self,
        context: Context,
        stage: str,
        diffusion: "Diffusion",
        num_tokens: int,
        max_rows: int | None,
        most: int | None = None,
    ) -> None:
        from aai.models.row_memory import measure_rows, try_passes

        self.diffusion, self._given = diffusion, max_rows
        share = diffusion.codec.memory_share = memory_share(context.config, stage, diffusion.device.type)
        self._memory = None if max_rows else measure_rows(diffusion, num_tokens, share, most)
        self._trial = partial(try_passes, diffusion, num_tokens, min(2, self.max_rows))

    @property
    def max_rows(self) -> int:
        """Rows in a pass that fit, by all that was seen so far."""
        return self._memory.rows if self._memory else self._given or 1

    @contextmanager
    def work(self, rows: int) -> Iterator[None]:
        """Context manager around the work on a slice, with passes of at most so many rows; it measures their memory."""
        from aai.models.memory import peak_memory

        with self.diffusion.speed.work(self._trial), peak_memory(self.diffusion.device) as peak:
            yield
        if self._memory:
            self._memory = self._memory.after(rows, peak.num_bytes)


def memory_share(config: Config, stage: str, device: str) -> float:
    """The part of a device's memory that one of the stage's workers may take: others may share a GPU or the CPUs."""
    if device == "cuda":
        return min(1.0, config.pool_of(stage, 1).gpus_per_worker or 1.0)
    return min(1.0, num_threads() / (os.cpu_count() or 1))
