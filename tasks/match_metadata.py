"""Match rows of metadata tables to files or tar members, and merge what several sources say of one file.

All joins are DuckDB's, so they stream and spill to disk; Python sees only files of which several sources say something.
"""

import json
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby, islice
from typing import Any

import pyarrow as pa

from aai.format import without_secrets
from aai.media.metadata import COLUMNS, ROWS, Metadata, address_in, load_metadata, merge
from aai.workspace import Query

SIDECARS, TAR = -1, -2
"""In place of the number of a table: the sidecars of a file, and the row that names its tar."""

_BATCH_ROWS = 10_000
_ADDRESSES = pa.schema([("number", pa.int64()), ("uri", pa.string())])
_DESCRIBED = pa.schema([("file_id", pa.string()), *((name, pa.string()) for name in COLUMNS)])
_FOLDER = "regexp_replace({uri}, '/[^/]*$', '')"


def fill_rows(query: Query, name: str, tables: Sequence[str], suffixes: frozenset[str], others: frozenset[str]) -> None:
    """Store the rows of metadata tables, as a temporary table with the columns of `ROWS` and `is_own`.

    Rows that name files with the suffixes `others` are left out; `is_own` says whether a row names one of `suffixes`.

    Raises:
        BadConfig: a table cannot be read.
    """
    schema = ROWS.append(pa.field("is_own", pa.bool_()))
    query.fill(name, schema)
    for rows in load_metadata(tables):
        found = [os.path.splitext(text)[1].lower() for text in rows["name"].to_pylist()]
        rows = rows.append_column("is_own", pa.array([suffix in suffixes for suffix in found], pa.bool_()))
        query.fill(name, schema, rows.filter(pa.array([suffix not in others for suffix in found], pa.bool_())))


def match(query: Query, name: str, rows: str, targets: str) -> None:
    """Match rows to files, as a temporary table `name` with pairs of `number` and `file_id`.

    A name is relative to the folder of the table; if no row of a table matches so, names in it are relative to the
    current folder, and their addresses there are in the table `<name>_elsewhere`. Names that are equal in NFC are the
    same, unless a file has exactly the name.

    Args:
        query: where the rows are.
        name: the name of the temporary table.
        rows: SQL for rows with the columns of `ROWS`.
        targets: SQL for `file_id` and `uri` of the files.
    """
    _pairs(query, f"{name}_beside", rows, targets)
    silent = query.table(
        f"SELECT r.number, r.name FROM ({rows}) r ANTI JOIN (SELECT o.source FROM ({rows}) o "
        f"SEMI JOIN {name}_beside d ON o.number = d.number) s ON r.source = s.source"
    )
    folder = os.getcwd()
    query.fill(f"{name}_elsewhere", _ADDRESSES)
    for batch in silent.to_batches():
        uris = [address_in(folder, text) for text in batch["name"].to_pylist()]
        found = pa.table([batch["number"], pa.array(uris, pa.string())], schema=_ADDRESSES)
        query.fill(f"{name}_elsewhere", _ADDRESSES, found)
    _pairs(query, f"{name}_else", f"SELECT * FROM {name}_elsewhere", targets)
    query.keep(name, f"SELECT * FROM {name}_beside UNION ALL SELECT * FROM {name}_else")


def _pairs(query: Query, name: str, rows: str, targets: str) -> None:
    if not query.number(f"SELECT count(*) FROM ({rows})"):  # the targets may be millions
        query.keep(name, "SELECT NULL::BIGINT AS number, NULL::VARCHAR AS file_id WHERE false")
        return
    exact = f"SELECT r.number, t.file_id FROM ({rows}) r JOIN ({targets}) t ON r.uri = t.uri"
    query.keep(f"{name}_exact", exact)
    rest = f"SELECT r.number, r.uri FROM ({rows}) r ANTI JOIN {name}_exact d ON r.number = d.number"
    pairs = f"SELECT * FROM {name}_exact"
    if query.keep(f"{name}_rest", rest):
        pairs += (
            f" UNION ALL SELECT r.number, t.file_id FROM {name}_rest r JOIN ({targets}) t "
            "ON nfc_normalize(r.uri) = nfc_normalize(t.uri)"
        )
    query.keep(name, pairs)


