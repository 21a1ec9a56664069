"""The rows of tables that users write: CSV, TSV, JSON lines and Parquet, each row with its line number.

Tables are read as streams, so their length does not matter.
"""

import codecs
import csv
import io
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain
from typing import Any

import fsspec

from aai.errors import BadConfig
from aai.store_errors import store_errors

FILE = "file"
"""The column that names the file."""

_FILE_NAMES = (FILE, "file_name", "filename", "path")
_LICENCE_NAMES = ("licence", "license")
_KNOWN = ("label", "caption", *_LICENCE_NAMES)
_SPOKEN = {",": "comma", ";": "semicolon", "\t": "tab"}
_BATCH_ROWS = 10_000

Row = tuple[int, dict[str, Any]]
"""The number of a line, or of a row of Parquet, from 1; and its values by column."""

Names = tuple[str | None, ...]


@dataclass(frozen=True)
class Header:
    """What the columns of a kind of tables are called."""

    wanted: tuple[str, ...]
    """Names of which each table has one, in lower case: they tell which delimiter a file has."""
    names_of: Callable[[str, tuple[str, ...]], Names]
    """The names of the columns of a table, given its path and header; none for a column that is left out."""


def read_rows(path: str) -> Iterator[Row]:
    """The rows of a table of metadata; its column of file names is called `file`, other known ones are in lower case.

    Raises:
        BadConfig: as `read_named`.
    """
    for number, values in read_named(path, Header(_FILE_NAMES, _column_names)):
        name = values[FILE]  # a row without a name is counted with the others
        yield number, values | {FILE: "" if name is None else str(name)}


def read_named(path: str, header: Header) -> Iterator[Row]:
    """The rows of a table, by the names that the header gives to its columns.

    Raises:
        BadConfig: the table cannot be read, or a line is malformed; the sentence has the line number.
    """
    name = path.lower()
    try:
        with store_errors(f"reading {path}", "metadata"), fsspec.open(path, "rb") as stream:
            if name.endswith((".parquet", ".pq")):
                yield from _parquet_rows(path, stream, header)
            elif name.endswith((".jsonl", ".ndjson", ".json")):
                yield from _json_rows(path, _lines(path, stream), header)
            else:
                choices = "\t,;" if name.endswith((".tsv", ".tab")) else ",;\t"
                yield from _csv_rows(path, _lines(path, stream), header, choices)
    except FileNotFoundError as error:
        raise _bad(path, "there is no such file: name one that exists") from error
    except (OSError, ValueError, OverflowError, ImportError, csv.Error) as error:  # ValueError: also of pyarrow
        raise _bad(path, f"cannot be read as a table of CSV, TSV, JSON lines or Parquet: {error}") from error


def _bad(path: str, sentence: str) -> BadConfig:
    return BadConfig(sentence, key="metadata", uri=path)


def _lines(path: str, stream: Any) -> Iterator[tuple[int, str]]:
    """The numbered lines of a text in UTF-8, or in UTF-16 with a byte order mark."""
    start = stream.read(2)
    stream.seek(0)
    if start in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
        yield from enumerate(io.StringIO(stream.read().decode("utf-16"), newline=""), 1)
        return
    for number, line in enumerate(stream, 1):
        try:
            text = line.decode()
        except UnicodeDecodeError as error:
            raise _bad(path, f"line {number} is not UTF-8: save the table as UTF-8") from error
        yield number, text.removeprefix("\ufeff") if number == 1 else text


def _csv_rows(path: str, lines: Iterator[tuple[int, str]], kind: Header, choices: str) -> Iterator[Row]:
    before, header = next(((number - 1, line) for number, line in lines if _is_header(line)), (0, ""))
    if not header:
        return
    if "\r" in header.rstrip("\r\n"):
        raise _bad(path, "its lines end as those of old Macs (CR): save it with the line ends of Unix or Windows")
    delimiter = _delimiter(header, choices, kind.wanted)
    reader = csv.reader(chain([header], (line for _, line in lines)), delimiter=delimiter, strict=True)
    names: Names = ()
    while True:
        number = before + reader.line_num + 1
        try:
            fields = next(reader, None)
        except csv.Error as error:  # an open quote would take the rest of the table into one field
            raise _bad(path, f"line {number} cannot be read: {error}; look for a quote that is not closed") from error
        if fields is None:
            return
        if not names:
            names = kind.names_of(path, tuple(fields))
        elif any(fields):
            yield _row(number, names, _checked(path, number, fields, len(names), delimiter))


