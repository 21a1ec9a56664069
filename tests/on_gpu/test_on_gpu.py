"""Models, fitting, pictures and training on a pretended GPU, which refuses tensors of another device."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

_QUICK = (
    "other_devices_are_refused",
    "few_step_models_render",
    "cues_are_those_of_a_cpu",
    "vectors_are_those_of_a_cpu",
    "rewards_are_those_of_a_cpu",
    "aligners_are_trained",
)
_SLOW = (
    "pictures_are_those_of_a_cpu",
    "a_unet_that_takes_the_guidance_scale_renders",
    "mappers_are_those_of_a_cpu",
    "edits_are_those_of_a_cpu",
    "edits_of_photos_are_those_of_a_cpu",
    "vectors_of_joint_encoders_are_those_of_a_cpu",
)


def errors_of(folder: Path, *checks: str) -> dict[str, str]:
    command = [sys.executable, "-m", "tests.on_gpu.checks", str(folder), *checks]
    done = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2_000:]
    return json.loads(done.stdout.splitlines()[-1])


def test_what_takes_little_time(tmp_path):
    assert errors_of(tmp_path, *_QUICK) == {}


@pytest.mark.slow
def test_the_rest(tmp_path):
    assert errors_of(tmp_path, *_SLOW) == {}
