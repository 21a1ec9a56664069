"""A small collection of real files, and banks that are built from it."""

import shutil
from pathlib import Path

import pytest

from tasks.runtime.run import Run
from tests.collection import build, run_on, write_collection


@pytest.fixture(scope="session", autouse=True)
def _models_stay(models_stay) -> None:
    """As the fixture of that name says, for all tests here."""


@pytest.fixture(scope="session")
def original(tmp_path_factory) -> Path:
    """Copies of a collection, `files`, and of its bank, `bank`, which was built at `collection` in the same folder."""
    folder = tmp_path_factory.mktemp("original")
    write_collection(folder / "collection")
    shutil.copytree(folder / "collection", folder / "files")
    build(run_on(folder / "collection"))
    shutil.copytree(folder / "collection" / "bank", folder / "bank")
    return folder


@pytest.fixture
def collection(original) -> Path:
    """A collection that the test may change; always at the same place, so that the bank of the original fits."""
    shutil.rmtree(original / "collection")
    return Path(shutil.copytree(original / "files", original / "collection"))


@pytest.fixture
def built(original, collection) -> Run:
    """A run on that collection whose bank is built."""
    shutil.copytree(original / "bank", collection / "bank")
    return run_on(collection)


@pytest.fixture(scope="module")
def shared_collection(tmp_path_factory) -> Path:
    """A collection whose bank has every clip's neighbours; the tests of a module leave its files and rows alone."""
    folder = write_collection(tmp_path_factory.mktemp("collection"))
    build(run_on(folder), until="retrieve")
    return folder
