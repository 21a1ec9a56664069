"""What several folders of tests share."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster import TwoNodes, two_nodes
from tests.models.shrunk import write_sd15, write_sdxl


@pytest.fixture(scope="session")
def sd15_folder(tmp_path_factory) -> Path:
    """A shrunk Stable Diffusion 1.5 with random weights, to be left as it is."""
    return write_sd15(tmp_path_factory.mktemp("models") / "shrunk-sd15")


@pytest.fixture(scope="session")
def sdxl_folder(tmp_path_factory) -> Path:
    """A shrunk SDXL with random weights, to be left as it is."""
    return write_sdxl(tmp_path_factory.mktemp("models") / "shrunk-sdxl")


@pytest.fixture(scope="session")
def nodes() -> Iterator[TwoNodes]:
    """A real cluster of two nodes on loopback; ask for `whole()`, as a test may have killed one."""
    with two_nodes() as cluster:
        yield cluster
