"""Profiles of the property-based tests, and the limits on each example."""

import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, configuration, settings

# Hypothesis keeps tables of Unicode there; nothing is written into the repository.
configuration.set_hypothesis_home_dir(Path(tempfile.gettempdir()) / "aai-hypothesis")

_COMMON = {
    "database": None,
    "deadline": None,  # tests.fuzz.outcome limits the processor's time, which other programs do not change
    "suppress_health_check": [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
    "print_blob": True,
}
settings.register_profile("suite", max_examples=50, derandomize=True, **_COMMON)
settings.register_profile("nightly", max_examples=int(os.environ.get("AAI_FUZZ_EXAMPLES", "2000")), **_COMMON)
settings.load_profile(os.environ.get("AAI_FUZZ_PROFILE", "suite"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A folder that all examples of a module share."""
    return tmp_path_factory.mktemp("fuzz")
