"""Durations are rounded to two units."""

import pytest

from aai.format import duration


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0, "0.0 s"),
        (3.21, "3.2 s"),
        (60.0, "1 min 0 s"),
        (250.4, "4 min 10 s"),
        (3600.0, "1 h 0 min"),
        (7530.0, "2 h 5 min"),
    ],
)
def test_a_duration_has_at_most_two_units(seconds, text):
    assert duration(seconds) == text
