"""SQL over the tables of a workspace, by DuckDB: joins that stream in file order and spill to disk.

Each table is read under one recipe. Views join clips and images with the locations and metadata of their files:
`present_clips` and `present_images` have the files that are in the source folders, `known_clips` and `known_images`
also files that were removed.

DuckDB reads the Parquet files itself: streaming them through Arrow took 1.6 times as long and 1.7 times the memory
(docs/decisions/0004).
"""

import os
import re
import shutil
import tempfile
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from functools import lru_cache
from pathlib import Path
from threading import current_thread, main_thread
from typing import TypeVar
from uuid import uuid4

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
from fsspec import AbstractFileSystem
from fsspec.implementations.local import LocalFileSystem

from aai.identity import content_id
from aai.store_errors import store_errors
from aai.workspace.immutable import ImmutableFiles
from aai.workspace.query_errors import reading
from aai.workspace.store import Store
from aai.workspace.table import Table

Result = TypeVar("Result")

BATCH_ROWS = 8_192
"""Rows of a streamed batch: 25 MB of vectors of 768 dimensions."""

_LONG_COLUMNS = ("vector", "loss_curve", "image_ids")

MEMORY_LIMIT = "1GB"
"""Above this the queries of a process spill to disk."""

_LOOSE_ITEMS = """
    SELECT file_id, uri, NULL::BIGINT AS "offset", NULL::BIGINT AS num_bytes, label, caption, licence, attributes,
           is_present FROM known_{kind}_listing WHERE NOT is_tar
"""
_ITEMS = f"""
    {_LOOSE_ITEMS}
    UNION ALL
    SELECT m.file_id, l.uri, m."offset", m.num_bytes, {{described}}, l.is_present
    FROM {{kind}}_members m JOIN known_{{kind}}_listing l ON m.tar_id = l.file_id
    LEFT JOIN known_{{kind}}_member_metadata d ON m.file_id = d.file_id
"""
_DESCRIBED = ", ".join(
    f"CASE WHEN d.file_id IS NULL THEN m.{name} ELSE d.{name} END AS {name}"
    for name in ("label", "caption", "licence", "attributes")
)
_NAMED = """
    SELECT f.content_id, i.uri || coalesce('#' || m.name, '') AS uri, i.label, i.caption, i.licence
    FROM {kind}_files f JOIN {kind}_items i ON f.file_id = i.file_id LEFT JOIN {kind}_members m ON f.file_id = m.file_id
    WHERE i.is_present
"""
_LATEST = "SELECT l.* FROM {log} l SEMI JOIN (SELECT file_id, max(listed_at) AS listed_at FROM {log} \
GROUP BY file_id) newest ON l.file_id = newest.file_id AND l.listed_at = newest.listed_at"
# Of several files with the same bytes those that are present count, and of these, for each column, the first by name
# that has a value. Location and label are of one file; so are licence and attributes, which name the author, if one has
# both. Most contents are of one file, and without an aggregate their rows are four times as fast.
_SEVERAL = "SELECT content_id FROM {kind}_files GROUP BY content_id HAVING count(*) > 1"
_LOCATED = """
    SELECT f.content_id, i.uri, i."offset", i.num_bytes, i.label, i.is_present, i.caption, i.licence, i.attributes
    FROM {kind}_files f JOIN {kind}_items i ON f.file_id = i.file_id
    ANTI JOIN ({several}) s ON f.content_id = s.content_id
    UNION ALL
    SELECT content_id, unnest(a), b.caption, c.licence, d.attributes FROM (
        SELECT f.content_id,
               arg_min({{'uri': uri, 'offset': "offset", 'num_bytes': num_bytes, 'label': label,
                         'is_present': is_present}},
                       (NOT is_present, label IS NULL, uri, coalesce("offset", 0))) AS a,
               arg_min({{'caption': caption}}, (NOT is_present, caption IS NULL, uri, coalesce("offset", 0))) AS b,
               arg_min({{'licence': licence}},
                       (NOT is_present, licence IS NULL, attributes IS NULL, uri, coalesce("offset", 0))) AS c,
               arg_min({{'attributes': attributes}},
                       (NOT is_present, attributes IS NULL, licence IS NULL, uri, coalesce("offset", 0))) AS d
        FROM {kind}_files f JOIN {kind}_items i ON f.file_id = i.file_id
        SEMI JOIN ({several}) s ON f.content_id = s.content_id GROUP BY f.content_id)
"""


