"""A Delta table of the workspace: append-only, with unique keys per recipe.

An append is idempotent: rows whose key is stored under the recipe already are skipped. This needs no lock. Each commit
carries a transaction number of its recipe, and Delta rejects a commit whose snapshot has an older number. So no other
writer can commit between the check of the keys and the append.
"""

import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from operator import itemgetter
from random import SystemRandom

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
from deltalake import CommitProperties, DeltaTable, Transaction, WriterProperties, write_deltalake
from deltalake.exceptions import CommitFailedError, TableNotFoundError

from aai.errors import BadConfig, Transient
from aai.workspace.keys import NO_KEYS, StoredKeys, concatenated, ids_of, keys_of, new_rows
from aai.workspace.schemas import RECIPE, Schema
from aai.workspace.store import Store, checked_recipe
from aai.workspace.table_errors import table_errors

_MAX_ATTEMPTS = 12
_MAX_LOST = 4
"""Attempts at an append while a bucket's connection breaks: its client does not repeat a commit itself."""
_MIN_WAIT_S, _MAX_WAIT_S = 0.02, 2.0
_TARGET_BYTES = 2**28
"""Size of compacted files: large enough to be few, small enough to be read in parallel."""
_ACTIONS = pa.schema([("path", pa.string()), (f"partition.{RECIPE}", pa.string()), ("modification_time", pa.int64())])
_PROPERTIES = {"delta.checkpointInterval": "20"}
"""Opening a table takes a request for each commit since the last checkpoint, up to 100 of them by default."""
_COMPRESSION = WriterProperties(compression="ZSTD", compression_level=1)
_PARTITIONING = ds.partitioning(pa.schema([(RECIPE, pa.string())]), flavor="hive")

_jitter = SystemRandom()  # waiting changes no result, so it needs no seed


