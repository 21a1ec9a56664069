"""A table on real Delta: what was appended is there once and whole, whatever dies in between."""

import json
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable, write_deltalake

from aai.errors import BadConfig, Transient
from aai.workspace import RECIPE, SCHEMAS, Workspace
from tests.workspace.rows import HEALTHY, NEW, OLD, rows_of, slice_ids


@pytest.fixture
def workspace(tmp_path) -> Workspace:
    return Workspace(tmp_path / "bank")


def in_process(code: str, *args, **kwargs) -> subprocess.Popen:
    """Run code that finds `ids` and `rows_of` here."""
    folders = [str(Path(__file__).parent), str(Path(__file__).parents[2])]
    start = f"import sys; sys.path[:0] = {folders!r}; from test_table import *\n"
    return subprocess.Popen(
        [sys.executable, "-c", start + code, *map(str, args)], stdout=subprocess.PIPE, text=True, **kwargs
    )


def test_a_table_that_is_not_there_is_empty(workspace):
    table = workspace.table("cues")
    assert table.read().schema == SCHEMAS["cues"].stored
    assert table.read(["vector"], NEW).column_names == ["vector"]
    assert len(table.ids(NEW)) == table.read().num_rows == 0
    assert table.recipes() == {} and table.orphans() == [] and table.duplicates().num_rows == 0
    assert workspace.health() == HEALTHY
    assert not Path(workspace.uri).exists()


def test_a_table_that_was_created_and_not_appended_to_is_empty(workspace):
    table = workspace.table("cues")
    table._open_or_create()  # a driver killed after this leaves the table so
    assert DeltaTable(table.uri).version() == 0
    assert table.read().schema == SCHEMAS["cues"].stored and len(table.ids(OLD)) == 0
    assert table.recipes() == {} and workspace.health() == HEALTHY
    assert table.append(OLD, rows_of("cues", ["a"])) == 1


def test_reading_takes_columns_a_recipe_and_a_filter(workspace):
    table = workspace.table("scores")
    table.append(OLD, rows_of("scores", ["a", "b"]))
    table.append(NEW, rows_of("scores", ["c"]))
    assert table.read(["render_id"], OLD, pc.field("value") > 0).to_pydict() == {"render_id": ["b"]}
    assert sorted(table.ids(OLD).to_pylist()) == ["a", "b"]
    assert table.recipes() == {OLD: 2, NEW: 1}
    with pytest.raises(ValueError, match=r"scores\.colour"):
        table.read(["colour"])


def test_slices_share_a_commit_and_no_rows_make_none(workspace):
    table = workspace.table("images")
    table.append(OLD, rows_of("images", ["a"]), rows_of("images", ["b", "c"]))
    version = DeltaTable(table.uri).version()
    assert (
        table.append(OLD)
        == table.append(OLD, rows_of("images", []))
        == table.append(OLD, rows_of("images", ["b"]))
        == 0
    )
    assert DeltaTable(table.uri).version() == version == 1


@pytest.mark.parametrize("again", ["the same object", "another object"])
def test_a_row_is_there_once_however_often_it_is_appended(workspace, again):
    table = workspace.table("scores")
    first = rows_of("scores", ["a", "b"], metric="clip score")
    assert table.append(OLD, first, first) == 2
    table = table if again == "the same object" else workspace.table("scores")
    assert table.append(OLD, first, rows_of("scores", ["b"], metric="preservation")) == 1
    assert table.append(NEW, first) == 2
    assert table.recipes() == {OLD: 3, NEW: 2}
    assert workspace.health() == HEALTHY


def test_the_first_of_several_rows_with_one_key_stays(workspace):
    table = workspace.table("clips")
    table.append(OLD, rows_of("clips", ["a", "b", "a"]))
    assert table.read(["clip_id", "channels"]).sort_by("clip_id").to_pydict() == {
        "clip_id": ["a", "b"],
        "channels": [0, 1],
    }


@pytest.mark.parametrize(
    "change, said",
    [
        (lambda rows: rows.drop_columns(["vector"]), r"aligned_vectors\.vector is missing: give it as list<"),
        (lambda rows: rows.append_column("colour", pa.array(["red"])), r"no column aligned_vectors\.colour"),
        (lambda rows: rows.append_column(RECIPE, pa.array([OLD])), r"no column aligned_vectors\.recipe"),
        (
            lambda rows: rows.set_column(1, "vector", pa.array([[1.0]])),
            r"\.vector is list<item: double>: give it as list<",
        ),
        (
            lambda rows: rows.set_column(0, "clip_id", pa.array([None], pa.string())),
            r"aligned_vectors\.clip_id has nulls",
        ),
        (lambda rows: rows.set_column(1, "vector", pa.array([[None]], pa.list_(pa.float32()))), r"\.vector has nulls"),
    ],
)
def test_a_wrong_column_is_named(workspace, change, said):
    table = workspace.table("aligned_vectors")
    with pytest.raises(ValueError, match=said):
        table.append(OLD, change(rows_of("aligned_vectors", ["a"])))
    assert table.read().num_rows == 0


