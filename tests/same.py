"""Whether two runs left the same rows."""

import numpy as np

from aai.workspace import SCHEMAS
from tasks.runtime.arrow import to_array
from tasks.runtime.run import Run

MAX_DIFFERENCE = 1e-4  # of the largest number in a vector


def assert_same(name: str, run: Run, local: Run) -> None:
    """Each item is once in a table of both runs; vectors are equal to a tolerance."""
    key = SCHEMAS[name].id
    rows, others = (own.workspace.table(name).read(recipe=own.recipe(name)).sort_by(key) for own in (run, local))
    assert len(rows) and len(rows) == len(set(rows[key].to_pylist()))
    assert rows[key].to_pylist() == others[key].to_pylist()
    if "vector" in rows.column_names:
        vectors, expected = to_array(rows["vector"]), to_array(others["vector"])
        assert np.abs(vectors - expected).max() <= MAX_DIFFERENCE * np.abs(expected).max()
    if "image_ids" in rows.column_names:
        assert rows["image_ids"].to_pylist() == others["image_ids"].to_pylist()
