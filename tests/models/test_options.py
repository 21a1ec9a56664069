"""Rendering options: bounds, and scheduler names that exist."""

import subprocess
import sys
from typing import get_args

import pytest
from pydantic import ValidationError

from aai.models.options import RenderOptions, Scheduler
from aai.models.schedulers import new_scheduler
from tests.models.shrunk import new_ddim


@pytest.mark.parametrize(
    "options",
    [{"steps": 0}, {"steps": 1001}, {"guidance": -1}, {"guidance": float("inf")}, {"width": 100}, {"height": 4}]
    + [{"scheduler": "heun"}, {"format": "gif"}, {"quality": 101}, {"batch_size": 0}, {"step": 3}],
)
def test_values_out_of_bounds_and_unknown_keys_are_refused(options):
    with pytest.raises(ValidationError):
        RenderOptions(**options)


def test_options_are_frozen():
    with pytest.raises(ValidationError, match="frozen"):
        RenderOptions().steps = 3


@pytest.mark.parametrize("name", [None, *get_args(Scheduler)])
def test_every_scheduler_name_makes_a_scheduler(name):
    options = RenderOptions(scheduler=name)
    scheduler = new_scheduler(new_ddim(), options.scheduler)
    scheduler.set_timesteps(options.steps)
    assert scheduler.config.beta_start == new_ddim().config.beta_start
    assert (name is None) == (type(scheduler) is type(new_ddim()) and name != "ddim")


def test_importing_the_options_imports_nothing_heavy():
    probe = "import sys, aai.models.options; print(*sorted({'torch', 'diffusers', 'numpy'} & sys.modules.keys()))"
    ran = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True)
    assert ran.stdout.split() == []
