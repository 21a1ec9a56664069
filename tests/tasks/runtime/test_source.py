"""Pending items are those upstream with neither a row nor a reject; their rows stream in the order of the files."""

import pyarrow as pa
import pytest

from aai.identity import content_id
from aai.workspace import Query
from tasks.runtime.run import Run
from tasks.runtime.source import QuerySource
from tasks.runtime.stage import Stage
from tests.bank import CLIPS, add_cues, append, run_on

NAMED = Stage(
    name="align",
    table="aligned_vectors",
    reads=("clips",),
    rows="SELECT clip_id, label, duration_s FROM present_clips",
)


@pytest.fixture
def run(tmp_path) -> Run:
    return add_cues(run_on(tmp_path / "bank"))


def ids_of(rows) -> list[str]:
    return [clip_id for table in rows for clip_id in table["clip_id"].to_pylist()]


def counts(run: Run, retry_rejects: bool = False) -> tuple[int, int, int]:
    pending = QuerySource(run, NAMED).pending(retry_rejects)
    assert len(ids_of(pending.rows)) == pending.num
    return pending.total, pending.num, pending.rejected


def finish(run: Run, *clip_ids: str) -> None:
    append(run, "aligned_vectors", [{"clip_id": clip_id, "vector": [1.0]} for clip_id in clip_ids])


def reject(run: Run, clip_id: str, **columns) -> None:
    row = {"id": clip_id, "stage": "align", "sentence": "it is silent"} | columns
    append(run, "rejects", [row], of="aligned_vectors")


def test_all_items_are_pending_at_first_with_the_columns_of_the_sql(run):
    pending = QuerySource(run, NAMED).pending()
    rows = pa.concat_tables(pending.rows)
    assert (pending.total, pending.num, pending.rejected) == (5, 5, 0)
    assert rows.column_names == ["clip_id", "label", "duration_s"] and rows["clip_id"].to_pylist() == CLIPS


def test_an_item_with_a_row_or_a_reject_is_not_pending(run):
    finish(run, CLIPS[1])
    reject(run, CLIPS[2])
    assert counts(run) == (5, 3, 1)
    assert ids_of(QuerySource(run, NAMED).pending().rows) == [CLIPS[0], CLIPS[3], CLIPS[4]]


def test_rejected_items_are_pending_on_request(run):
    finish(run, CLIPS[1])
    reject(run, CLIPS[2])
    assert counts(run, retry_rejects=True) == (5, 4, 0)


def test_a_reject_whose_item_succeeded_later_does_not_count(run):
    reject(run, CLIPS[2])
    finish(run, CLIPS[2])
    assert counts(run) == counts(run, retry_rejects=True) == (5, 4, 0)


def test_a_rejected_part_does_not_make_its_item_rejected(run):
    reject(run, CLIPS[2], part_of=CLIPS[3])
    assert counts(run) == (5, 5, 0)


def test_a_reject_of_an_item_that_is_gone_does_not_count(run):
    reject(run, content_id(b"gone"))
    assert counts(run) == (5, 5, 0)


def test_rows_and_rejects_under_another_recipe_do_not_count(run):
    other = run_on(run.workspace.uri, models={"dtype": "bfloat16"})
    finish(other, CLIPS[1])
    reject(other, CLIPS[2])
    assert counts(run) == (5, 5, 0) and counts(other) == (5, 3, 1)


def test_a_query_for_the_ids_alone_gives_the_same_items(run):
    stage = Stage(**vars(NAMED) | {"items": "SELECT clip_id FROM present_clips WHERE label = 'rain'"})
    pending = QuerySource(run, stage).pending()
    assert pending.num == 2 and ids_of(pending.rows) == [CLIPS[0], CLIPS[2]]


def test_a_table_in_memory_hides_the_stored_one(run):
    clips = pa.table({"clip_id": CLIPS[:1], "label": ["rain"], "duration_s": [1.0]})
    assert QuerySource(run, NAMED, {"present_clips": clips}).pending().total == 1


def test_nothing_is_pending_in_an_empty_workspace(tmp_path):
    pending = QuerySource(run_on(tmp_path / "bank"), NAMED).pending()
    assert (pending.total, pending.num, list(pending.rows)) == (0, 0, [])


def test_an_incremental_run_reads_no_vectors_of_finished_items(run, monkeypatch):
    """A file that holds finished items alone is not opened for its vectors."""
    stage = Stage(
        name="index", table="cues", reads=("audio_vectors",), rows="SELECT clip_id, vector FROM audio_vectors"
    )
    fitted, fresh = [{"clip_id": clip_id, "vector": [1.0]} for clip_id in (CLIPS[0], content_id(b"new"))]
    append(run, "audio_vectors", [fitted])
    append(run, "audio_vectors", [fresh])
    queries = []
    reader = Query.reader
    monkeypatch.setattr(Query, "reader", lambda query, *given: (queries.append(query), reader(query, *given))[1])
    pending = QuerySource(run, stage).pending()
    assert pending.num == 1 and ids_of(pending.rows) == [fresh["clip_id"]]
    [query] = queries
    assert len(query._files["audio_vectors"]) == 1


def test_the_run_counts_as_its_configuration_asks(run):
    reject(run, CLIPS[2])
    again = run_on(run.workspace.uri, run={"retry_rejects": True})
    assert (run.pending(NAMED).num, again.pending(NAMED).num) == (4, 5)


def test_items_are_those_under_the_recipes_of_this_run(run):
    other = run_on(run.workspace.uri, ingest={"audio": {"max_duration_s": 9.0}})
    assert QuerySource(other, NAMED).pending().total == 0