def of_members(rows: str, elsewhere: str, tars: str) -> str:
    """SQL for the numbers of rows that may name members of tars: `a.tar#1.png`, `a.tar/1.png`, or a name beside a tar.

    Args:
        rows: SQL for rows.
        elsewhere: the table of their addresses in the current folder.
        tars: SQL for the `uri` of tars.
    """
    addresses = f"SELECT r.number, r.uri FROM ({rows}) r UNION ALL SELECT e.number, e.uri FROM {elsewhere} e"
    tar = "nfc_normalize(regexp_extract(a.uri, '(?i)^(.*?\\.tar)[#/]', 1))"
    folders = f"SELECT DISTINCT {_FOLDER.format(uri='t.uri')} AS folder FROM ({tars}) t"
    own = _FOLDER.format(uri="a.uri")
    of_table = "left(r.uri, length(r.uri) - length(r.name) - 1)"  # a member's name may have folders itself
    return (
        f"SELECT a.number FROM ({addresses}) a SEMI JOIN ({tars}) t ON {tar} = nfc_normalize(t.uri) UNION "
        f"SELECT a.number FROM ({addresses}) a SEMI JOIN ({folders}) f ON {own} = f.folder UNION "
        f"SELECT r.number FROM ({rows}) r SEMI JOIN ({folders}) f ON {of_table} = f.folder"
    )


@dataclass(frozen=True)
class Disputes:
    """Files of which several sources say different things."""

    num: int = 0
    """Those of which rows of metadata tables do."""
    example: str = ""
    num_corrected: int = 0
    """The others: a row corrects sidecars, or the row of the file corrects that of its tar."""
    corrected: str = ""
    """An example of these."""

    @property
    def notes(self) -> list[str]:
        """A sentence on contradictory rows, if there are any."""
        if not self.num:
            return []
        sentence = (
            f"metadata: files of which several rows say different things: {self.num:,}, for example {self.example}; "
            "the later row counts, and the later table"
        )
        return [without_secrets(sentence)]

    @property
    def corrections(self) -> list[str]:
        """A sentence on corrected files, if there are any."""
        if not self.num_corrected:
            return []
        sentence = (
            f"metadata: files of which one source corrects another: {self.num_corrected:,}, for example "
            f"{self.corrected}; a row counts more than sidecars, and both more than the row of a tar"
        )
        return [without_secrets(sentence)]


def resolve(query: Query, name: str, statements: str, tables: Sequence[str]) -> Disputes:
    """What is known of each file, as a temporary table with `file_id` and the columns of metadata.

    Args:
        query: where the statements are.
        name: the name of the temporary table.
        statements: SQL for what sources say: `file_id`, `uri` of the file, `number`, `source`, `line` and the columns
            of metadata. In each column, the value with the highest number counts.
        tables: the metadata tables.
    """
    query.keep(f"{name}_all", statements)
    query.keep(f"{name}_several", f"SELECT file_id FROM {name}_all GROUP BY file_id HAVING count(*) > 1")
    several = query.table(
        f"SELECT s.* FROM {name}_all s SEMI JOIN {name}_several o ON s.file_id = o.file_id ORDER BY file_id, number"
    )
    merging = _Merging(tables)
    query.fill(f"{name}_merged", _DESCRIBED)
    rows = (row for batch in several.to_batches(_BATCH_ROWS) for row in batch.to_pylist())
    for part in _batched(merging.merged(rows)):
        query.fill(f"{name}_merged", _DESCRIBED, pa.Table.from_pylist(part, schema=_DESCRIBED))
    columns = ", ".join(f"s.{column}" for column in _DESCRIBED.names)
    single = f"SELECT {columns} FROM {name}_all s ANTI JOIN {name}_several o ON s.file_id = o.file_id"
    query.keep(name, f"{single} UNION ALL SELECT * FROM {name}_merged")
    return Disputes(merging.num, merging.example, merging.num_corrected, merging.corrected)


