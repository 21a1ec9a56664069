"""The workspace on real Delta tables: what was appended is there once and whole, whatever dies in between."""

import json
import pickle
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
from aai.workspace import RECIPE, SCHEMAS, Workspace, subtract
from aai.workspace.artifacts import leftovers

OLD, NEW = "ab12", "cd34"
SLICE_ROWS = 5


def value_of(kind: pa.DataType, row: int):
    if pa.types.is_list(kind):
        return [value_of(kind.value_type, row), value_of(kind.value_type, row + 1)]
    if pa.types.is_boolean(kind):
        return bool(row % 2)
    return f"text {row}" if pa.types.is_string(kind) else row


def rows_of(name: str, ids, **changes) -> pa.Table:
    schema = SCHEMAS[name]
    rows = [{c.name: value_of(c.type, row) for c in schema.columns} | {schema.id: id} for row, id in enumerate(ids)]
    return pa.Table.from_pylist([row | changes for row in rows], schema=schema.columns)


def in_process(code: str, *args, **kwargs) -> subprocess.Popen:
    """Run code that finds `ids` and `rows_of` here."""
    start = f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r}); from test_workspace import *\n"
    return subprocess.Popen(
        [sys.executable, "-c", start + code, *map(str, args)], stdout=subprocess.PIPE, text=True, **kwargs
    )


def slice_ids(first: int, last: int) -> list[list[str]]:
    return [[f"{number}-{row}" for row in range(SLICE_ROWS)] for number in range(first, last)]


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


def test_a_table_that_is_not_there_is_empty(workspace):
    table = workspace.table("cues")
    assert table.read().schema == SCHEMAS["cues"].stored
    assert table.read(["vector"], NEW).column_names == ["vector"]
    assert len(table.ids(NEW)) == table.read().num_rows == 0
    assert table.recipes() == {} and table.orphans() == [] and table.duplicates().num_rows == 0
    assert workspace.health().is_good
    assert not Path(workspace.uri).exists()


def test_a_table_that_was_created_and_not_appended_to_is_empty(workspace):
    table = workspace.table("cues")
    table._open_or_create()  # a driver killed after this leaves the table so
    assert DeltaTable(table.uri).version() == 0
    assert table.read().schema == SCHEMAS["cues"].stored and len(table.ids(OLD)) == 0
    assert table.recipes() == {} and workspace.health().is_good
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
    assert workspace.health().is_good


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


def test_a_table_or_recipe_that_cannot_be_is_refused(workspace):
    with pytest.raises(ValueError, match="no table 'colours': choose one of recipes, runs, files, clips, images"):
        workspace.table("colours")
    for recipe in ("", "../up", "AB"):
        with pytest.raises(ValueError, match="is no recipe"):
            workspace.table("clips").append(recipe, rows_of("clips", ["a"]))


def test_a_table_gets_columns_that_came_later(workspace):
    table = workspace.table("images")
    older = rows_of("images", ["a"]).drop_columns(["licence"]).append_column(RECIPE, pa.array([OLD]))
    write_deltalake(table.uri, older, partition_by=[RECIPE])
    assert table.read(["licence"])["licence"].to_pylist() == [None]
    table.append(OLD, rows_of("images", ["b"], licence="CC0"))
    table.append(OLD, rows_of("images", ["c"], licence="CC0"))
    assert table.read(["image_id", "licence"]).sort_by("image_id")["licence"].to_pylist() == [None, "CC0", "CC0"]


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


@pytest.mark.parametrize("folder", ["my bank=1 é", "recipe=zz", "50% #1?", "a::b"])
def test_a_folder_may_have_an_odd_name(tmp_path, folder):
    workspace = Workspace(tmp_path / folder)
    workspace.table("clips").append(OLD, rows_of("clips", ["a"]))
    assert workspace.table("clips").read(["clip_id", RECIPE]).to_pylist() == [{"clip_id": "a", RECIPE: OLD}]
    assert workspace.health().is_good


