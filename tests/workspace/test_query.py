"""SQL over the tables of a workspace: streams in file order, reads what it needs, and leaves nothing behind."""

import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import write_deltalake

from aai.errors import Transient
from aai.workspace import RECIPE, SCHEMAS, VIEWS, Query, Workspace
from aai.workspace.query import _database_of

OLD, NEW = "ab12", "cd34"
RECIPES = dict.fromkeys(SCHEMAS, NEW)
NUM = 3_000  # more than DuckDB's vectors of 2,048 rows


@pytest.fixture
def workspace(tmp_path) -> Workspace:
    return Workspace(tmp_path / "bank")


def rows_of(name: str, *rows: dict) -> pa.Table:
    """Rows of a table; required columns that a row lacks are zero or empty."""
    columns = SCHEMAS[name].columns
    blank = {column.name: None if column.nullable else _blank(column.type) for column in columns}
    return pa.Table.from_pylist([blank | row for row in rows], schema=columns)


def _blank(kind: pa.DataType) -> object:
    if pa.types.is_list(kind):
        return []
    return "" if pa.types.is_string(kind) else False if pa.types.is_boolean(kind) else 0


def append(workspace: Workspace, name: str, *rows: dict, recipe: str = NEW) -> None:
    workspace.table(name).append(recipe, rows_of(name, *rows))


def append_vectors(workspace: Workspace, *commits: list[str]) -> None:
    for ids in commits:
        append(workspace, "aligned_vectors", *({"clip_id": clip_id, "vector": [1.0]} for clip_id in ids))


def column(workspace: Workspace, sql: str, **extra: pa.Table) -> list:
    """The first column of a result."""
    with workspace.query(RECIPES, extra) as query:
        return query.table(sql).column(0).to_pylist()


# Streams


def test_rows_stream_in_the_order_of_their_files(workspace):
    commits = [[f"{letter}{number}" for number in range(NUM)] for letter in "cab"]
    append_vectors(workspace, *commits)
    with workspace.query(RECIPES) as query:
        parts = [part["clip_id"].to_pylist() for part in query.batches("SELECT clip_id FROM aligned_vectors", 1_000)]
    assert len(parts) > 3 and sum(parts, []) == sum(commits, [])


def test_a_join_keeps_the_order_of_its_left_side_and_an_anti_join_leaves_out(workspace):
    commits = [[f"{letter}{number}" for number in range(NUM)] for letter in "cab"]
    append_vectors(workspace, *commits)
    ids = sorted(sum(commits, []))
    append(workspace, "clips", *({"clip_id": clip_id, "content_id": clip_id} for clip_id in ids))
    append(workspace, "cues", *({"clip_id": clip_id} for clip_id in ids[::2]))
    joined = "SELECT v.clip_id FROM aligned_vectors v JOIN clips c USING (clip_id)"
    assert column(workspace, joined) == sum(commits, [])
    left = column(workspace, f"SELECT clip_id FROM ({joined}) i ANTI JOIN cues USING (clip_id)")
    assert left == [clip_id for clip_id in sum(commits, []) if clip_id in set(ids[1::2])]


def test_only_the_rows_of_a_recipe_are_there(workspace):
    append(workspace, "cues", {"clip_id": "old"}, recipe=OLD)
    append(workspace, "cues", {"clip_id": "new"})
    assert column(workspace, "SELECT clip_id FROM cues") == ["new"]
    with workspace.query(RECIPES | {"cues": OLD}) as query:
        assert query.table("SELECT clip_id FROM cues")["clip_id"].to_pylist() == ["old"]


def test_columns_that_older_files_lack_are_null(workspace):
    older = rows_of("renders", {"render_id": "a"}).drop_columns(["mode", "blend"])
    write_deltalake(workspace.table("renders").uri, older.append_column(RECIPE, [[NEW]]), partition_by=[RECIPE])
    assert column(workspace, "SELECT mode FROM renders") == [None]
    append(workspace, "renders", {"render_id": "b", "mode": "edit", "blend": 0.5})
    with workspace.query(RECIPES) as query:
        rows = query.table("SELECT render_id, mode, blend FROM renders ORDER BY render_id").to_pylist()
    assert rows == [
        {"render_id": "a", "mode": None, "blend": None},
        {"render_id": "b", "mode": "edit", "blend": 0.5},
    ]


