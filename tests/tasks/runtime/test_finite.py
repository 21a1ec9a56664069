"""Items with a number that is not finite become rejects; nothing of them is committed."""

import numpy as np
import pyarrow as pa
import pytest

from tasks.runtime.finite import not_finite
from tasks.runtime.work import Outcome, WorkerRunner

BAD = [float("nan"), float("inf"), float("-inf")]


@pytest.mark.parametrize("bad", BAD)
@pytest.mark.parametrize("kind", [pa.float32(), pa.float64(), pa.float16()])
def test_numbers_and_lists_of_numbers_are_examined_and_nulls_are_none(bad, kind):
    number = np.float16 if kind == pa.float16() else float
    values, lists = [number(1), None, number(bad)], [[number(1), number(bad)], None, []]
    rows = pa.table({"id": ["a", "b", "c"], "n": pa.array(values, kind), "v": pa.array(lists, pa.list_(kind))})
    found = not_finite(rows, "id")
    assert {item: sentence.split(" is not")[0] for item, sentence in found.items()} == {"c": "its n", "a": "its v"}


def test_a_sliced_table_is_examined_by_its_own_rows():
    rows = pa.table({"id": ["a", "b", "c"], "v": [[float("nan")], [1.0, float("nan")], [1.0]]})
    assert set(not_finite(rows.slice(1), "id")) == {"b"} and not_finite(rows.slice(2), "id") == {}


def test_where_all_items_are_so_the_model_is_named():
    rows = pa.table({"id": ["a", "b", "b"], "n": BAD})
    [sentence] = set(not_finite(rows, "id").values())
    assert sentence.startswith("its n is not finite, as of all 2 items of its slice: a model is damaged, or overflows")


def test_a_runner_rejects_such_items_with_their_file_and_keeps_the_others():
    def worker(rows: pa.Table) -> Outcome:
        ids = rows["id"].to_pylist()
        return Outcome(pa.table({"id": [*ids, "b"], "value": [1.0, 2.0, 3.0, float("nan")]}))

    runner = WorkerRunner("id")
    runner.load(lambda: worker)
    outcome = runner.run(pa.table({"id": ["a", "b", "c"], "uri": ["a.wav", "b.wav", "c.wav"]})).outcome
    assert outcome.rows.to_pydict() == {"id": ["a", "c"], "value": [1.0, 3.0]}
    [reject] = outcome.rejects
    assert (reject.id, reject.uri, reject.error) == ("b", "b.wav", "BadItem")
    assert reject.sentence == "its value is not finite: look at its file, and at models.dtype"