def test_a_place_that_cannot_hold_a_workspace_is_refused(tmp_path):
    (tmp_path / "file").touch()
    for place, said in [
        (tmp_path / "file", "is not a folder"),
        (tmp_path / "a%20b", "% escape"),
        ("nowhere://bank", "fsspec cannot open"),
    ]:
        with pytest.raises(BadConfig, match=f"^workspace: .*{said}"):
            Workspace(place)


def test_secrets_are_not_shown():
    with pytest.raises(BadConfig) as failure:
        Workspace("s3://key:hunter2@bucket/bank?token=hunter2")
    workspace = Workspace("memory://bank", {"AWS_SECRET_ACCESS_KEY": "hunter2"}, {"secret": "hunter2"})
    shown = [failure.value, workspace, workspace.store, workspace.table("cues"), workspace.artifact("index", OLD)]
    assert "hunter2" not in "".join(map(repr, shown))


def test_a_workspace_can_be_sent_to_workers(workspace):
    workspace.table("clips").append(OLD, rows_of("clips", ["a"]))
    workspace.health()
    assert pickle.loads(pickle.dumps(workspace)).table("clips").ids(OLD).to_pylist() == ["a"]


# Pending


def test_ids_are_subtracted_in_order():
    ids = pa.chunked_array([["d", "a"], ["c", "b"]])
    assert subtract(ids, pa.chunked_array([["a"]]), pa.chunked_array([["x"], ["b"]])).to_pylist() == ["d", "c"]
    assert subtract(ids).to_pylist() == ["d", "a", "c", "b"]


def test_pending_is_upstream_without_done_without_rejects(workspace):
    workspace.table("neighbours").append(OLD, rows_of("neighbours", list("abcdef")))
    workspace.table("neighbours").append(NEW, rows_of("neighbours", list("xyz")))
    assert workspace.pending("neighbours", "cues", OLD, "01").to_pylist() == list("abcdef")
    workspace.table("cues").append("01", rows_of("cues", list("ab")))
    workspace.table("cues").append("02", rows_of("cues", list("cd")))
    workspace.table("rejects").append("01", rows_of("rejects", list("f")))
    workspace.table("rejects").append("02", rows_of("rejects", list("e")))
    assert workspace.pending("neighbours", "cues", OLD, "01").to_pylist() == list("cde")
    assert workspace.pending("neighbours", "cues", OLD, "01", retry_rejects=True).to_pylist() == list("cdef")
    assert workspace.pending("neighbours", "cues", OLD, "02").to_pylist() == list("abf")
    assert workspace.pending("neighbours", "cues", NEW, "01").to_pylist() == list("xyz")
    assert workspace.undone(pa.chunked_array([["q", "a"]]), "cues", "01").to_pylist() == ["q"]
    with pytest.raises(ValueError, match="cues has clip_id, renders has render_id"):
        workspace.pending("cues", "renders", OLD, "01")


