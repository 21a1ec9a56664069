"""What is known of a comparison's clips."""

import json

import numpy as np
import pyarrow as pa

from tasks.evaluate.clips import truths_of


def test_degrees_that_are_no_numbers_are_counted_and_left_out():
    values = [0.5, "0.25", None, "0,5", float("inf"), True]
    clips = pa.table({"attributes": [json.dumps({"intensity": value}) for value in values] + [None]})
    notes: list[str] = []
    truths = truths_of(clips, notes)
    np.testing.assert_array_equal(truths["intensity"], [0.5, 0.25, np.nan, np.nan, np.nan, 1, np.nan])
    assert np.isnan(truths["tone"]).all()
    assert notes == ["intensity: values in the metadata that are no numbers: 2, such as '0,5'"]
