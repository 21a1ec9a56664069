"""Fixtures of several folders of tests."""

import gc
import os
import tempfile

gc.disable()  # until all tests are imported

# As in `aai`: threads that wait by spinning take the processor from one another. Read when torch is loaded.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
if "PYTEST_XDIST_WORKER" in os.environ:  # the workers share the cores
    os.environ.setdefault("OMP_NUM_THREADS", "1")

os.environ.setdefault("AAI_CACHE", os.path.join(tempfile.gettempdir(), f"aai-cache-{os.getuid()}"))

import importlib.util  # noqa: E402

if importlib.util.find_spec("torchvision"):
    from tests.parity.torchvision_operators import declare

    _OPERATORS = declare()

from collections import Counter  # noqa: E402
from collections.abc import Iterator  # noqa: E402
from pathlib import Path  # noqa: E402

import pytest  # noqa: E402

from tests.cluster import TwoNodes, two_nodes  # noqa: E402

# Fixtures import what loads torch: with several processes, the first one runs no test and needs none.

_LONG = (
    "test_cluster.py",
    "test_bucket.py",
    "test_driver.py",
    "test_kills.py",
    "test_prefect.py",
    "test_ray_pool.py",
    "test_editor.py",
    "test_demo.py",
    "test_steps.py",
)
"""Files that take longest, though they have few tests."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """With several processes, start the long files first and then those with many tests, so that all end together."""
    if "PYTEST_XDIST_WORKER" in os.environ:
        num_tests = Counter(item.path for item in items)
        items.sort(key=lambda item: (item.path.name not in _LONG, -num_tests[item.path]))


def pytest_collection_finish() -> None:
    """What is imported stays, so that a collection of garbage, which stages ask for, takes half a second less."""
    gc.freeze()
    gc.enable()


@pytest.fixture(scope="session")
def models_stay() -> Iterator[None]:
    """Stages that run in this process share the shipped models."""
    from tests.loaded import keep_shipped

    with pytest.MonkeyPatch.context() as patch:
        keep_shipped(patch)
        yield


@pytest.fixture(scope="session")
def sd15_folder(tmp_path_factory) -> Path:
    """A shrunk Stable Diffusion 1.5 with random weights; tests must not change it."""
    from tests.models.shrunk import write_sd15

    return write_sd15(tmp_path_factory.mktemp("models") / "shrunk-sd15")


@pytest.fixture(scope="session")
def sdxl_folder(tmp_path_factory) -> Path:
    """A shrunk SDXL with random weights; tests must not change it."""
    from tests.models.shrunk import write_sdxl

    return write_sdxl(tmp_path_factory.mktemp("models") / "shrunk-sdxl")


@pytest.fixture(scope="session")
def nodes() -> Iterator[TwoNodes]:
    """A real cluster of two nodes on loopback; `whole()` restarts the one that an earlier test killed."""
    with two_nodes() as cluster:
        yield cluster
