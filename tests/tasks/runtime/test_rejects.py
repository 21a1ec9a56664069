"""Rejects are rows: the latest of an item is its state, and saying it again adds none."""

from aai.errors import BadItem, Unavailable
from tasks.runtime.options import RunOptions
from tasks.runtime.work import Outcome, Reject
from tests.tasks.runtime.test_driver import BAD, NUM_CLIPS, Measure, do, partial, run, vectors

__all__ = ["run"]


def test_an_item_that_is_rejected_again_has_a_second_row_with_the_new_reason(run):
    class Strict(Measure):
        def __call__(self, rows):
            return Outcome(None, [Reject.of(id, BadItem("still silent")) for id in rows["clip_id"].to_pylist()])

    do(run, partial(Measure, bad=BAD))
    do(run, Strict, RunOptions(retry_rejects=True))
    rejects = run.workspace.table("rejects").read().sort_by("rejected_at").to_pylist()
    assert [row["sentence"] for row in rejects] == ["it is silent: record it again"] * 8 + ["still silent"] * 8


def test_an_item_that_is_unavailable_again_or_lacks_the_same_part_has_no_second_row(run):
    class Lacking(Measure):
        def __call__(self, rows):
            ids = rows["clip_id"].to_pylist()
            rejects = [Reject.of(id, Unavailable("it is away: put it back")) for id in ids[:1]]
            rejects += [Reject.of("one image", BadItem("gone"), part_of=id) for id in ids[1:]]
            return Outcome(vectors(ids[1:]), rejects)

    do(run, Lacking)
    first = run.workspace.table("rejects").read().to_pylist()
    assert len(first) == NUM_CLIPS and do(run, Lacking).rejected == 40
    again = run.workspace.table("rejects").read().to_pylist()
    away = {row["id"] for row in again if row["error"] == "Unavailable"}
    assert len(away) == sum(row["error"] == "Unavailable" for row in again) == 40