def _views_of(kind: str, table: str, key: str) -> dict[str, str]:
    return {
        f"known_{kind}_listing": _LATEST.format(log=f"{kind}_listing"),
        f"known_{kind}_member_metadata": _LATEST.format(log=f"{kind}_member_metadata"),
        f"current_{kind}_listing": f"SELECT * FROM known_{kind}_listing WHERE is_present",
        f"{kind}_items": _ITEMS.format(kind=kind, described=_DESCRIBED),
        f"located_{kind}": _LOCATED.format(kind=kind, several=_SEVERAL.format(kind=kind)),
        f"named_{kind}": _NAMED.format(kind=kind),
        f"present_{kind}_files": f"SELECT f.file_id, f.content_id FROM {kind}_files f SEMI JOIN "
        f"(SELECT file_id FROM {kind}_items WHERE is_present) i ON f.file_id = i.file_id",
        f"present_{kind}_ids": f"SELECT t.{table[:-1]}_id AS id FROM {table} t "
        f"SEMI JOIN present_{kind}_files f ON t.{key} = f.content_id",
        f"known_{table}": f"SELECT t.*, l.* EXCLUDE (content_id) FROM {table} t "
        f"JOIN located_{kind} l ON t.{key} = l.content_id",
        f"present_{table}": f"SELECT * EXCLUDE (is_present) FROM known_{table} WHERE is_present",
    }


VIEWS = _views_of("audio", "clips", "content_id") | _views_of("image", "images", "image_id")
"""Views by name; their SQL names tables and other views."""
_WITHOUT = {f"{kind}_items": (f"{kind}_members", _LOOSE_ITEMS.format(kind=kind)) for kind in ("audio", "image")}
"""Views that are simpler where a table has no rows: that table, and their SQL then."""

_WORD = re.compile(r"[a-z_]+")


class _Database:
    """The DuckDB database of a process: opening one takes 13 ms, a connection to it takes none.

    Temporary tables belong to a connection. Spill files and empty tables are in `folder` until the process ends.
    """

    def __init__(self, filesystem: AbstractFileSystem) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="aai-query-"))
        weakref.finalize(self, shutil.rmtree, self.folder, ignore_errors=True)
        self._database = duckdb.connect(
            config={
                "memory_limit": MEMORY_LIMIT,
                "temp_directory": str(self.folder),
                "threads": 1,  # keeps the order of the files; two threads were no faster
                # The SQL fixes the join order: the hash table is built on the right side of each join.
                "disabled_optimizers": "join_order,build_side_probe_side",
            }
        )
        if not isinstance(filesystem, LocalFileSystem):
            self._database.register_filesystem(ImmutableFiles(filesystem))
        self._no_rows: dict[str, str] = {}

    def connect(self) -> duckdb.DuckDBPyConnection:
        """A new connection."""
        return self._database.cursor()

    def empty_file(self, columns: pa.Schema) -> str:
        """The path of a Parquet file with these columns and no rows."""
        path = self.folder / f"{content_id(columns.serialize().to_pybytes())}.parquet"
        if not path.exists():
            unfinished = path.with_suffix(f".{uuid4().hex}")
            pq.write_table(columns.empty_table(), unfinished)
            unfinished.replace(path)
        return str(path)

    def no_rows(self, columns: pa.Schema) -> str:
        """SQL for these columns without rows: no file is opened, and joins with it are not run at all."""
        path = self.empty_file(columns)
        if path not in self._no_rows:
            types = self.connect().execute(f"DESCRIBE SELECT * FROM read_parquet({_as_list([path])})").fetchall()
            nulls = ", ".join(f'NULL::{kind} AS "{name}"' for name, kind, *_ in types)
            self._no_rows[path] = f"SELECT {nulls} WHERE false"
        return self._no_rows[path]


