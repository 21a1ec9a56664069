"""The real architectures at full size, with random weights, run through the adapters: `pytest -m full_size -s`.

Needs about 8 GiB of memory and 3 GiB of disk, and ten minutes on two cores; downloads nothing. docs/PERFORMANCE.md has
the results.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.full_size.architectures import write_clap, write_clip, write_sd15

MODELS = {"sd15": (write_sd15, 1_066_000_000), "clip": (write_clip, 427_600_000), "clap": (write_clap, 153_500_000)}
"""Function that writes the model, and the real one's number of parameters."""

MAX_MEMORY_MIB = {"sd15": 12_000, "clip": 4_000, "clap": 3_000}


@pytest.mark.full_size
@pytest.mark.parametrize("name", MODELS)
def test_a_model_of_full_size_runs_through_its_adapter(name, tmp_path, record_property):
    write, num_expected = MODELS[name]
    num = write(tmp_path / name)
    assert abs(num / num_expected - 1) < 0.01
    command = [sys.executable, "-m", "tests.full_size.measure", name, str(tmp_path / name)]
    root = Path(__file__).parents[2]
    done = subprocess.run(command, cwd=root, env=os.environ, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    for step in json.loads(done.stdout.splitlines()[-1]):
        print(f"{name}: {step['step']}: {step['seconds']} s, peak {step['peak_mib']} MiB")
        record_property(f"{name}: {step['step']}", step)
        assert step["peak_mib"] < MAX_MEMORY_MIB[name]