@pytest.mark.parametrize("name", [*SCHEMAS, *VIEWS])
def test_in_an_empty_workspace_every_table_and_view_is_empty(workspace, name):
    assert column(workspace, f"SELECT * FROM {name}") == []
    assert not Path(workspace.uri).exists()


def test_a_number_is_that_of_a_single_row_and_null_is_zero(workspace):
    append_vectors(workspace, ["a", "b"])
    with workspace.query(RECIPES) as query:
        assert query.number("SELECT count(*) FROM aligned_vectors") == 2
        assert query.number("SELECT max(listed_at) FROM audio_listing") == 0


# What is read


def remove_all_but(workspace: Workspace, name: str, kept: str) -> None:
    """Delete the data files of a table except that of a clip."""
    for path in workspace.table(name).files(NEW):
        if kept not in pq.read_table(path)["clip_id"].to_pylist():
            Path(path).unlink()


def test_narrowed_tables_are_read_only_where_ids_are_pending(workspace):
    """Once a query is narrowed, the other files are not opened any more: it works although they are gone."""
    append_vectors(workspace, ["a", "b"], ["c"], ["d"])
    sql = "SELECT v.clip_id FROM aligned_vectors v SEMI JOIN pending p ON v.clip_id = p.id"
    with workspace.query(RECIPES) as query, workspace.query(RECIPES) as whole:
        for each in (query, whole):
            each.keep_ids("pending", ["c"])
        query.narrow("pending", "clip_id", sql)
        whole.number("SELECT count(*) FROM aligned_vectors")
        remove_all_but(workspace, "aligned_vectors", "c")
        assert query.table(sql)["clip_id"].to_pylist() == ["c"]
        with pytest.raises(Transient, match="a data file is gone"):
            whole.table(sql)
        with workspace.query(RECIPES) as later, pytest.raises(Transient, match="a data file is gone"):
            later.table(sql)


def test_narrowing_leaves_tables_with_other_keys_whole(workspace):
    append(workspace, "image_vectors", {"image_id": "a"}, {"image_id": "b"})
    append_vectors(workspace, ["c"])
    with workspace.query(RECIPES) as query:
        query.keep_ids("pending", ["nothing"])
        query.narrow("pending", "clip_id", "SELECT * FROM aligned_vectors, image_vectors")
        assert query.number("SELECT count(*) FROM image_vectors") == 2
        assert query.number("SELECT count(*) FROM aligned_vectors") == 0


def test_a_table_in_memory_hides_a_stored_one_and_a_view(workspace):
    append_vectors(workspace, ["stored"])
    here = pa.table({"clip_id": ["here"]})
    assert column(workspace, "SELECT clip_id FROM aligned_vectors", aligned_vectors=here) == ["here"]
    assert column(workspace, "SELECT clip_id FROM present_clips", present_clips=here) == ["here"]
    assert column(workspace, "SELECT clip_id FROM wanted SEMI JOIN aligned_vectors USING (clip_id)", wanted=here) == []


def test_results_can_be_kept_and_tables_filled(workspace):
    append_vectors(workspace, ["a", "b"])
    schema = pa.schema([("number", pa.int64())])
    with workspace.query(RECIPES) as query:
        assert query.keep("few", "SELECT clip_id FROM aligned_vectors WHERE clip_id <> 'a'") == 1
        assert query.keep("few", "SELECT clip_id FROM aligned_vectors") == 2
        query.fill("numbers", schema)
        assert query.number("SELECT count(*) FROM numbers") == 0
        for numbers in ([1, 2], [3]):
            query.fill("numbers", schema, pa.table({"number": numbers}, schema=schema))
        assert query.table("SELECT number FROM numbers")["number"].to_pylist() == [1, 2, 3]


# Temporary files