@dataclass
class _Merging:
    """Merges what sources say of files, and counts disputes."""

    tables: Sequence[str]
    num: int = 0
    example: str = ""
    num_corrected: int = 0
    corrected: str = ""

    def merged(self, rows: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        for file_id, group in groupby(rows, key=lambda row: row["file_id"]):
            found = list(group)
            said = [Metadata(*(row[name] for name in COLUMNS)) for row in found]
            metadata, disputed = merge(said)
            yield {"file_id": file_id} | {name: getattr(metadata, name) for name in COLUMNS}
            if disputed:
                self._count(found, disputed)

    def _count(self, rows: list[dict[str, Any]], disputed: Sequence[str]) -> None:
        """Count a file: contradictory rows of tables are a fault, a correction by another kind of source is none."""
        of_tables = [row for row in rows if row["source"] >= 0]
        column = next((name for name in disputed if len(_values(of_tables, name)) > 1), None)
        if column:
            self.num += 1
            self.example = self.example or self._example(of_tables, column)
        else:
            self.num_corrected += 1
            self.corrected = self.corrected or self._example(rows, disputed[0])

    def _example(self, rows: list[dict[str, Any]], column: str) -> str:
        said = [(value, self._source(row)) for row in rows if (value := _value(row, column)) is not None]
        first = said[0]
        other = next(one for one in said if one[0] != first[0])
        texts = " and ".join(f"{value!r} ({source})" for value, source in (first, other))
        return f"{rows[0]['uri']}: {column} {texts}"

    def _source(self, row: dict[str, Any]) -> str:
        if row["source"] == SIDECARS:
            return "its sidecar"
        return "its tar" if row["source"] == TAR else f"{self.tables[row['source']]}, line {row['line']}"


def _values(rows: Iterable[dict[str, Any]], column: str) -> list[Any]:
    """The different values of a column, in the order of the rows; none for null."""
    found: list[Any] = []
    for row in rows:
        if (value := _value(row, column)) is not None and value not in found:
            found.append(value)
    return found


def _value(row: dict[str, Any], column: str) -> Any:
    return row[column] if column in COLUMNS else json.loads(row["attributes"] or "{}").get(column)


def _batched(rows: Iterator[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    while part := list(islice(rows, _BATCH_ROWS)):
        yield part


def unmatched(query: Query, rows: str, missing: str, elsewhere: str, targets: str, tables: Sequence[str]) -> list[str]:
    """A sentence on each table with rows that name no file.

    Args:
        query: where the rows are.
        rows: SQL for the rows that count.
        missing: SQL for those that name no file.
        elsewhere: the table of their addresses in the current folder.
        targets: SQL for the `uri` of all files.
        tables: the metadata tables.
    """
    first = "arg_min({'name': r.name, 'uri': r.uri, 'line': r.line, 'number': r.number}, r.number) AS first"
    found = query.table(
        f"SELECT r.source, count(*) AS num, {first} FROM ({missing}) r GROUP BY r.source ORDER BY r.source"
    )
    if not found.num_rows:
        return []
    counts = query.table(f"SELECT r.source, count(*) AS num FROM ({rows}) r GROUP BY r.source")
    totals = dict(zip(counts["source"].to_pylist(), counts["num"].to_pylist(), strict=True))
    sentences = (
        f"metadata: {tables[row['source']]}: {num - row['num']:,} of {num:,} rows name a file that is there; "
        f"for example line {row['first']['line']}, {row['first']['name']}: "
        + _looked_for(query, row["first"], elsewhere, targets)
        for row in found.to_pylist()
        for num in [totals[row["source"]]]
    )
    return [without_secrets(sentence) for sentence in sentences]


def _looked_for(query: Query, row: dict[str, Any], elsewhere: str, targets: str) -> str:
    """Where a file was looked for, and a file with a similar name."""
    there = query.table(f"SELECT e.uri FROM {elsewhere} e WHERE e.number = {row['number']}")["uri"].to_pylist()
    places = " or ".join(dict.fromkeys([row["uri"], *there]))
    name = row["name"].rpartition("/")[2].replace("'", "''")
    near = query.table(
        f"SELECT min(t.uri) AS uri FROM ({targets}) t "
        f"WHERE regexp_replace(lower(nfc_normalize(t.uri)), '^.*[/#]', '') = lower(nfc_normalize('{name}'))"
    )["uri"][0].as_py()
    return f"no location of audio or images has {places}" + (f"; perhaps {near} is meant" if near else "")
