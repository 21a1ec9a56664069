"""Metadata tables: rows find their files, and what cannot be read is refused with file and line."""

import json
import math
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from aai.errors import BadConfig
from aai.media.metadata import (
    COLUMNS,
    Metadata,
    Sidecars,
    describe,
    load_metadata,
    merge,
    metadata_from,
    parse_sidecar,
)


def load(*paths: Path) -> dict[str, dict]:
    """What the rows of tables say, by the address of the file that each names."""
    rows = [row for rows in load_metadata([str(path) for path in paths]) for row in rows.to_pylist()]
    return {row["uri"]: {name: row[name] for name in COLUMNS} for row in rows}


def lines_of(*paths: Path) -> list[tuple[int, int, int, str]]:
    """Number, table, line and label of the rows of tables."""
    rows = [row for rows in load_metadata([str(path) for path in paths]) for row in rows.to_pylist()]
    return [(row["number"], row["source"], row["line"], row["label"]) for row in rows]


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_known_columns_and_attributes_are_read_and_empty_cells_are_nothing(tmp_path):
    table = write(tmp_path / "sounds.csv", "file,label,caption,license,gain\na.wav,rain,,CC0,3\nb/c.wav,,wet,,\n")
    assert load(table) == {
        str(tmp_path / "a.wav"): {
            "label": "rain", "caption": None, "licence": "CC0", "attributes": '{"gain": "3"}',
        },
        str(tmp_path / "b" / "c.wav"): {
            "label": None, "caption": "wet", "licence": None, "attributes": None,
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
    assert list(load("memory://bucket/sounds.csv")) == ["memory://bucket/a.wav"]


def test_rows_are_numbered_over_all_tables_and_have_their_lines(tmp_path):
    first = write(tmp_path / "first.csv", 'file,label\n"a\n.wav",rain\na.wav,fire\n\n')
    second = write(tmp_path / "second.jsonl", '\n{"file_name": "b.wav", "label": "snow"}\n')
    assert lines_of(first, second) == [(0, 0, 2, "rain"), (1, 0, 4, "fire"), (2, 1, 2, "snow")]


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


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_delimiters_and_unicode_encodings_are_recognised(tmp_path, delimiter, encoding):
    lines = [["File", " Label ", "License", "Ort"], ["a;b,c.wav", "Möwe", "CC0", "Sylt"], ["", "", "", ""]]
    text = "".join(delimiter.join(f'"{field}"' for field in line) + "\r\n" for line in lines)
    (tmp_path / "sounds.csv").write_bytes(text.encode(encoding))
    assert load(tmp_path / "sounds.csv") == {
        str(tmp_path / "a;b,c.wav"): {
            "label": "Möwe", "caption": None, "licence": "CC0", "attributes": '{"Ort": "Sylt"}',
        }
    }  # fmt: skip


def test_a_table_of_excel_names_its_delimiter(tmp_path):
    table = write(tmp_path / "sounds.csv", "sep=;\nfile;label\na.wav;rain, heavy\n")
    assert lines_of(table) == [(0, 0, 3, "rain, heavy")]


@pytest.mark.parametrize("name", ["metadata.jsonl", "metadata.json", "metadata.ndjson"])
@pytest.mark.parametrize("is_array", [True, False])
def test_json_is_read_with_nan_and_nested_values(tmp_path, name, is_array):
    rows = [
        '{"file_name": "a.wav", "label": NaN, "tags": ["x"]}',
        '{"file_name": "b.wav", "label": 5, "licence": "nan"}',
    ]
    write(tmp_path / name, f"[{', '.join(rows)}]" if is_array else "\n".join(rows))
    first, second = load(tmp_path / name).values()
    assert (first["label"], first["attributes"]) == (None, '{"tags": ["x"]}')
    assert (second["label"], second["licence"]) == ("5", None)


@pytest.mark.parametrize("column", ["file_name", "FileName", " path"])
def test_other_names_of_the_column_of_files(tmp_path, column):
    assert list(load(write(tmp_path / "m.csv", f"{column},label\n.\\x\\a.wav,rain\n"))) == [f"{tmp_path}/x/a.wav"]


def test_numbers_as_labels_in_parquet(tmp_path):
    """With a missing value, pandas makes floats of integers."""
    columns = {"file": ["a.wav", "b.wav", "c.wav"], "label": [3.0, math.nan, 0.5], "data": [b"\xff", None, None]}
    pq.write_table(pa.table(columns), tmp_path / "m.parquet")
    assert [row["label"] for row in load(tmp_path / "m.parquet").values()] == ["3", None, "0.5"]


def test_parquet_of_any_types_is_read(tmp_path):
    columns = {
        "file": pa.array(["a.wav", "b.wav"]).dictionary_encode(),
        "label": [True, False],
        "when": pa.array([2**62, 0], pa.timestamp("us")),  # the year 148,107
        "exactly": pa.array([None, 1], pa.timestamp("ns")),
        "nested": [{"a": [1, 2]}, None],
    }
    pq.write_table(pa.table(columns), tmp_path / "m.parquet")
    found = load(tmp_path / "m.parquet")
    assert [row["label"] for row in found.values()] == ["true", "false"]
    first, second = (json.loads(row["attributes"]) for row in found.values())
    assert str(2**62) in first["when"] and first["nested"] == {"a": [1, 2]}
    assert second["when"].startswith("1970-01-01 00:00:00") and second["exactly"].startswith("1970-01-01 00:00:00")


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("file,label\na.wav,rain\nb.wav,fire, and smoke\n", "line 3 has more fields than the header (3, not 2): quote"),
        ('file,label\n"a\n.wav",rain\nb.wav\n', "line 4 has fewer fields than the header (1, not 2): quote texts that"),
        ("name,label\na.wav,rain\n", "there is no column `file`"),
        ('file,label\na.wav,"' + "x" * 200_000 + '"\n', "line 2 cannot be read: field larger than"),
        ('file,label\na.wav,rain\nb.wav,"fire\nc.wav,snow\n', "line 3 cannot be read: unexpected end of data"),
        ("file,label,Label\na.wav,rain,rain\n", "two columns are called `label`"),
        ("file,licence,License\na.wav,CC0,CC0\n", "two columns are called `licence`"),
        ("path,file_name\na,b\n", "the columns `file_name` and `path` could each name the files"),
        (b"file,label\na.wav,M\xf6we\n", "line 2 is not UTF-8: save the table as UTF-8"),
        ("file,label\ra.wav,rain\r", "its lines end as those of old Macs (CR): save it with the line ends of"),
    ],
)
def test_a_wrong_table_is_refused_with_its_line(tmp_path, text, sentence):
    (tmp_path / "sounds.csv").write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(BadConfig) as error:
        load(tmp_path / "sounds.csv")
    assert (error.value.key, error.value.uri) == ("metadata", str(tmp_path / "sounds.csv"))
    assert error.value.sentence.startswith(sentence)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ('{"file": "a.wav"}\n{"file": \n', "line 2 is not JSON"),
        ('{"file": "a.wav"}\n[1]\n', "line 2 is not a JSON object"),
        ('{"file": "a.wav", "file": "b.wav"}', "line 1 is not JSON: the key 'file' stands twice"),
        ('{"label": "rain"}', "there is no column `file`"),
        ("[{]", "the array is not JSON"),
    ],
)
def test_wrong_json_is_refused_with_its_line(tmp_path, text, sentence):
    with pytest.raises(BadConfig) as error:
        load(write(tmp_path / "m.jsonl", text))
    assert error.value.sentence.startswith(sentence)