@pytest.fixture
def temporary(tmp_path, monkeypatch) -> Iterator[Path]:
    """The folder of temporary files of a process that has run no query yet."""
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    _database_of.cache_clear()
    yield tmp_path / "temporary"
    _database_of.cache_clear()


def spilled(temporary: Path) -> int:
    """Bytes of temporary files but for empty tables."""
    return sum(path.stat().st_size for path in temporary.rglob("*.tmp"))


def spill(query: Query) -> int:
    """Keep and sort 40 MB under a limit of 30 MB, and return the number of rows."""
    query.keep("many", "SELECT md5(range::varchar) AS text FROM range(1_000_000)")
    return query.number("SELECT count(*) FROM (SELECT DISTINCT text FROM many ORDER BY text)")


def test_what_does_not_fit_into_memory_is_spilled_and_gone_after_closing(workspace, temporary, monkeypatch):
    monkeypatch.setattr("aai.workspace.query.MEMORY_LIMIT", "30MB")
    with workspace.query(RECIPES) as query:
        assert spill(query) == 1_000_000
        assert spilled(temporary)
    assert not spilled(temporary)
    del query
    _database_of.cache_clear()  # as at the end of the process
    assert list(temporary.iterdir()) == []


def test_nothing_is_left_of_a_query_that_is_given_up(workspace, temporary):
    append_vectors(workspace, *([f"{letter}{number}" for number in range(NUM)] for letter in "ab"))
    with workspace.query(RECIPES) as query:
        rows = query.batches("SELECT * FROM aligned_vectors", 100)
        assert next(rows).num_rows
        del rows
    with pytest.raises(RuntimeError), workspace.query(RECIPES) as query:
        query.number("SELECT count(*) FROM aligned_vectors")
        raise RuntimeError("a worker failed")
    assert not spilled(temporary)


# Views: files that were listed, and what is in them


def listed(file_id: str, at: int, **changes: object) -> dict:
    return {"file_id": file_id, "uri": f"{file_id}.wav", "is_present": True, "listed_at": at} | changes


def ingested(*pairs: tuple[str, str]) -> list[dict]:
    return [{"file_id": file_id, "content_id": content_id, "num_items": 1} for file_id, content_id in pairs]


def clip(clip_id: str, content_id: str) -> dict:
    return {"clip_id": clip_id, "content_id": content_id}


def view(workspace: Workspace, name: str, *columns: str) -> list[dict]:
    with workspace.query(RECIPES) as query:
        rows: list[dict] = query.table(f"SELECT {', '.join(columns)} FROM {name}").to_pylist()
    return rows


def test_a_clip_has_the_location_and_the_newest_metadata_of_its_file(workspace):
    append(workspace, "audio_listing", listed("f", 1, label="rian"), listed("f", 2, label="rain", licence="CC0"))
    append(workspace, "audio_files", *ingested(("f", "c")))
    append(workspace, "clips", clip("1", "c"), clip("2", "c"))
    rows = view(workspace, "present_clips", "clip_id", "uri", '"offset"', "label", "licence")
    assert sorted(row["clip_id"] for row in rows) == ["1", "2"]
    assert [row | {"clip_id": ""} for row in rows] == [
        {"clip_id": "", "uri": "f.wav", "offset": None, "label": "rain", "licence": "CC0"}
    ] * 2


def test_clips_of_a_file_that_is_gone_are_known_and_not_present_until_it_is_back(workspace):
    append(workspace, "audio_listing", listed("f", 1), listed("f", 2, is_present=False))
    append(workspace, "audio_files", *ingested(("f", "c")))
    append(workspace, "clips", clip("1", "c"))
    assert view(workspace, "present_clips", "clip_id") == []
    assert view(workspace, "known_clips", "uri", "is_present") == [{"uri": "f.wav", "is_present": False}]
    append(workspace, "audio_listing", listed("f", 3))
    assert view(workspace, "present_clips", "clip_id") == [{"clip_id": "1"}]