def test_a_table_gets_columns_that_came_later(workspace):
    table = workspace.table("image_listing")
    older = rows_of("image_listing", ["a"]).drop_columns(["licence"]).append_column(RECIPE, pa.array([OLD]))
    write_deltalake(table.uri, older, partition_by=[RECIPE])
    assert table.read(["licence"])["licence"].to_pylist() == [None]
    table.append(OLD, rows_of("image_listing", ["b"], licence="CC0"))
    table.append(OLD, rows_of("image_listing", ["c"], licence="CC0"))
    assert table.read(["file_id", "licence"]).sort_by("file_id")["licence"].to_pylist() == [None, "CC0", "CC0"]


def test_a_table_with_a_required_column_that_is_gone_asks_for_a_new_folder(workspace):
    table = workspace.table("images")
    uri = pa.field("uri", pa.string(), nullable=False)
    older = rows_of("images", ["a"]).append_column(uri, [["a.png"]]).append_column(RECIPE, [[OLD]])
    write_deltalake(table.uri, older, partition_by=[RECIPE])
    for use in (
        table.read,
        table.recipes,
        table.compact,
        lambda: table.drop(OLD),
        lambda: table.append(OLD, rows_of("images", ["b"])),
    ):
        with pytest.raises(BadConfig, match="an earlier version of AAI wrote this table .column uri.") as error:
            use()
        assert (error.value.key, error.value.uri) == ("workspace", table.uri)
    assert DeltaTable(table.uri).version() == 0


def test_recipes_stand_side_by_side_for_any_reader_of_parquet(workspace):
    table = workspace.table("cues")
    for recipe, ids in ((OLD, ["a", "b"]), (NEW, ["a"])):
        table.append(recipe, rows_of("cues", ids))
    plain = pq.read_table(f"{workspace.uri}/cues/recipe={OLD}")
    assert plain["clip_id"].to_pylist() == ["a", "b"]
    assert plain["vector"].to_pylist() == table.read(["vector"], OLD)["vector"].to_pylist()
    assert pq.read_table(f"{workspace.uri}/cues").num_rows == 3


def test_a_table_whose_comments_were_other_words_goes_on(tmp_path):
    table = Workspace(tmp_path).table("images")
    said = [column.with_metadata({"comment": f"once {column.name}"}) for column in table.schema.stored]
    DeltaTable.create(table.uri, pa.schema(said), partition_by=[RECIPE])
    assert table.append(OLD, rows_of("images", ["a"])) == 1
    assert Workspace(tmp_path).table("images").append(OLD, rows_of("images", ["a", "b"])) == 1
    assert sorted(table.ids(OLD).to_pylist()) == ["a", "b"]


def test_a_table_written_before_there_were_some_columns_goes_on(tmp_path):
    table = Workspace(tmp_path).table("renders")
    new = {"mode", "blend"}
    before = rows_of("renders", ["a"]).drop_columns(list(new)).append_column(table.schema.stored.field(RECIPE), [[OLD]])
    stored = [column for column in table.schema.stored if column.name not in new]
    write_deltalake(table.uri, before.cast(pa.schema(stored)), partition_by=[RECIPE])
    assert table.read()["mode"].to_pylist() == [None]
    later = rows_of("renders", ["a", "b"])
    assert table.append(OLD, later) == 1 and table.append(NEW, later) == 2
    rows = Workspace(tmp_path).table("renders").read(recipe=OLD).sort_by("render_id")
    expected = pa.concat_tables([before.select(["render_id"]), later.slice(1)], promote_options="default")
    for name in ("render_id", "mode", "blend"):
        assert rows[name].to_pylist() == expected[name].to_pylist()
    assert later["mode"][1].as_py() is not None
    in_delta = {column.name: column for column in DeltaTable(table.uri).schema().fields}
    assert new <= in_delta.keys() and all(in_delta[name].nullable for name in new)
    assert Workspace(tmp_path).health().duplicates == {}


