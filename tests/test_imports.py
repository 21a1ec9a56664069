"""The library costs nothing to import until it is used."""

import subprocess
import sys

import pytest

LIGHT = [
    "aai",
    "aai.errors",
    "aai.identity",
    "aai.media.audio",
    "aai.media.images",
    "aai.retrieve.index",
    "aai.retrieve.neighbours",
    "aai.workspace",
]
HEAVY = {"diffusers", "prefect", "ray", "torch", "transformers"}


@pytest.mark.parametrize("module", LIGHT)
def test_importing_the_library_pulls_in_nothing_heavy(module):
    probe = f"import sys, {module}; print(*sorted({HEAVY} & sys.modules.keys()))"
    imported = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True).stdout
    assert imported.split() == []