def test_a_moved_file_is_found_where_it_is_now_without_a_new_clip(workspace):
    append(workspace, "audio_listing", listed("old", 1, label="rain"), listed("old", 2, is_present=False))
    append(workspace, "audio_listing", listed("new", 2, label="rain"))
    append(workspace, "audio_files", *ingested(("old", "c"), ("new", "c")))
    append(workspace, "clips", clip("1", "c"))
    assert view(workspace, "present_clips", "clip_id", "uri") == [{"clip_id": "1", "uri": "new.wav"}]
    assert view(workspace, "known_clips", "uri") == [{"uri": "new.wav"}]


@pytest.mark.parametrize(
    ("files", "uri"),
    [
        ([listed("b", 1), listed("a", 1)], "a.wav"),
        ([listed("b", 1, label="rain"), listed("a", 1)], "b.wav"),
        ([listed("b", 1), listed("a", 1, label="rain", is_present=False)], "b.wav"),
        ([listed("b", 1, is_present=False), listed("a", 1, is_present=False)], "a.wav"),
    ],
)
def test_of_several_files_with_equal_bytes_one_counts(workspace, files, uri):
    """One that is present, then one with a label, then the first by its address."""
    append(workspace, "audio_listing", *files)
    append(workspace, "audio_files", *ingested(("a", "c"), ("b", "c")))
    append(workspace, "clips", clip("1", "c"))
    [row] = view(workspace, "known_clips", "uri", "label")
    assert row["uri"] == uri
    assert row["label"] == next(file.get("label") for file in files if file["uri"] == uri)


def test_members_of_tars_have_their_own_metadata_and_go_with_their_tar(workspace):
    append(workspace, "image_listing", listed("tar", 1, uri="more.tar", is_tar=True, label="of the tar"))
    members = [
        {"tar_id": "tar", "file_id": f"m{number}", "name": f"{number}.png", "offset": 512 * number, "num_bytes": 9}
        for number in (1, 2)
    ]
    append(workspace, "image_members", *(member | {"label": member["name"]} for member in members))
    append(workspace, "image_files", *ingested(("m1", "i1"), ("m2", "i2")))
    append(workspace, "images", {"image_id": "i1"}, {"image_id": "i2"})
    rows = view(workspace, "present_images", "image_id", "uri", '"offset"', "num_bytes", "label")
    assert sorted(rows, key=lambda row: row["image_id"]) == [
        {"image_id": f"i{number}", "uri": "more.tar", "offset": 512 * number, "num_bytes": 9, "label": f"{number}.png"}
        for number in (1, 2)
    ]
    append(workspace, "image_listing", listed("tar", 2, uri="more.tar", is_tar=True, is_present=False))
    assert view(workspace, "present_images", "image_id") == []


def test_described_cues_are_sorted_and_have_no_vectors(workspace):
    append(workspace, "audio_listing", listed("f", 1, label="rain"))
    append(workspace, "audio_files", *ingested(("f", "c")))
    append(workspace, "clips", *(clip(clip_id, "c") for clip_id in "abc"))
    append(workspace, "cues", *({"clip_id": clip_id, "vector": [1.0], "method": "mapper"} for clip_id in "cab"))
    with workspace.query(RECIPES) as query:
        cues = query.described_cues().read_all()
    assert cues["clip_id"].to_pylist() == ["a", "b", "c"]
    assert {"label", "method", "duration_s", "uri"} <= set(cues.column_names)
    assert not {"vector", "loss_curve", "image_ids"} & set(cues.column_names)


@pytest.mark.parametrize("name", ["number", "table", "keep"])
def test_an_interrupt_ends_a_query(workspace, name):
    """As Ctrl-C does; the connection stays usable."""
    sql = "SELECT count(*) AS n FROM range(100000000000)"

    def interrupt(number, frame):
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, 0.3)
    try:
        with workspace.query(RECIPES) as query:
            with pytest.raises(KeyboardInterrupt):
                query.keep("counted", sql) if name == "keep" else getattr(query, name)(sql)
            assert query.number("SELECT 5") == 5
    finally:
        signal.signal(signal.SIGALRM, before)