APPEND = """
import json, os
workspace, journal = Workspace(sys.argv[1]), open(sys.argv[2], "a")
table = workspace.table("cues")
done = set(table.ids(OLD).to_pylist())
todo = [ids for ids in slice_ids(int(sys.argv[3]), int(sys.argv[4])) if not set(ids) <= done]
print("ready", flush=True)
for pair in zip(todo[::2], todo[1::2] + [[]] * (len(todo) % 2)):
    table.append(OLD, *(rows_of("cues", ids) for ids in pair))
    journal.write(json.dumps([ids for ids in pair if ids]) + "\\n")
    journal.flush()
    os.fsync(journal.fileno())
"""


def acknowledged(journal: Path) -> set[str]:
    """The ids whose commit was written down; a line that the kill cut off says nothing."""
    lines = journal.read_text().splitlines(keepends=True) if journal.exists() else []
    return {id for line in lines if line.endswith("\n") for ids in json.loads(line) for id in ids}


def test_writers_at_the_same_time_lose_and_double_nothing(workspace, tmp_path):
    bounds = [(0, 30), (20, 50)]
    journals = [tmp_path / f"journal {first}" for first, _ in bounds]
    writers = [in_process(APPEND, workspace.uri, journal, *b) for journal, b in zip(journals, bounds, strict=True)]
    assert [writer.communicate(timeout=60) and writer.returncode for writer in writers] == [0, 0]
    ids = workspace.table("cues").ids(OLD).to_pylist()
    assert sorted(ids) == sorted(sum(slice_ids(0, 50), []))
    assert set.union(*map(acknowledged, journals)) == set(ids)


@pytest.mark.parametrize("num_kills", [5, pytest.param(15, marks=pytest.mark.chaos)])
def test_a_killed_writer_leaves_whole_slices_and_all_it_acknowledged(workspace, tmp_path, num_kills):
    num_slices, chance = 4000, random.Random(7)
    kills = [chance.uniform(0, 0.25) for _ in range(num_kills)]
    for after_s in kills:
        writer = in_process(APPEND, workspace.uri, tmp_path / "journal", 0, num_slices)
        assert writer.stdout.readline() == "ready\n"
        time.sleep(after_s)
        writer.send_signal(signal.SIGKILL)
        writer.communicate()
        assert writer.returncode == -signal.SIGKILL
        there = workspace.table("cues").ids(OLD).to_pylist()
        assert len(set(there)) == len(there), after_s
        assert acknowledged(tmp_path / "journal") <= set(there), after_s
        numbers = {int(id.split("-")[0]) for id in there}
        assert set(there) == set(sum((slice_ids(n, n + 1)[0] for n in numbers), [])), after_s
    assert 0 < len(numbers) < num_slices
    writer = in_process(APPEND, workspace.uri, tmp_path / "journal", 0, max(numbers) + 3)
    assert writer.communicate(timeout=60) and writer.returncode == 0
    assert set(workspace.table("cues").ids(OLD).to_pylist()) == set(sum(slice_ids(0, max(numbers) + 3), []))


def test_a_process_that_read_ends_well(workspace):
    workspace.table("cues").append(OLD, *(rows_of("cues", ids) for ids in slice_ids(0, 200)))
    read = """
import sys; from aai.workspace import Workspace
w = Workspace(sys.argv[1]); w.table("cues").read(); w.health()
with w.query({"cues": "ab12"}) as query: query.number("SELECT count(*) FROM cues")
"""
    command = [sys.executable, "-c", read, workspace.uri]
    readers = [subprocess.Popen(command, stdout=subprocess.PIPE) for _ in range(4)]
    assert [reader.communicate(timeout=60) and reader.returncode for reader in readers] == [0] * 4


def test_a_full_disk_is_said_and_leaves_the_table_as_it_was(workspace):
    table = workspace.table("clips")
    table.append(OLD, rows_of("clips", ["a"]))
    fill = """
import os, resource
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
try:
    Workspace(sys.argv[1]).table("clips").append(OLD, rows_of("clips", [os.urandom(16).hex() for _ in range(5_000)]))
except Transient as error:
    print(error)
"""
    writer = in_process(fill, workspace.uri)
    assert "look at disk space" in writer.communicate(timeout=60)[0] and writer.returncode == 0
    assert table.ids(OLD).to_pylist() == ["a"]
    assert table.append(OLD, rows_of("clips", ["b"])) == 1


