"""Every metadata table of the corpus gives its rows, or an error that names it."""

from collections.abc import Iterable

import pyarrow as pa
import pytest

from aai.errors import BadConfig
from aai.media.metadata import load_metadata
from tests.corpus import params
from tests.corpus.metadata import ROWS, TABLES, MetadataTable


def rows_of(path: str) -> list[dict]:
    found: pa.Table | Iterable[pa.Table] = load_metadata([path])
    parts = [found] if isinstance(found, pa.Table) else found
    return [row for part in parts for row in part.to_pylist()]


@pytest.mark.parametrize("table", params([table for table in TABLES if not table.sentence]))
def test_a_table_has_its_rows(table: MetadataTable, tmp_path):
    path = tmp_path / table.name
    path.write_bytes(table.data())
    found = [(row["uri"], " ".join(row["label"].split())) for row in rows_of(str(path))]
    assert found == [(str(tmp_path / name), label) for name, label in ROWS]


@pytest.mark.parametrize("table", params([table for table in TABLES if table.sentence]))
def test_a_table_that_cannot_be_used_is_an_error_that_names_it(table: MetadataTable, tmp_path):
    path = tmp_path / table.name
    path.write_bytes(table.data())
    with pytest.raises(BadConfig) as caught:
        rows_of(str(path))
    assert (caught.value.key, caught.value.uri) == ("metadata", str(path)) and table.sentence in caught.value.sentence