def _is_header(line: str) -> bool:
    """Whether a line is neither empty nor a line such as `sep=;`, which Excel writes above the header."""
    text = line.strip()
    return bool(text) and not (text.lower().startswith("sep=") and len(text) == len("sep=;"))


def _checked(path: str, number: int, fields: list[str], num: int, delimiter: str) -> list[str]:
    if len(fields) == num:
        return fields
    raise _bad(
        path,
        f"line {number} has {'more' if len(fields) > num else 'fewer'} fields than the header ({len(fields)}, not "
        f"{num}): quote texts that hold a {_SPOKEN[delimiter]}",
    )


def _delimiter(header: str, choices: str, wanted: Sequence[str]) -> str:
    """The delimiter with which the header has a wanted column; else the most frequent one."""
    for delimiter in choices:
        if any(plain_name(name) in wanted for name in next(csv.reader([header], delimiter=delimiter), [])):
            return delimiter
    return max(choices, key=header.count)


def _json_rows(path: str, lines: Iterator[tuple[int, str]], header: Header) -> Iterator[Row]:
    """Rows of JSON lines, or of one JSON array of objects."""
    filled = ((number, line) for number, line in lines if line.strip())
    first = next(filled, (1, ""))
    if first[1].lstrip().startswith("["):
        text = "".join(line for _, line in chain([first], filled))
        numbered: Iterable[tuple[int, Any]] = enumerate(_loads(path, text, "the array"), 1)
    else:
        numbered = ((number, _loads(path, line, f"line {number}")) for number, line in chain([first], filled) if line)
    for number, value in numbered:
        if not isinstance(value, dict):
            raise _bad(path, f"line {number} is not a JSON object: write one object a line")
        yield _row(number, header.names_of(path, tuple(value)), list(value.values()))


def _loads(path: str, text: str, what: str) -> Any:
    try:
        return json.loads(text, parse_constant=lambda constant: None, object_pairs_hook=_without_duplicates)
    except (ValueError, RecursionError) as error:  # also an integer of thousands of digits
        raise _bad(path, f"{what} is not JSON: {error or 'nested too deep'}") from error


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"the key {next(name for name in names if names.count(name) > 1)!r} stands twice")
    return found


def _parquet_rows(path: str, stream: Any, header: Header) -> Iterator[Row]:
    import pyarrow.parquet as pq

    file, number = pq.ParquetFile(stream), 0
    names = header.names_of(path, tuple(file.schema_arrow.names))
    for batch in file.iter_batches(_BATCH_ROWS):
        columns = [_values_of(column) for column in batch.columns]
        for fields in zip(*columns, strict=True):
            number += 1
            yield _row(number, names, fields)


def _values_of(column: Any) -> list[Any]:
    """The values of a column; times that Python has no type for, as those of the year 100,000, as texts."""
    import pyarrow as pa

    try:
        return column.to_pylist()
    except (OverflowError, ValueError):  # ValueError: nanoseconds without pandas
        return column.cast(pa.string()).to_pylist()


def _row(number: int, names: Names, fields: Sequence[Any]) -> Row:
    return number, {name: value for name, value in zip(names, fields, strict=True) if name}


@lru_cache(maxsize=1024)
def _column_names(path: str, header: tuple[str, ...]) -> Names:
    """The names of the columns, in one spelling; none for a column without a name.

    Raises:
        BadConfig: none, or several, of them could name the files, or two have the same name.
    """
    plain = [plain_name(name) for name in header]
    files = [name for name in _FILE_NAMES if name in plain]
    if not files:
        raise _bad(path, "there is no column `file`: add one with the names of the files")
    if len(files) > 1 and FILE not in files:
        raise _bad(path, f"the columns {_listed(files)} could each name the files: call one of them `file`")
    names = [_spelled(name, files[0]) for name in header]
    given = ["licence" if name in _LICENCE_NAMES else name for name in names if name]
    for name in given:
        if given.count(name) > 1:
            raise _bad(path, f"two columns are called `{name}`: rename one of them")
    return tuple(name or None for name in names)


def _spelled(name: str, file_column: str) -> str:
    plain = plain_name(name)
    return FILE if plain == file_column else plain if plain in _KNOWN else name.strip()


def plain_name(name: str) -> str:
    """The name of a column without the spaces around it, in lower case."""
    return name.strip().lower()


def _listed(names: Iterable[str]) -> str:
    return " and ".join(f"`{name}`" for name in names)
