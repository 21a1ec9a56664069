"""Options are frozen, refuse unknown keys, carry their descriptions, and leave speed out of recipes."""

import pytest
from pydantic import Field, ValidationError

from aai.options import SPEED_ONLY, Options


class Toy(Options):
    """A toy."""

    steps: int = Field(3, gt=0)
    """How many."""

    batch_size: int = Field(8, json_schema_extra=SPEED_ONLY)

    names: tuple[str, ...] = ("a",)


def test_what_only_changes_the_speed_is_no_setting_of_a_result():
    assert Toy(batch_size=2).settings() == {"steps": 3, "names": ["a"]}


def test_the_sentence_below_a_field_is_its_description():
    assert Toy.model_fields["steps"].description == "How many."


@pytest.mark.parametrize("keys", [{"stepps": 3}, {"steps": 0}, {"steps": float("nan")}])
def test_unknown_keys_and_values_out_of_range_are_refused(keys):
    with pytest.raises(ValidationError):
        Toy(**keys)


def test_options_cannot_be_changed():
    with pytest.raises(ValidationError):
        Toy().steps = 4
