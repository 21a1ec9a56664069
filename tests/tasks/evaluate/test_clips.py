"""What is known of a comparison's clips."""

import json

import numpy as np
import pyarrow as pa

from tasks.evaluate.clips import notes_on_labels, truths_of


def test_degrees_that_are_no_numbers_are_counted_and_left_out():
    values = [0.5, "0.25", None, "0,5", float("inf"), True]
    clips = pa.table({"attributes": [json.dumps({"intensity": value}) for value in values] + [None]})
    notes: list[str] = []
    truths = truths_of(clips, notes)
    np.testing.assert_array_equal(truths["intensity"], [0.5, 0.25, np.nan, np.nan, np.nan, 1, np.nan])
    assert np.isnan(truths["tone"]).all()
    assert notes == ["intensity: values in the metadata that are no numbers: 2, such as '0,5'"]


def test_labels_that_some_metrics_leave_out_are_counted():
    labels = ["rain", "dog_bark", "dog_bark", "cat", None, ""]
    clips = pa.table({"clip_id": [str(number) for number in range(6)], "label": labels})
    rows = [{"clip_id": str(number), "judge_intensity": 0.5} for number in range(6)]
    rows[0]["judge_phenomenon"] = 1.0
    assert notes_on_labels(clips, rows) == [
        "clips without a label: 2; phenomenon, CLIPScore, AIC and rank correlations leave them out",
        "labels that the judge does not know, of 3 clips: dog_bark (2), cat (1)",
    ]
    assert notes_on_labels(clips.slice(0, 1), rows[:1]) == []
    assert notes_on_labels(clips.slice(1, 1), [{"clip_id": "1"}]) == []  # without a judge