@pytest.mark.parametrize(
    ("name", "data", "sentence"),
    [
        ("sounds.csv", b"\xff\xfa\xfa", "line 1 is not UTF-8"),
        ("sounds.parquet", b"\xff\xfa\xfa", "cannot be read as a table"),
        ("sounds.csv", None, "there is no such file: name one that exists"),
        ("sounds.parquet", None, "there is no such file: name one that exists"),
    ],
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
        ({"gain": math.nan, "none": None, "empty": "", "": "unnamed", "place": "nan"}, None),
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
        label="5", caption="true", licence="CC0"
    )


def test_of_several_sources_the_last_value_counts_in_each_column_and_disputes_are_named():
    first = Metadata(label="rain", licence="CC0", attributes='{"gain": 1, "place": "Oslo"}')
    second = Metadata(caption="wet", licence="CC BY", attributes='{"gain": 2, "day": "x"}')
    merged, disputed = merge([first, second])
    assert merged == Metadata("rain", "wet", "CC BY", '{"day": "x", "gain": 2, "place": "Oslo"}')
    assert disputed == ["licence", "gain"]
    assert merge([first, first]) == (first, [])


@pytest.mark.parametrize(
    ("name", "names"),
    [
        ("x/a.jpg", ["x/a.txt", "x/a.json", "x/a.info.json", "x/a.jpg.json"]),
        ("x/a.wav", ["x/a.txt", "x/a.json", "x/a.info.json"]),
        ("x/2024.01 rain.jpg", ["x/2024.01 rain.json"]),
        ("x/2024.02 fire.jpg", []),
        ("a.jpg", []),
    ],
)
def test_sidecars_belong_to_the_file_with_their_name(name, names):
    found = [*["x/a.jpg.json", "x/a.json", "x/a.txt", "x/a.info.json", "x/2024.01 rain.json", "x/ab.json"]]
    assert Sidecars(found).names_of(name) == names


def test_the_first_dot_counts_only_for_members_without_a_sidecar_of_their_own():
    sidecars = Sidecars(["1.json", "1.left.json", "2.json"], ["1.left.jpg", "1.right.jpg", "2.jpg"])
    assert sidecars.names_of("1.left.jpg") == ["1.json", "1.left.json"]
    assert sidecars.names_of("1.right.jpg") == ["1.json"] and sidecars.names_of("2.jpg") == ["2.json"]


@pytest.mark.parametrize(
    ("name", "data", "values", "fault"),
    [
        ("a.json", b'\xef\xbb\xbf{"label": NaN, "license": "CC0"}', {"licence": "CC0"}, None),
        ("a.json", b'{"label": "rain"', {}, "a.json is not JSON"),
        ("a.json", b"[" * 100_000, {}, "a.json is not JSON"),
        ("a.json", b'["rain"]', {}, "a.json is not a JSON object"),
        ("a.json", json.dumps({"formats": ["x" * 10_000], "title": "Rain"}).encode(), {"title": "Rain"}, None),
        ("a.txt", "Möwe\n".encode(), {"caption": "Möwe"}, None),
        ("a.txt", "Möwe".encode("latin-1"), {}, "a.txt is not UTF-8"),
        ("a.cls", b"rain\n", {"label": "rain"}, None),
    ],
)
def test_a_sidecar_says_something_or_why_not(name, data, values, fault):
    sidecar = parse_sidecar(name, data)
    assert (sidecar.values, sidecar.fault) == (values, fault)


def test_of_several_sidecars_the_last_counts_and_a_broken_one_is_named():
    sidecars = [
        parse_sidecar("a.txt", b"wet"),
        parse_sidecar("a.cls", b"\xff"),
        parse_sidecar("a.json", b'{"caption": "dry"}'),
    ]
    assert describe(sidecars) == (Metadata(caption="dry"), "a.cls is not UTF-8")
