"""What stands on Prefect's pages while a stage is at work."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import copy_context
from threading import Event, Thread
from typing import cast
from uuid import UUID

import httpx
from prefect.artifacts import create_progress_artifact, update_progress_artifact

_PAUSE_S = 1.0

_log = logging.getLogger(__name__)


@contextmanager
def left_out(what: str) -> Iterator[None]:
    """Go on without what Prefect cannot be told: its server is away, and the work is not for its sake."""
    try:
        yield
    except httpx.HTTPError as error:
        _log.warning("Prefect is not told %s (%s: %s)", what, type(error).__name__, error)


class ProgressTeller:
    """Tells Prefect how far a stage is, once a second at most and from a thread of its own.

    So a slow server does not slow a stage.
    """

    def __init__(self, stage: str, key: str) -> None:
        self._stage, self._key = stage, key
        self._newest: tuple[int, int, float] | None = None
        self._ended = Event()
        # A new thread has an empty context; in this one stand the task run and the server.
        self._thread = Thread(target=copy_context().run, args=(self._keep_telling,), daemon=True)

    def tell(self, finished: int, total: int, rate: float) -> None:
        """Take in how many items are finished, of how many, and how many per second."""
        self._newest = (finished, total, rate)
        if not self._thread.ident:
            self._thread.start()

    def close(self) -> None:
        """Tell the last that is known, and end."""
        self._ended.set()
        if self._thread.ident:
            self._thread.join()

    def _keep_telling(self) -> None:
        told: tuple[int, int, float] | None = None
        artifact_id: UUID | None = None
        with left_out(f"the progress of {self._stage}"):
            while not (self._ended.wait(_PAUSE_S if told else 0) and told == self._newest):
                if self._newest and told != self._newest:
                    told = self._newest
                    artifact_id = self._tell_prefect(artifact_id, *told)

    def _tell_prefect(self, artifact_id: UUID | None, finished: int, total: int, rate: float) -> UUID:
        percent = 100 * finished / total
        said = f"`{self._stage}`: {finished:,} of {total:,} items, {rate:,.1f}/s"
        if artifact_id is None:
            return cast(UUID, create_progress_artifact(percent, self._key, said))
        return cast(UUID, update_progress_artifact(artifact_id, percent, said))
