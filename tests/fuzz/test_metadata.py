"""Any table and any sidecar is metadata that tables can store, or an error."""

import io
from dataclasses import astuple

import pyarrow as pa
import pyarrow.parquet
from hypothesis import given
from hypothesis import strategies as st

from aai.media.metadata import Sidecars, describe, load_metadata, parse_sidecar
from tests.corpus.metadata import TABLES
from tests.fuzz.inputs import near_one_of, near_text, scalars, texts
from tests.fuzz.outcome import outcome_of

_CSV = tuple(table.data() for table in TABLES if table.name.endswith(".csv"))
_PARQUET = tuple(table.data() for table in TABLES if table.name.endswith(".parquet"))
_JSON = (
    b'{"label": "rain", "caption": "heavy rain", "licence": "CC0", "place": {"city": "Oslo", "at": [1.5, null]}}',
    b'{"label": "\\ud83c\\udf27", "number": 12345678901234567890, "nothing": NaN}',
)
_TEXT = 'file,label,licence\nsounds/1.wav,rain,CC0\n"sounds/2.wav","fire, and\nwind",\n'
_SIGNS = ",;\t\"\n\r \u00e9\ufeff\x00/.\\'"

_NAMES = st.sampled_from(("1.png", "1.2.png", "folder/1.png", ".png", "1", "1.png.png"))
_COLUMNS = ("label", "caption", "licence", "license", "x", "")
_VALUES = scalars | st.lists(texts, max_size=2) | st.dictionaries(texts, scalars, max_size=2)


@st.composite
def _rows(draw: st.DrawFn) -> list[dict]:
    """Rows with columns of one type each, mostly; the column `file` is a text, mostly."""
    kinds = {name: draw(st.sampled_from(_TYPES)) for name in draw(st.sets(st.sampled_from(_COLUMNS), max_size=3))}
    kinds["file"] = draw(st.sampled_from((texts, texts, texts, _VALUES)))
    return draw(st.lists(st.fixed_dictionaries({name: kind | st.none() for name, kind in kinds.items()}), max_size=3))


_TYPES = (
    texts,
    st.integers(-(2**63), 2**63 - 1),
    st.floats(),
    st.dates(),
    st.binary(max_size=8),
    st.booleans(),
    _VALUES,
)


def _load(path: str) -> list[pa.Table]:
    found = load_metadata([path])
    return [found] if isinstance(found, pa.Table) else list(found)


@given(near_text(_TEXT, _SIGNS) | near_one_of(_CSV))
def test_any_csv_is_metadata_or_an_error(folder, data):
    path = folder / "table.csv"
    path.write_bytes(data)
    outcome_of(lambda: _load(str(path)))


@given(near_one_of(_PARQUET))
def test_any_parquet_is_metadata_or_an_error(folder, data):
    path = folder / "table.parquet"
    path.write_bytes(data)
    outcome_of(lambda: _load(str(path)))


@given(_rows())
def test_a_parquet_with_columns_of_any_type_is_metadata_or_an_error(folder, rows):
    path = folder / "columns.parquet"
    try:
        pa.parquet.write_table(pa.Table.from_pylist(rows), path)
    except (pa.ArrowException, TypeError, ValueError, OverflowError):  # Arrow cannot store these values
        return
    outcome_of(lambda: _load(str(path)))


@given(_NAMES, st.lists(st.tuples(_NAMES, st.sampled_from((".json", ".cls", ".txt")), near_one_of(_JSON)), max_size=3))
def test_any_sidecars_are_metadata_that_a_table_can_store(name, files):
    def metadata() -> pa.Table:
        beside = {f"{stem.rsplit('.', 1)[0] or 'x'}{suffix}": data for stem, suffix, data in files}
        found = Sidecars(beside, [name])
        described, fault = describe(parse_sidecar(one, beside[one]) for one in found.names_of(name))
        return pa.table([pa.array([value], pa.string()) for value in (*astuple(described), fault)], list("abcde"))

    outcome_of(lambda: pa.parquet.write_table(metadata(), io.BytesIO()))
