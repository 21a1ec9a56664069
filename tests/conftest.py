"""What several folders of tests share."""

from pathlib import Path

import pytest

from tests.models.shrunk import write_sd15, write_sdxl


@pytest.fixture(scope="session")
def sd15_folder(tmp_path_factory) -> Path:
    """A shrunk Stable Diffusion 1.5 with random weights, to be left as it is."""
    return write_sd15(tmp_path_factory.mktemp("models") / "shrunk-sd15")


@pytest.fixture(scope="session")
def sdxl_folder(tmp_path_factory) -> Path:
    """A shrunk SDXL with random weights, to be left as it is."""
    return write_sdxl(tmp_path_factory.mktemp("models") / "shrunk-sdxl")