def test_a_file_is_removed_once_and_then_no_longer_listed(workspace):
    table = workspace.table("renders")
    for ids in slice_ids(0, 3):
        table.append(OLD, rows_of("renders", ids))
    table.compact()
    unused = table.vacuum(0.0, dry_run=True)
    assert len(unused) == 3 and table.vacuum(0.0, dry_run=False) == unused
    version = DeltaTable(table.uri).version()
    assert table.vacuum(0.0, dry_run=True) == [] == table.vacuum(0.0, dry_run=False)
    assert DeltaTable(table.uri).version() == version


def test_rows_that_another_writer_commits_during_a_rewrite_are_not_lost(workspace):
    table = workspace.table("cues")
    table.append(OLD, rows_of("cues", ["a", "b"]))

    def read_rows() -> pa.RecordBatchReader:
        rows = table.read(table.schema.columns.names, OLD)
        Workspace(workspace.uri).table("cues").append(OLD, rows_of("cues", ["c"]))
        return rows.slice(0, 1).to_reader()

    with pytest.raises(Transient):
        table.rewrite(OLD, read_rows)
    assert sorted(table.ids(OLD).to_pylist()) == ["a", "b", "c"]


def test_a_rewrite_replaces_the_rows_of_its_recipe_alone(workspace):
    table = workspace.table("cues")
    table.append(OLD, rows_of("cues", ["a", "b"]))
    table.append(NEW, rows_of("cues", ["a"]))
    table.rewrite(OLD, lambda: table.read(table.schema.columns.names, OLD).sort_by("clip_id").slice(0, 1).to_reader())
    assert (table.ids(OLD).to_pylist(), table.ids(NEW).to_pylist()) == (["a"], ["a"])
    assert table.append(OLD, rows_of("cues", ["b"])) == 1


DAMAGES = {"cut": lambda data: data[:-50], "empty": lambda data: b"", "noise": lambda data: b"?" * len(data)}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_data_is_a_sentence_wherever_it_is_read(workspace, damage):
    workspace.table("cues").append(OLD, rows_of("cues", ["a"]))
    [path] = Path(workspace.uri, "cues").glob("recipe=*/*.parquet")
    path.write_bytes(DAMAGES[damage](path.read_bytes()))
    with pytest.raises(BadConfig, match="the table's data is damaged: copy its folder back") as error:
        workspace.table("cues").read()
    assert error.value.uri == workspace.table("cues").uri
    with workspace.query({"cues": OLD}) as query, pytest.raises(BadConfig, match="data file of the bank is damaged"):
        query.table("SELECT * FROM cues")


def test_a_damaged_log_is_a_sentence(workspace):
    workspace.table("cues").append(OLD, rows_of("cues", ["a"]))
    logs = sorted(Path(workspace.uri, "cues", "_delta_log").glob("*.json"))
    logs[-1].write_bytes(b"?" * 100)
    with pytest.raises(BadConfig, match="the table's log is damaged") as error:
        workspace.table("cues").read()
    assert (error.value.key, error.value.uri) == ("workspace", workspace.table("cues").uri)


def test_a_data_file_that_is_gone_is_said(workspace):
    workspace.table("cues").append(OLD, rows_of("cues", ["a"]))
    [path] = Path(workspace.uri, "cues").glob("recipe=*/*.parquet")
    path.unlink()
    with pytest.raises(Transient, match="a file is gone"):
        workspace.table("cues").read()


def test_the_ids_that_other_writers_commit_are_news_once(workspace):
    own, other = (workspace.table("clips") for _ in range(2))
    assert list(own.ids_of_others(OLD)) == []
    own.append(OLD, rows_of("clips", ["a"]))
    assert list(own.ids_of_others(OLD)) == []
    other.append(OLD, rows_of("clips", ["a", "b"]))
    other.append(NEW, rows_of("clips", ["c"]))
    assert own.append(OLD, rows_of("clips", ["b", "d"])) == 1
    assert list(own.ids_of_others(OLD)) == ["b"] and list(own.ids_of_others(OLD)) == []
    other.append(OLD, rows_of("clips", ["e"]))
    own.compact()
    assert "e" in set(own.ids_of_others(OLD)), "a compaction hides nothing"
    assert own.append(OLD, rows_of("clips", ["a", "b", "d", "e"])) == 0


def test_the_first_rows_of_a_table_that_others_create_are_theirs(tmp_path):
    own, other = (Workspace(tmp_path / "bank").table("clips") for _ in range(2))
    assert list(own.ids_of_others(OLD)) == []
    other.append(OLD, rows_of("clips", ["a"]))
    assert list(own.ids_of_others(OLD)) == ["a"]
    assert own.append(OLD, rows_of("clips", ["a", "b"])) == 1