class Table:
    """A Delta table; it is created by the first append."""

    def __init__(self, store: Store, name: str, schema: Schema) -> None:
        self.name = name
        self.schema = schema
        self.uri = store.uri(name)
        self._store = store
        self._delta_options = dict(store.delta_options) if store.delta_options else None
        self._handle: DeltaTable | None = None
        self._stored: dict[str, StoredKeys] = {}
        self._news: dict[str, list[pa.ChunkedArray]] = {}

    def __repr__(self) -> str:
        return f"Table({self.uri!r})"

    def append(self, recipe: str, *slices: pa.Table) -> int:
        """Append slices of rows in one commit, and return the number of new rows.

        Rows have no column for the recipe. Rows whose key is stored already, or occurs earlier in the slices, are
        skipped. Without new rows there is no commit. In a bucket it is tried again where the connection breaks; rows of
        a commit whose answer was lost are not counted as new.

        Raises:
            ValueError: a column is missing, unknown, of another type, or has nulls that are not allowed.
            Transient: the store failed, or other writers kept committing to this recipe. Appending again is safe.
            BadConfig: the table cannot be created, or has the columns of another version.
        """
        checked_recipe(recipe)
        checked = [self.schema.checked(self.name, rows) for rows in slices]
        rows = pa.concat_tables([self.schema.columns.empty_table(), *checked])
        failure: CommitFailedError | None = None
        num_lost = 0
        for attempt in range(_MAX_ATTEMPTS):
            if attempt:
                time.sleep(_jitter.uniform(0, min(_MAX_WAIT_S, _MIN_WAIT_S * 2**attempt)))
            try:
                return self._append_once(recipe, rows)
            except CommitFailedError as error:
                failure = error
            except Transient:
                num_lost += 1
                if self._store.is_local or num_lost == _MAX_LOST:
                    raise
        raise Transient(
            f"{_MAX_ATTEMPTS} commits conflicted with other writers: is a second run at work?", uri=self.uri
        ) from failure

    def read(
        self, columns: Sequence[str] | None = None, recipe: str | None = None, filter: pc.Expression | None = None
    ) -> pa.Table:
        """The committed rows of one recipe or of all, in no defined order; none if the table does not exist.

        Raises:
            ValueError: there is no such column.
            Transient: the store failed.
        """
        names = list(self.schema.stored.names if columns is None else columns)
        self.schema.check_known(self.name, (name for name in names if name not in self.schema.stored.names))
        handle = self._open()
        if handle is None:
            return self.schema.stored.empty_table().select(names)
        return self._scan(handle, names, recipe, filter)

    def ids(self, recipe: str) -> pa.ChunkedArray:
        """The ids of the items with rows under a recipe, one per row."""
        return self.read([self.schema.id], recipe)[self.schema.id]

    def ids_of_others(self, recipe: str) -> Iterator[str]:
        """Ids of rows that other writers have committed since the last call; none at the first call.

        If nothing was committed, this is a look at the log. Ids of own rows may be among them.

        Raises:
            Transient: the store failed.
        """
        handle = self._open()
        if handle is not None:
            self._stored_keys(handle, recipe)
        else:
            self._stored[recipe] = NO_KEYS  # so that the first commit counts as one since this call
        return ids_of(self._news.pop(recipe, []))

    def recipes(self) -> dict[str, int]:
        """Number of rows per recipe, from the Delta log alone."""
        handle = self._open()
        if handle is None:
            return {}
        recipe, rows = f"partition.{RECIPE}", "num_records"
        with table_errors("reading the log of", self.uri):
            files = pa.table(handle.get_add_actions(flatten=True))
        counts = files.group_by(recipe).aggregate([(rows, "sum")]).sort_by(recipe)
        return dict(zip(counts[recipe].to_pylist(), counts[f"{rows}_sum"].to_pylist(), strict=True))

    def orphans(self) -> list[str]:
        """Data files that no version of the Delta log names, as paths relative to the table.

        They come from killed or rejected commits; the file of a commit in progress looks the same. Delta readers do not
        see them, but a reader of the folder as plain Parquet does.
        """
        handle = self._open()
        if handle is None:
            return []
        unused = partial(handle.vacuum, retention_hours=0, dry_run=True, enforce_retention_duration=False)
        with table_errors("listing", self.uri):
            replaced = set(unused())
            return sorted(path for path in unused(full=True) if path not in replaced)

    def compact(self) -> tuple[int, int]:
        """Merge small files of each recipe, and return the number of files before and after.

        The old files stay on disk until `vacuum` removes them, for readers of earlier versions.

        Raises:
            Transient: the store failed, or another writer removed rows at the same time.
        """
        handle = self._open()
        if handle is None:
            return 0, 0
        with table_errors("compacting", self.uri):
            num_before = len(handle.file_uris())
            handle.optimize.compact(writer_properties=_COMPRESSION, target_size=_TARGET_BYTES)
            return num_before, len(handle.file_uris())

    def vacuum(self, older_than_h: float, dry_run: bool) -> list[str]:
        """Remove data files of a minimum age that the newest version does not name.

        With `dry_run` nothing is removed. Returns the files, as paths relative to the table.

        Raises:
            Transient: the store failed.
        """
        handle = self._open()
        if handle is None:
            return []
        hours = math.ceil(older_than_h)
        with table_errors("listing", self.uri):
            vacuum = partial(handle.vacuum, hours, enforce_retention_duration=False, full=True)
            # Delta lists files of its log, whether or not an earlier removal left them.
            unused = set(vacuum(dry_run=True)) & self._stored_files()
            if unused and not dry_run:
                vacuum(dry_run=False)
        return sorted(unused)

    def _stored_files(self) -> set[str]:
        """All files below the table's folder, as paths relative to it."""
        return {path.removeprefix(f"{self.name}/") for path in self._store.files(self.name)}

    def rewrite(self, recipe: str, read_rows: Callable[[], pa.RecordBatchReader]) -> None:
        """Replace all rows of a recipe, in one commit.

        `read_rows` is called once the version to be replaced is fixed, so that a commit of another writer in between is
        a conflict and never lost.

        Raises:
            Transient: the store failed, or another writer committed at the same time.
        """
        handle = self._open_or_create()
        rows = read_rows()
        schema = self.schema.stored
        value = pa.scalar(checked_recipe(recipe))

        def with_recipe() -> Iterator[pa.RecordBatch]:
            for batch in rows:
                columns = [batch[name] for name in self.schema.columns.names]
                table = pa.table(columns, names=self.schema.columns.names).cast(self.schema.columns)
                yield from table.append_column(schema.field(RECIPE), pa.repeat(value, batch.num_rows)).to_batches()

        transaction = (handle.transaction_version(self._app(recipe)) or 0) + 1
        added = set(schema.names) - {field.name for field in handle.schema().fields}
        with table_errors("rewriting", self.uri):
            write_deltalake(
                handle,
                pa.RecordBatchReader.from_batches(schema, with_recipe()),
                mode="overwrite",
                predicate=f"{RECIPE} = '{recipe}'",
                schema_mode="merge" if added else None,
                writer_properties=_COMPRESSION,
                commit_properties=CommitProperties(app_transactions=[Transaction(self._app(recipe), transaction)]),
            )
        self._stored.pop(recipe, None)

    def drop(self, recipe: str) -> None:
        """Remove all rows of a recipe, in one commit; their files stay on disk until `vacuum` removes them.

        Raises:
            Transient: the store failed, or another writer committed at the same time.
        """
        handle = self._open()
        if handle is not None:
            with table_errors("deleting from", self.uri):
                handle.delete(f"{RECIPE} = '{checked_recipe(recipe)}'")
            self._stored.pop(recipe, None)

    def duplicates(self) -> pa.Table:
        """Keys with several rows under one recipe: columns are the recipe, the key, and the number of `rows`."""
        by = [RECIPE, *self.schema.key]
        counts = self.read(by).group_by(by).aggregate([([], "count_all")]).rename_columns([*by, "rows"])
        return counts.filter(pc.field("rows") > 1).sort_by([(name, "ascending") for name in by])

    def _open(self) -> DeltaTable | None:
        """The newest snapshot, if the table exists. One handle is reused, because opening reads the whole log.

        Raises:
            BadConfig: the table has the columns of another version.
            Transient: the store failed.
        """
        with table_errors("opening", self.uri):
            try:
                if self._handle is None:
                    self._handle = self._of_this_version(DeltaTable(self.uri, storage_options=self._delta_options))
                else:
                    self._handle.update_incremental()
            except TableNotFoundError:
                self._handle = None
            return self._handle

    def _of_this_version(self, handle: DeltaTable) -> DeltaTable:
        """The handle, unless the table has a required column that this version does not know.

        Raises:
            BadConfig: it has one.
        """
        for field in handle.schema().fields:
            if not field.nullable and field.name not in self.schema.stored.names:
                raise BadConfig(
                    f"an earlier version of AAI wrote this table (column {field.name}): build into a new folder",
                    key="workspace",
                    uri=self.uri,
                )
        return handle

    def _open_or_create(self) -> DeltaTable:
        handle = self._open()
        if handle is not None:
            return handle
        if not self._store.refuses_replacement:
            raise BadConfig(
                "this store ignores `If-None-Match: *`, so that runs would overwrite each other's commits: name a "
                "bucket of a store that heeds it",
                key="workspace",
                uri=self._store.root,
            )
        try:
            with table_errors("creating", self.uri, TableNotFoundError):
                DeltaTable.create(
                    self.uri,
                    self.schema.stored,
                    mode="ignore",
                    partition_by=[RECIPE],
                    configuration=_PROPERTIES,
                    name=self.name,
                    storage_options=self._delta_options,
                )
        except TableNotFoundError as error:
            raise BadConfig(
                "the table cannot be created: choose a folder that can be written", key="workspace", uri=self.uri
            ) from error
        handle = self._open()
        assert handle is not None, "the table was just created"
        return handle

    def _append_once(self, recipe: str, rows: pa.Table) -> int:
        """Commit the rows that the newest snapshot does not have.

        Raises:
            CommitFailedError: another writer committed meanwhile.
        """
        if not rows.num_rows:
            return 0
        handle = self._open_or_create()
        stored = self._stored_keys(handle, recipe)
        rows, keys = new_rows(rows, keys_of(self.schema, rows), stored.keys)
        if not rows.num_rows:
            return 0
        transaction, version = stored.transaction + 1, handle.version() + 1
        self._commit(handle, recipe, rows, transaction)
        if handle.version() == version:  # else another writer has committed, too
            files = frozenset(path for path, _ in self._files(handle, recipe))
            self._stored[recipe] = StoredKeys(version, transaction, files, concatenated(stored.keys, keys))
        return rows.num_rows

    def _commit(self, handle: DeltaTable, recipe: str, rows: pa.Table, transaction: int) -> None:
        rows = rows.append_column(self.schema.stored.field(RECIPE), pa.repeat(pa.scalar(recipe), rows.num_rows))
        stored = {column.name: column.metadata for column in handle.schema().fields}
        # A table keeps the comments of its first version: Delta rejects an append with other ones.
        columns = [column.with_metadata(stored.get(column.name, column.metadata)) for column in rows.schema]
        added = set(self.schema.stored.names) - stored.keys()
        with table_errors("appending to", self.uri, CommitFailedError):
            write_deltalake(
                handle,  # not the URI: the handle's snapshot is what Delta compares transaction numbers with
                rows.cast(pa.schema(columns)),
                mode="append",
                schema_mode="merge" if added else None,
                writer_properties=_COMPRESSION,
                commit_properties=CommitProperties(app_transactions=[Transaction(self._app(recipe), transaction)]),
            )

    def _app(self, recipe: str) -> str:
        return f"{self.name}/{recipe}"

    def _stored_keys(self, handle: DeltaTable, recipe: str) -> StoredKeys:
        """The keys in a snapshot: those of the last look, and those of files that other writers have added since."""
        stored, version = self._stored.get(recipe, NO_KEYS), handle.version()
        if stored.version == version:
            return stored  # without asking for the transaction number, for which Delta reads its log again
        transaction = handle.transaction_version(self._app(recipe)) or 0
        if recipe in self._stored and stored.transaction == transaction:
            stored = replace(stored, version=version)
        else:
            files = frozenset(path for path, _ in self._files(handle, recipe))
            known = stored if stored.files <= files else NO_KEYS  # else they were compacted or rewritten
            news = keys_of(self.schema, self._read_files(files - known.files, self.schema.key))
            if recipe in self._stored:
                self._news.setdefault(recipe, []).append(news)
            stored = StoredKeys(version, transaction, files, concatenated(known.keys, news))
        self._stored[recipe] = stored
        return stored

    def _scan(
        self, handle: DeltaTable, names: Sequence[str], recipe: str | None, filter: pc.Expression | None = None
    ) -> pa.Table:
        """Read data files into memory.

        After Delta's own `to_pyarrow_table` and `to_pandas` the process aborts when it exits.
        """
        return self._read_files([path for path, _ in self._files(handle, recipe)], names, filter)

    def _read_files(self, files: Iterable[str], names: Sequence[str], filter: pc.Expression | None = None) -> pa.Table:
        with table_errors("reading", self.uri):
            return ds.dataset(
                list(files),
                schema=self.schema.stored,
                format="parquet",
                filesystem=self._store.arrow_filesystem,
                partitioning=_PARTITIONING,
                partition_base_dir=self._store.path(self.name),
            ).to_table(columns=list(names), filter=filter)

    def files(self, recipe: str) -> list[str]:
        """Paths of the data files with rows of a recipe, in the order of their commits.

        Raises:
            Transient: the store failed.
        """
        handle = self._open()
        return [] if handle is None else [path for path, _ in sorted(self._files(handle, recipe), key=itemgetter(1))]

    def _files(self, handle: DeltaTable, recipe: str | None) -> list[tuple[str, int]]:
        """Paths of data files as the file system takes them, with their times of writing in milliseconds."""
        with table_errors("reading the log of", self.uri):
            actions = pa.table(handle.get_add_actions(flatten=True)).select(_ACTIONS.names)
        root = self._store.path(self.name)
        rows = zip(*(column.to_pylist() for column in actions.cast(_ACTIONS).columns), strict=True)
        # Delta escapes paths; those relative to the table, `recipe=…/<file>`, have nothing to escape.
        return [(f"{root}/{path}", time_ms) for path, own, time_ms in rows if recipe in (None, own)]
