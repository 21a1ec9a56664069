"""The library costs nothing to import until it is used."""

import subprocess
import sys

import pytest

LIGHT = [
    "aai",
    *(f"aai.{name}" for name in ("audio", "errors", "identity", "images", "index", "retrieve", "workspace")),
]
HEAVY = {"diffusers", "prefect", "ray", "torch", "transformers"}


@pytest.mark.parametrize("module", LIGHT)
def test_importing_the_library_pulls_in_nothing_heavy(module):
    probe = f"import sys, {module}; print(*sorted({HEAVY} & sys.modules.keys()))"
    imported = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True).stdout
    assert imported.split() == []
