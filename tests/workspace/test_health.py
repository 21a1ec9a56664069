"""Findings about a workspace: orphans, missing shards, keys with several rows."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable, write_deltalake

from aai.workspace import RECIPE, Workspace
from tests.workspace.rows import NEW, OLD, rows_of


@pytest.fixture
def workspace(tmp_path) -> Workspace:
    return Workspace(tmp_path / "bank")


def test_health_finds_what_nobody_names_and_what_is_missing(workspace):
    named, missing, orphan = (workspace.shard_path("renders", OLD, f"{n}.tar") for n in ("named", "missing", "orphan"))
    for path in (named, orphan):
        place = Path(workspace.uri, path)
        place.parent.mkdir(parents=True, exist_ok=True)
        place.touch()
    renders = workspace.table("renders")
    renders.append(OLD, rows_of("renders", ["a"], shard=named), rows_of("renders", ["b"], shard=missing))
    lost = Path(workspace.uri, "renders", f"recipe={OLD}", "part-lost.parquet")
    pq.write_table(rows_of("renders", ["c"]), lost)
    begun = lost.with_name("part-begun.parquet#1")  # as a writer leaves it that is killed before it renames it
    begun.touch()
    half = Path(workspace.uri, "artifacts", "index", OLD, ".v1-0", "index.faiss")
    half.parent.mkdir(parents=True)
    half.touch()

    health = workspace.health()
    assert health.duplicates == {}
    assert health.orphan_files == [str(path.relative_to(workspace.uri)) for path in (lost, begun)]
    assert (health.orphan_shards, health.missing_shards) == ([orphan], [missing])
    assert health.leftovers == [str(half.relative_to(workspace.uri))]
    assert workspace.shard_uri("renders", OLD, "named.tar") == f"{workspace.uri}/{named}"


def test_health_counts_rows_that_share_a_key(workspace):
    clips = workspace.table("clips")
    clips.append(OLD, rows_of("clips", ["a", "b"]))
    clips.append(NEW, rows_of("clips", ["a"]))
    by_hand = rows_of("clips", ["a"]).append_column(RECIPE, pa.array([OLD]))
    write_deltalake(clips.uri, by_hand, mode="append")
    [(name, rows)] = workspace.health().duplicates.items()
    assert (name, rows.to_pylist()) == ("clips", [{RECIPE: OLD, "clip_id": "a", "rows": 2}])


def test_files_that_a_compaction_replaced_are_no_orphans(workspace):
    table = workspace.table("clips")
    for id in "abc":
        table.append(OLD, rows_of("clips", [id]))
    DeltaTable(table.uri).optimize.compact()
    assert table.orphans() == [] and sorted(table.ids(OLD).to_pylist()) == ["a", "b", "c"]
    assert table.append(OLD, rows_of("clips", ["a", "d"])) == 1
