"""Metadata tables: rows find their files, and what cannot be read is refused with file and line."""

import json
import math
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from aai.errors import BadConfig
from aai.media.metadata import Metadata, load_metadata, metadata_from


def load(*paths: Path) -> dict[str, dict]:
    """The rows of tables, by the address of the file that each names."""
    return {row.pop("uri"): row for row in load_metadata([str(path) for path in paths]).to_pylist()}


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_known_columns_and_attributes_are_read_and_empty_cells_are_nothing(tmp_path):
    table = write(tmp_path / "sounds.csv", "file,label,caption,license,gain\na.wav,rain,,CC0,3\nb/c.wav,,wet,,\n")
    assert load(table) == {
        str(tmp_path / "a.wav"): {
            "label": "rain", "caption": None, "licence": "CC0", "attributes": '{"gain": "3"}',
            "metadata_table": str(table),
        },
        str(tmp_path / "b" / "c.wav"): {
            "label": None, "caption": "wet", "licence": None, "attributes": None, "metadata_table": str(table),
        },
    }  # fmt: skip


def test_files_are_relative_to_the_folder_of_the_table_or_absolute_or_urls(tmp_path, monkeypatch):
    (tmp_path / "tables").mkdir()
    monkeypatch.chdir(tmp_path)
    lines = ["file,label", "../sounds/a.wav,1", "./b.wav,2", "/data/c.wav,3", "s3://bucket/d.wav,4"]
    (tmp_path / "tables" / "sounds.csv").write_text("\n".join(lines))
    wanted = [f"{tmp_path}/sounds/a.wav", f"{tmp_path}/tables/b.wav", "/data/c.wav", "s3://bucket/d.wav"]
    for table in ("tables/sounds.csv", f"{tmp_path}/tables/sounds.csv"):
        assert list(load(Path(table))) == wanted


def test_a_table_in_a_bucket_names_files_beside_it():
    import fsspec

    fsspec.filesystem("memory").pipe_file("/bucket/sounds.csv", b"file,label\na.wav,rain\n")
    assert load_metadata(["memory://bucket/sounds.csv"])["uri"].to_pylist() == ["memory://bucket/a.wav"]


def test_the_last_row_of_a_file_counts(tmp_path):
    first = write(tmp_path / "first.csv", "file,label,caption\na.wav,rain,wet\na.wav,fire,\n")
    second = write(tmp_path / "second.csv", "file,label\nb.wav,snow\na.wav,hail\n")
    assert load(first)[str(tmp_path / "a.wav")]["label"] == "fire"
    row = load(first, second)[str(tmp_path / "a.wav")]
    assert (row["label"], row["caption"], row["metadata_table"]) == ("hail", None, str(second))


def test_parquet_is_read_and_its_nulls_and_nans_are_nothing(tmp_path):
    table = pa.table(
        {"file": ["a.wav", "b.wav"], "label": ["rain", None], "gain": [1.5, math.nan], "tags": [["x"], None]}
    )
    pq.write_table(table, tmp_path / "sounds.parquet")
    rows = load(tmp_path / "sounds.parquet")
    assert json.loads(rows[str(tmp_path / "a.wav")]["attributes"]) == {"gain": 1.5, "tags": ["x"]}
    assert rows[str(tmp_path / "b.wav")]["attributes"] is rows[str(tmp_path / "b.wav")]["label"] is None


def test_a_table_with_an_unnamed_index_column_is_read(tmp_path):
    """As pandas writes it."""
    table = write(tmp_path / "sounds.csv", ",file,label\n0,a.wav,rain\n1,b.wav,fire\n")
    assert [(row["label"], row["attributes"]) for row in load(table).values()] == [("rain", None), ("fire", None)]


def test_quoted_commas_line_breaks_and_a_byte_order_mark_are_read(tmp_path):
    table = write(tmp_path / "sounds.csv", '\ufefffile,caption\n"a, b.wav","rain,\nand wind"\n\n')
    assert [(uri, row["caption"]) for uri, row in load(table).items()] == [
        (str(tmp_path / "a, b.wav"), "rain,\nand wind")
    ]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("file,label\na.wav,rain\nb.wav,fire, and smoke\n", "line 3 has more fields than the header: quote texts"),
        ('file,label\n"a\n.wav",rain\nb.wav\n', "line 4 has fewer fields than the header: quote texts"),
        ("name,label\na.wav,rain\n", "there is no column `file`"),
        ("file;label\na.wav;rain\n", "there is no column `file`"),
        ('file,label\na.wav,"' + "x" * 200_000 + '"\n', "cannot be read as CSV or Parquet: field larger than"),
    ],
)
def test_a_wrong_table_is_refused_with_its_line(tmp_path, text, sentence):
    table = write(tmp_path / "sounds.csv", text)
    with pytest.raises(BadConfig) as error:
        load(table)
    assert (error.value.key, error.value.uri) == ("metadata", str(table))
    assert error.value.sentence.startswith(sentence)


@pytest.mark.parametrize("name", ["sounds.csv", "sounds.parquet"])
@pytest.mark.parametrize(
    ("data", "sentence"),
    [(b"\xff\xfe\xfa", "cannot be read as CSV or Parquet"), (None, "there is no such file: name one that exists")],
)
def test_a_file_that_is_no_table_is_refused(tmp_path, name, data, sentence):
    if data:
        (tmp_path / name).write_bytes(data)
    with pytest.raises(BadConfig, match=sentence) as error:
        load(tmp_path / name)
    assert (error.value.key, error.value.uri) == ("metadata", str(tmp_path / name))


def test_an_empty_table_has_no_rows(tmp_path):
    assert load(write(tmp_path / "sounds.csv", "")) == load(write(tmp_path / "others.csv", "file,label\n")) == {}


@pytest.mark.parametrize(
    ("values", "attributes"),
    [
        ({"gain": math.inf, "deep": [math.nan, 1]}, {"gain": None, "deep": [None, 1]}),
        ({"place": "\ud800x", "é\udfff": ["\udfff"]}, {"place": "?x", "é?": ["?"]}),
        ({"day": pa.scalar(0, pa.timestamp("s")).as_py()}, {"day": "1970-01-01 00:00:00"}),
        ({"gain": math.nan, "none": None, "empty": "", "": "unnamed"}, None),
    ],
)
def test_attributes_are_json_that_duckdb_reads(values, attributes):
    found = metadata_from(values)
    assert found == Metadata(attributes=found.attributes)
    if attributes is None:
        assert found.attributes is None
        return
    [[text]] = duckdb.execute("SELECT ($1::json)::varchar", [found.attributes]).fetchall()
    assert json.loads(text) == attributes


def test_values_of_known_columns_become_text():
    assert metadata_from({"label": 5, "caption": True, "licence": "CC0", "license": "CC1"}) == Metadata(
        label="5", caption="True", licence="CC0"
    )
