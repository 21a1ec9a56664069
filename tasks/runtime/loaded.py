"""Models that stay loaded: what a worker has opened is there for the worker of the next stage in the same process."""

import gc
import sys
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, TypeVar

Model = TypeVar("Model")


class LoadedModels:
    """The models of a process. Those that a new worker does not use are dropped before it loads others."""

    def __init__(self) -> None:
        self._models: dict[Hashable, Any] = {}
        self._used: set[Hashable] = set()

    @contextmanager
    def for_worker(self) -> Iterator[None]:
        """Inside, a worker is made: models that it opens are kept, the others are dropped."""
        self._used.clear()
        token = _current.set(self)
        try:
            yield
        finally:
            _current.reset(token)
            self._drop_unused()

    def get(self, key: Hashable, load: Callable[[], Model]) -> Model:
        """A model; loading one first drops what the worker has not used so far."""
        self._used.add(key)
        if key not in self._models:
            self._drop_unused()
            self._models[key] = load()
        return self._models[key]

    def clear(self) -> None:
        """Drop all models."""
        self._used.clear()
        self._drop_unused()

    def _drop_unused(self) -> None:
        unused = self._models.keys() - self._used
        for key in unused:
            del self._models[key]
        if unused:
            _release_memory()


_current: ContextVar[LoadedModels | None] = ContextVar("models", default=None)


def loaded_once(key: Hashable, load: Callable[[], Model]) -> Model:
    """A model that the process has loaded already, if a pool's worker is being made; else it is loaded."""
    models = _current.get()
    return models.get(key, load) if models else load()


def _release_memory() -> None:
    """Return the memory of dropped models to the GPU: modules hold cycles, and torch keeps freed memory."""
    gc.collect()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        torch.cuda.empty_cache()
