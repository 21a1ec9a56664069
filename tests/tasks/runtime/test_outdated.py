"""What was made from labels that have changed since is removed with all that was made from it, whatever happens."""

import pytest

from aai.errors import Transient
from aai.workspace import Table
from tasks.fit import CUES
from tasks.runtime.outdated import remove_outdated
from tasks.runtime.run import Run
from tests.bank import CLIPS, DIM, add_clips, append, rows_of, run_on

TABLES = ("scores", "renders", "cues")
KEPT = {"scores": ["a"], "renders": ["a"], "cues": [CLIPS[0]]}


@pytest.fixture
def run(tmp_path) -> Run:
    """Two cues with a picture each, of which the second was fitted on an image that is no longer a neighbour."""
    run = run_on(tmp_path, retrieve={"method": "label"})
    add_clips(run)
    for number, render_id in enumerate("ab"):
        clip = CLIPS[number]
        append(run, "neighbours", [{"clip_id": clip, "image_ids": ["x", "y"], "similarities": [1.0, 0.5]}])
        append(run, "cues", [{"clip_id": clip, "vector": [0.0] * 2 * DIM, "seed": 0, "image_ids": ["xz"[number]]}])
        where = {"shard": "s.tar", "key": "k", "offset": 0, "num_bytes": 1, "checksum": "c"}
        append(run, "renders", [{"render_id": render_id, "clip_ids": [clip]} | where])
        append(run, "scores", [{"render_id": render_id, "metric": "m", "value": 1.0}])
    part = {"id": "z", "part_of": CLIPS[1], "stage": "fit", "sentence": "the image is gone"}
    append(run, "rejects", [part, part | {"part_of": CLIPS[0], "rejected_at": 9}], of="cues")
    return run


def left(run: Run) -> dict[str, list[str]]:
    return {name: [row[run.workspace.schemas[name].id] for row in rows_of(run, name)] for name in TABLES}


def test_rows_made_from_outdated_ones_go_with_them_and_with_their_rejects(run, caplog):
    remove_outdated(run, CUES)
    assert left(run) == KEPT
    assert [row["part_of"] for row in run.workspace.table("rejects").read().to_pylist()] == [CLIPS[0]]
    assert "fit: made from labels that have changed since" in caplog.text
    assert "1 rows of cues, 1 rows of renders, 1 rows of scores" in caplog.text
    caplog.clear()
    remove_outdated(run, CUES)
    assert left(run) == KEPT and not caplog.text


@pytest.mark.parametrize("last", range(1, 5))
def test_a_removal_that_is_killed_is_done_again(run, monkeypatch, last):
    rewrite, rewritten = Table.rewrite, []

    def die(self, *arguments) -> None:
        rewritten.append(self.name)
        if len(rewritten) == last:
            raise KeyboardInterrupt
        rewrite(self, *arguments)

    monkeypatch.setattr(Table, "rewrite", die)
    with pytest.raises(KeyboardInterrupt):
        remove_outdated(run, CUES)
    monkeypatch.undo()
    assert len(left(run)["cues"]) == 2
    remove_outdated(run, CUES)
    assert left(run) == KEPT


def test_a_removal_is_tried_again_where_another_run_writes_at_the_same_time(run, monkeypatch):
    rewrite, conflicts = Table.rewrite, [Transient("another run wrote at the same time")] * 3

    def conflict(self, *arguments) -> None:
        if conflicts:
            raise conflicts.pop()
        rewrite(self, *arguments)

    monkeypatch.setattr(Table, "rewrite", conflict)
    remove_outdated(run, CUES)
    assert left(run) == KEPT


def test_where_retrieval_does_not_use_labels_nothing_is_outdated(run, tmp_path):
    assert CUES.outdated_ids(run_on(tmp_path).config) == ""
