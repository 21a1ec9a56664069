"""Every table keeps what its schema says."""

import pytest
from deltalake import DeltaTable

from aai.workspace import RECIPE, SCHEMAS, Workspace
from tests.workspace.rows import OLD, rows_of


@pytest.fixture
def workspace(tmp_path) -> Workspace:
    return Workspace(tmp_path / "bank")


@pytest.mark.parametrize("name", SCHEMAS)
def test_rows_come_back_as_they_went(workspace, name):
    rows = rows_of(name, ["a", "b", "c"])
    assert workspace.table(name).append(OLD, rows) == 3
    read = workspace.table(name).read().sort_by(SCHEMAS[name].id)
    assert read.drop_columns([RECIPE]).cast(SCHEMAS[name].columns).equals(rows)
    assert read[RECIPE].to_pylist() == [OLD] * 3


@pytest.mark.parametrize("name", SCHEMAS)
def test_every_column_has_a_sentence_that_delta_keeps(workspace, name):
    table = workspace.table(name)
    table.append(OLD, rows_of(name, ["a"]))
    comments = {c.name: c.metadata.get("comment", "") for c in DeltaTable(table.uri).schema().fields}
    assert comments.keys() == set(SCHEMAS[name].stored.names)
    assert [name for name, comment in comments.items() if not comment.endswith(".")] == []