# Faults

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
w = Workspace(sys.argv[1]); w.table("cues").read(); w.pending("cues", "cues", "ab12", "cd34"); w.health()
"""
    command = [sys.executable, "-c", read, workspace.uri]
    readers = [subprocess.Popen(command, stdout=subprocess.PIPE) for _ in range(8)]
    assert [reader.communicate(timeout=60) and reader.returncode for reader in readers] == [0] * 8


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
    assert "look at the disk space" in writer.communicate(timeout=60)[0] and writer.returncode == 0
    assert table.ids(OLD).to_pylist() == ["a"]
    assert table.append(OLD, rows_of("clips", ["b"])) == 1


def test_endless_conflicts_end_as_transient(workspace, monkeypatch):
    """Another driver commits between each of our looks at the table and the commit that follows."""
    ours, theirs = workspace.table("clips"), Workspace(workspace.uri).table("clips")
    look, numbers = ours._keys_known, iter(range(100))

    def look_and_lose(handle, recipe):
        known = look(handle, recipe)
        theirs.append(recipe, rows_of("clips", [f"theirs {next(numbers)}"]))
        return known

    monkeypatch.setattr(ours, "_keys_known", look_and_lose)
    monkeypatch.setattr("aai.workspace.table._LONGEST_WAIT_S", 0.0)
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


# Artifacts, shards, health


def write_index(folder: Path, text: str) -> None:
    (folder / "parts").mkdir()
    (folder / "parts" / "0.faiss").write_text(text)
    (folder / "index.json").write_text("{}")


@pytest.fixture(params=["folder", "bucket"])
def store(request, tmp_path) -> Workspace:
    return Workspace(tmp_path / "bank" if request.param == "folder" else f"memory://{tmp_path.name}")


def test_an_artifact_is_seen_whole_or_not_at_all(store, tmp_path):
    index = store.artifact("index", OLD)
    with pytest.raises(RuntimeError, match="died"), index.publish() as folder:
        write_index(folder, "half")
        raise RuntimeError("died")
    assert not index.exists() and store.artifacts() == []
    with pytest.raises(FileNotFoundError, match="index of ab12 is not published"):
        index.fetch(tmp_path / "copy")
    with index.publish() as folder:
        write_index(folder, "whole")
        assert not index.exists()
    assert index.exists() and index.uri.startswith(store.uri)
    assert (index.fetch(tmp_path / "copy") / "parts" / "0.faiss").read_text() == "whole"
    assert leftovers(store.store, store.store.files("artifacts")) == []


def test_an_upload_that_breaks_off_publishes_nothing(tmp_path, monkeypatch):
    bucket = Workspace(f"memory://{tmp_path.name}")
    index, files = bucket.artifact("index", OLD), bucket.store.filesystem

    def full(path, data, **_):
        raise OSError("full")

    monkeypatch.setattr(files, "pipe_file", full)  # the marker's way, last of all
    with pytest.raises(Transient, match="publishing memory://"), index.publish() as folder:
        write_index(folder, "half")
    monkeypatch.undo()
    assert not index.exists() and bucket.artifacts() == []
    left = leftovers(bucket.store, bucket.store.files("artifacts"))
    assert [path.split("/")[-1] for path in left] == ["index.json", "0.faiss"]
    with index.publish() as folder:
        write_index(folder, "whole")
    assert leftovers(bucket.store, bucket.store.files("artifacts")) == left


def test_artifacts_are_listed_with_their_versions(store):
    for name, recipe, version in [("index", NEW, 2), ("mapper", OLD, 1), ("index", NEW, 10), ("index", OLD, 1)]:
        with store.artifact(name, recipe, version).publish() as folder:
            write_index(folder, name)
    found = [(artifact.name, artifact.recipe, artifact.version) for artifact in store.artifacts()]
    assert found == [("index", OLD, 1), ("index", NEW, 2), ("index", NEW, 10), ("mapper", OLD, 1)]


def test_two_who_publish_at_a_time_do_not_mix(store, tmp_path):
    index = store.artifact("index", OLD)
    with index.publish() as one, index.publish() as other:
        write_index(other, "other")
        write_index(one, "one")
        (one / "one").touch(), (other / "other").touch()
    folder = index.fetch(tmp_path / "copy")
    said = (folder / "parts" / "0.faiss").read_text()
    assert sorted(path.name for path in folder.iterdir()) == sorted([said, "index.json", "parts"])


@pytest.mark.parametrize("name", ["../up", "", "a/b", ".hidden"])
def test_names_lead_nowhere_else(workspace, name):
    with pytest.raises(ValueError, match="cannot name a file"):
        workspace.artifact(name, OLD)
    with pytest.raises(ValueError, match="cannot name a file"):
        workspace.shard_path("renders", OLD, name)
    with pytest.raises(ValueError, match="is no recipe"):
        workspace.artifact("index", name)


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
    half = Path(workspace.uri, "artifacts", "index", OLD, ".v1-0", "index.faiss")
    half.parent.mkdir(parents=True)
    half.touch()

    health = workspace.health()
    assert not health.is_good and health.duplicates == {}
    assert health.orphan_files == [str(lost.relative_to(workspace.uri))]
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


def test_importing_the_workspace_pulls_in_nothing_heavy():
    probe = "import sys, aai.workspace; sys.exit(bool({'torch', 'ray', 'prefect'} & sys.modules.keys()))"
    assert subprocess.run([sys.executable, "-c", probe]).returncode == 0
