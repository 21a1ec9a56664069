"""Rows are found by their ids, in tables and views, under any recipe."""

import pytest

from tasks.runtime.run import Run
from tasks.views.lookup import look_up
from tests.bank import CLIPS, LABELS, add_cues, run_on


@pytest.fixture
def run(tmp_path) -> Run:
    return add_cues(run_on(tmp_path / "bank"))


def test_rows_have_the_key_and_the_columns(run):
    [row] = look_up(run, "cues", [CLIPS[1]], ("method", "steps"))
    assert row == {"clip_id": CLIPS[1], "method": "mapper", "steps": 0}


def test_a_view_is_read_by_a_key_that_is_given(run):
    rows = look_up(run, "known_clips", CLIPS, ("label", "offset"), key="clip_id")
    assert {row["clip_id"]: row["label"] for row in rows} == dict(zip(CLIPS, LABELS, strict=True))


def test_ids_that_are_nowhere_or_come_twice_give_no_further_rows(run):
    assert len(look_up(run, "cues", [CLIPS[1], CLIPS[1], "0" * 32], ("method",))) == 1
    assert look_up(run, "cues", [], ("method",)) == []


def test_rows_of_another_recipe_are_read_on_request(run):
    other = run_on(run.workspace.uri, fit={"method": "inversion"})
    assert look_up(other, "cues", CLIPS, ("method",)) == []
    assert len(look_up(other, "cues", CLIPS, ("method",), {"cues": run.recipe("cues")})) == len(CLIPS)
