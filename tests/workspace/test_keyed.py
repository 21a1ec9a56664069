"""Rows are found by their ids in memory and in a mapped file, and are null where there is none."""

import pyarrow as pa
import pytest

from aai.identity import content_id
from aai.workspace.keyed import KeyedRows

SCHEMA = pa.schema([("image_id", pa.string()), ("uri", pa.string()), ("offset", pa.int64())])
IDS = sorted(content_id(b"%d" % number) for number in range(1_000))


def rows(first: int, last: int) -> pa.Table:
    numbers = range(first, last)
    return pa.table([IDS[first:last], [f"{number}.jpg" for number in numbers], list(numbers)], schema=SCHEMA)


@pytest.fixture(params=["memory", "disk"])
def keyed(request, tmp_path) -> KeyedRows:
    if request.param == "memory":
        return KeyedRows(pa.concat_tables([rows(0, 300), rows(300, 1_000)]), "image_id")
    return KeyedRows.on_disk(iter([rows(0, 300), rows(300, 1_000)]), SCHEMA, "image_id", tmp_path / "rows.arrow")


def test_rows_come_in_the_order_of_the_ids_asked_for(keyed):
    numbers = [999, 0, 300, 299, 0]
    found = keyed.take(pa.array([IDS[number] for number in numbers]))
    assert found["uri"].to_pylist() == [f"{number}.jpg" for number in numbers]
    assert found["offset"].to_pylist() == numbers


def test_an_unknown_id_is_null_and_none_of_its_neighbours(keyed):
    found = keyed.take(pa.array([content_id(b"unknown"), IDS[5], "f" * 32]))
    assert found["uri"].to_pylist() == [None, "5.jpg", None]


def test_without_rows_everything_is_null(tmp_path):
    empty = KeyedRows.on_disk(iter([]), SCHEMA, "image_id", tmp_path / "rows.arrow")
    assert empty.take(pa.array(IDS[:2]))["uri"].to_pylist() == [None, None]
    assert keyed_columns(empty) == SCHEMA.names


def keyed_columns(rows: KeyedRows) -> list[str]:
    return rows.take(pa.array(IDS[:1])).column_names
