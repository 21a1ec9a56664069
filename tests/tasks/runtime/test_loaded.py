"""Models outlive a worker as long as the next one uses them."""

import pytest

from tasks.runtime.loaded import LoadedModels, loaded_once


class Shelf:
    """Loads models by name, and knows which are alive."""

    def __init__(self) -> None:
        self.models = LoadedModels()
        self.loaded: list[str] = []

    def worker(self, *names: str) -> list[object]:
        with self.models.for_worker():
            return [loaded_once(name, lambda name=name: self._load(name)) for name in names]

    def _load(self, name: str) -> object:
        self.loaded.append(name)
        return object()


def test_a_model_is_loaded_once_for_workers_that_follow_one_another():
    shelf = Shelf()
    assert shelf.worker("diffusion") == shelf.worker("diffusion")
    assert shelf.loaded == ["diffusion"]


def test_a_model_that_the_next_worker_does_not_use_is_dropped():
    shelf = Shelf()
    for name in ("clip", "diffusion", "clip"):
        shelf.worker(name)
    assert shelf.loaded == ["clip", "diffusion", "clip"]
    shelf.worker()
    shelf.worker("clip")
    assert shelf.loaded[3:] == ["clip"]


def test_what_is_unused_is_dropped_before_another_is_loaded():
    models, alive = LoadedModels(), []
    with models.for_worker():
        loaded_once("clip", object)
    with models.for_worker():
        loaded_once("diffusion", lambda: alive.extend(models._models))
    assert alive == []


def test_one_of_two_models_may_stay():
    shelf = Shelf()
    shelf.worker("clap")
    shelf.worker("clap", "clip")
    assert shelf.loaded == ["clap", "clip"]


def test_a_model_that_cannot_be_loaded_is_tried_again():
    shelf = Shelf()

    def fail():
        raise ValueError("damaged")

    with pytest.raises(ValueError, match="damaged"), shelf.models.for_worker():
        loaded_once("clip", fail)
    shelf.worker("clip")
    assert shelf.loaded == ["clip"]


def test_outside_a_pool_nothing_is_kept():
    assert loaded_once("clip", object) is not loaded_once("clip", object)


def test_all_models_are_dropped_at_the_end():
    shelf = Shelf()
    shelf.worker("clip")
    shelf.models.clear()
    shelf.worker("clip")
    assert shelf.loaded == ["clip", "clip"]
