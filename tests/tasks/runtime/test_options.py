"""Options of workers and of the driver have bounds, and unknown ones are refused."""

import pytest
from pydantic import ValidationError

from tasks.runtime.options import PoolOptions, RunOptions


@pytest.mark.parametrize(
    "wrong",
    [{"num_workers": -1}, {"cpus_per_worker": 0}, {"gpus_per_worker": -1}, {"slice_size": 0}, {"deadline_s": 0},
     {"max_attempts": 0}, {"backoff_s": -1}, {"workers": 3}],
    ids=str,
)  # fmt: skip
def test_a_wrong_option_of_workers_is_refused(wrong):
    with pytest.raises(ValidationError):
        PoolOptions(**wrong)


@pytest.mark.parametrize(
    "wrong", [{"max_reject_fraction": 1.1}, {"commit_slices": 0}, {"commit_s": 0}, {"commit": 3}], ids=str
)
def test_a_wrong_option_of_the_driver_is_refused(wrong):
    with pytest.raises(ValidationError):
        RunOptions(**wrong)


@pytest.mark.parametrize("kind", [PoolOptions, RunOptions])
def test_every_option_has_a_description(kind):
    assert all(field.description for field in kind.model_fields.values())