@lru_cache
def _database_of(filesystem: AbstractFileSystem, process_id: int) -> _Database:
    return _Database(filesystem)


class Query:
    """A DuckDB connection with some tables of a workspace; use it as a context manager.

    Args:
        tables: the tables, by name.
        recipes: the recipe under which each table is read.
        extra: further tables, in memory; they hide stored tables and views of the same name.

    Raises:
        Transient: the store failed.
    """

    def __init__(
        self,
        store: Store,
        tables: Mapping[str, Table],
        recipes: Mapping[str, str],
        extra: Mapping[str, pa.Table] | None = None,
    ) -> None:
        self._store, self._tables, self._recipes, self._extra = store, tables, recipes, dict(extra or {})
        self._defined: set[str] = set()
        self._files: dict[str, list[str]] = {}
        with store_errors("making a database in the folder of temporary files"):
            self._shared = _database_of(store.filesystem, os.getpid())
        self._database = self._shared.connect()
        self._thread = ThreadPoolExecutor(1)

    def __enter__(self) -> "Query":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection, which drops its temporary tables."""
        self._thread.shutdown()
        self._database.close()

    def reader(self, sql: str, rows: int = BATCH_ROWS) -> pa.RecordBatchReader:
        """The result as an Arrow stream; no other query may run until it ends."""
        prepared = self._prepared(sql)
        with reading():
            return self._database.sql(prepared).to_arrow_reader(rows)

    def batches(self, sql: str, rows: int = BATCH_ROWS) -> Iterator[pa.Table]:
        """The result as a stream of tables of up to `rows` rows; no other query may run until it ends."""
        with reading():
            for batch in self.reader(sql, rows):
                if batch.num_rows:
                    yield pa.Table.from_batches([batch])

    def table(self, sql: str) -> pa.Table:
        """The whole result."""
        return self._table(self._prepared(sql))

    def number(self, sql: str) -> int:
        """The result of a query with a single number; null counts as 0."""
        prepared = self._prepared(sql)
        with reading():
            [row] = self._awaited(lambda: self._database.execute(prepared).fetchall())
        return int(row[0] or 0)

    def keep(self, name: str, sql: str) -> int:
        """Store a result as a temporary table, and return its number of rows."""
        create = f"CREATE OR REPLACE TEMP TABLE {name} AS {self._prepared(sql)}"
        with reading():
            [row] = self._awaited(lambda: self._database.execute(create).fetchall())
        self._defined.add(name)
        return int(row[0])

    def renew(self, *names: str) -> None:
        """Read some stored tables as they are now, and no longer as they were when they were first named."""
        for name in names:
            self._files.pop(name, None)

    def fill(self, name: str, schema: pa.Schema, rows: pa.Table | None = None) -> None:
        """Append rows to a temporary table, which the first call creates; it spills to disk."""
        if name not in self._defined:
            self._defined.add(name)
            self._database.register("_filling", schema.empty_table())
            self._database.execute(f"CREATE TEMP TABLE {name} AS SELECT * FROM _filling")
        if rows is not None:
            self._database.register("_filling", rows)
            with reading():
                self._database.execute(f"INSERT INTO {name} SELECT * FROM _filling")
        self._database.unregister("_filling")

    def described_cues(self) -> pa.RecordBatchReader:
        """Cues of present clips, sorted by clip, with the columns of cue and clip but no long ones, and confidence."""
        own = ", ".join(f"u.{name}" for name in self._tables["cues"].schema.columns.names if name not in _LONG_COLUMNS)
        sure, joined = "NULL::FLOAT", ""
        if self._is_stored("confidences"):
            sure, joined = "s.confidence", "LEFT JOIN confidences s ON u.clip_id = s.clip_id"
        return self.reader(
            f"SELECT {own}, {sure} AS confidence, c.* EXCLUDE (clip_id) FROM cues u "
            f"JOIN present_clips c ON u.clip_id = c.clip_id {joined} ORDER BY u.clip_id"
        )

    def keep_ids(self, name: str, ids: Sequence[str]) -> None:
        """Store ids as a temporary table with a column `id`."""
        self._database.register(name, pa.table({"id": pa.array(ids, pa.string())}))
        self._defined.add(name)

    def narrow(self, ids: str, key: str, sql: str) -> None:
        """Before a query: restrict the tables in it with a row per id to the files with one of some ids.

        An incremental run thus reads the vectors of new items only. `ids` is a temporary table.
        """
        self._prepared(sql)
        for table, files in self._files.items():
            if self._tables[table].schema.key != (key,) or not files:
                continue
            found = self._table(
                f"SELECT DISTINCT filename FROM read_parquet({_as_list(files)}, filename = true) t "
                f"SEMI JOIN {ids} i ON t.{key} = i.id"
            )
            needed = set(found["filename"].to_pylist())
            self._files[table] = [path for path in files if path in needed]

    def _table(self, prepared: str) -> pa.Table:
        with reading():
            return self._awaited(lambda: self._database.sql(prepared).to_arrow_table())

    def _awaited(self, query: Callable[[], Result]) -> Result:
        """The result of a query in another thread: while DuckDB works, this one would not see Ctrl-C."""
        if current_thread() is not main_thread():
            return query()
        result = self._thread.submit(query)
        try:
            return result.result()
        except BaseException:
            self._database.interrupt()
            wait([result])
            raise

    def _prepared(self, sql: str) -> str:
        """A query after the definitions of the tables and views that it names, directly or through views.

        They are not views of the database, because DuckDB binds each of those when it is made and whenever it is named.
        """
        found: dict[str, str] = {}
        self._find(sql, found)
        definitions = ", ".join(f"{name} AS NOT MATERIALIZED ({text})" for name, text in found.items())
        return f"WITH {definitions} {sql}" if found else sql

    def _find(self, sql: str, found: dict[str, str]) -> None:
        """Add the definitions of what a query names; what a definition names comes before it."""
        for name in _WORD.findall(sql):
            if name in self._defined or name in found:
                continue
            if name in self._extra:
                self._defined.add(name)
                self._database.register(name, self._extra[name])
            elif name in VIEWS:
                text = self._view(name)
                self._find(text, found)
                found[name] = text
            elif self._is_stored(name):
                found[name] = self._stored(name)

    def _view(self, name: str) -> str:
        """SQL of a view."""
        table, simpler = _WITHOUT.get(name, ("", ""))
        is_hidden = table in self._defined or table in self._extra
        return simpler if self._is_stored(table) and not is_hidden and not self._files_of(table) else VIEWS[name]

    def _is_stored(self, name: str) -> bool:
        return name in self._recipes and name in self._tables

    def _stored(self, name: str) -> str:
        """SQL of a stored table; an empty file provides columns that older files lack."""
        schema, files = self._tables[name].schema.columns, self._files_of(name)
        with reading():
            if not files:
                return self._shared.no_rows(schema)
            paths = _as_list([self._shared.empty_file(schema), *files])
        columns = ", ".join(f'"{column}"' for column in schema.names)
        return f"SELECT {columns} FROM read_parquet({paths}, union_by_name = true, hive_partitioning = false)"

    def _files_of(self, name: str) -> list[str]:
        """Data files of a stored table, as they were when it was first named."""
        if name not in self._files:
            self._files[name] = [self._path(path) for path in self._tables[name].files(self._recipes[name])]
        return self._files[name]

    def _path(self, path: str) -> str:
        return path if self._store.is_local else f"{self._store.protocol}://{path}"


def _as_list(paths: Sequence[str]) -> str:
    """Paths as a list in SQL."""
    return "[" + ", ".join("'" + path.replace("'", "''") + "'" for path in paths) + "]"
