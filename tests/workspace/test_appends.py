"""Appends that meet other writers, or whose store breaks off."""

import pytest

from aai.errors import Transient
from aai.workspace import Workspace
from aai.workspace.store import Store
from tests.workspace.rows import OLD, rows_of


@pytest.fixture
def workspace(tmp_path) -> Workspace:
    return Workspace(tmp_path / "bank")


def test_endless_conflicts_end_as_transient(workspace, monkeypatch):
    """Another driver commits between each of our looks at the table and the commit that follows."""
    ours, theirs = workspace.table("clips"), Workspace(workspace.uri).table("clips")
    look, numbers = ours._stored_keys, iter(range(100))

    def look_and_lose(handle, recipe):
        known = look(handle, recipe)
        theirs.append(recipe, rows_of("clips", [f"theirs {next(numbers)}"]))
        return known

    monkeypatch.setattr(ours, "_stored_keys", look_and_lose)
    monkeypatch.setattr("aai.workspace.table._MAX_WAIT_S", 0.0)
    with pytest.raises(Transient, match="is a second run at work"):
        ours.append(OLD, rows_of("clips", ["ours"]))
    monkeypatch.undo()
    assert ours.append(OLD, rows_of("clips", ["ours"])) == 1
    assert len(ours.ids(OLD)) == next(numbers) + 1
    assert len(ours.orphans()) == next(numbers) - 1, "each refused commit left its file"


def test_a_lost_reply_doubles_nothing(workspace, monkeypatch):
    """The commit takes effect, and then the store's answer does not arrive."""
    table, commit = workspace.table("clips"), workspace.table("clips")._commit

    def commit_and_lose_the_reply(*args):
        commit(*args)
        raise Transient("the reply was lost")

    monkeypatch.setattr(table, "_commit", commit_and_lose_the_reply)
    with pytest.raises(Transient):
        table.append(OLD, rows_of("clips", ["a"]))
    monkeypatch.undo()
    assert table.append(OLD, rows_of("clips", ["a"])) == 0
    assert table.append(OLD, rows_of("clips", ["a", "b"])) == 1


@pytest.mark.parametrize("is_done", [True, False])
def test_an_append_to_a_bucket_outlives_lost_connections(workspace, monkeypatch, is_done):
    monkeypatch.setattr(Store, "is_local", False)
    monkeypatch.setattr("aai.workspace.table._MAX_WAIT_S", 0.0)
    table, num = workspace.table("clips"), 0
    commit = table._commit

    def commit_and_lose_the_reply(*args):
        nonlocal num
        num += 1
        if is_done or num > 3:
            commit(*args)
        if num <= num_lost:
            raise Transient("the connection was lost")

    monkeypatch.setattr(table, "_commit", commit_and_lose_the_reply)
    num_lost = 3
    table.append(OLD, rows_of("clips", ["a"]))
    assert table.ids(OLD).to_pylist() == ["a"] and num == (1 if is_done else 4)
    num, num_lost = 0, 4
    if not is_done:
        with pytest.raises(Transient, match="the connection was lost"):
            table.append(OLD, rows_of("clips", ["b"]))
        assert num == 4
