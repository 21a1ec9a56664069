"""One table: appended to by one driver at a time, read by anybody.

An append is idempotent: a row whose key is in the table under its recipe is left out. What makes this safe without a
lock is Delta's own check. Every commit carries a transaction number of its recipe; one made from a snapshot in which
that number was older is refused. So between "these keys are not there" and "they are there now" nobody came in between.
"""

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from random import SystemRandom

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
from deltalake import CommitProperties, DeltaTable, Transaction, WriterProperties, write_deltalake
from deltalake.exceptions import (
    CommitFailedError,
    DeltaError,
    DeltaProtocolError,
    SchemaMismatchError,
    TableNotFoundError,
)

from aai.errors import BadConfig, Transient
from aai.workspace.schemas import RECIPE, SCHEMAS, Schema
from aai.workspace.store import Store, checked_recipe, store_errors

_MAX_ATTEMPTS = 12
_FIRST_WAIT_S, _LONGEST_WAIT_S = 0.02, 2.0
_KEY_SEPARATOR = "\x1f"
_COMPRESSION = WriterProperties(compression="ZSTD", compression_level=1)
_PARTITIONING = ds.partitioning(pa.schema([(RECIPE, pa.string())]), flavor="hive")

_jitter = SystemRandom()  # waiting is no result: it needs no address


@dataclass(frozen=True)
class _Known:
    """The keys of a recipe's rows as of a transaction number."""

    transaction: int
    keys: pa.ChunkedArray


class Table:
    """A Delta table of the workspace, whether it exists yet or not."""

    def __init__(self, store: Store, name: str) -> None:
        if name not in SCHEMAS:
            raise ValueError(f"there is no table {name!r}: choose one of {', '.join(SCHEMAS)}")
        self.name = name
        self.uri = store.uri(name)
        self._store = store
        self._delta_options = dict(store.delta_options) if store.delta_options else None
        self._handle: DeltaTable | None = None
        self._known: dict[str, _Known] = {}

    def __repr__(self) -> str:
        return f"Table({self.uri!r})"

    @property
    def schema(self) -> Schema:
        """Its columns and key."""
        return SCHEMAS[self.name]

    def append(self, recipe: str, *slices: pa.Table) -> int:
        """Commit slices of rows, all in one commit or none, and say how many rows were new.

        Rows come without the recipe. A row whose key is there already, in the table or further up, is left out; with
        no new row there is no commit.

        Raises:
            ValueError: a column is missing, unknown, of another type or has nulls where there must be none.
            Transient: the store failed, or others kept committing to this recipe; appending again is safe.
            BadConfig: the table cannot be created there.
        """
        checked_recipe(recipe)
        rows = pa.concat_tables([self.schema.columns.empty_table(), *map(self._checked, slices)])
        failure: CommitFailedError | None = None
        for attempt in range(_MAX_ATTEMPTS):
            if attempt:
                time.sleep(_jitter.uniform(0, min(_LONGEST_WAIT_S, _FIRST_WAIT_S * 2**attempt)))
            try:
                return self._append_once(recipe, rows)
            except CommitFailedError as error:
                failure = error
        raise Transient(
            f"{self.name}: {_MAX_ATTEMPTS} commits met those of other writers: is a second run at work?"
        ) from failure

    def read(
        self,
        columns: Sequence[str] | None = None,
        recipe: str | None = None,
        filter: pc.Expression | None = None,
    ) -> pa.Table:
        """The committed rows: of one recipe or all, in no order; none if the table does not exist yet.

        Raises:
            ValueError: there is no such column.
            Transient: the store failed.
        """
        names = list(self.schema.stored.names if columns is None else columns)
        self._refuse(name for name in names if name not in self.schema.stored.names)
        handle = self._open()
        if handle is None:
            return self.schema.stored.empty_table().select(names)
        return self._scan(handle, names, recipe, filter)

    def ids(self, recipe: str) -> pa.ChunkedArray:
        """The ids of the items that have rows under a recipe; an id comes once per row."""
        return self.read([self.schema.id], recipe)[self.schema.id]

    def recipes(self) -> dict[str, int]:
        """The recipes with rows, and how many; told from the log alone."""
        handle = self._open()
        if handle is None:
            return {}
        recipe, rows = f"partition.{RECIPE}", "num_records"
        files = pa.table(handle.get_add_actions(flatten=True))
        counts = files.group_by(recipe).aggregate([(rows, "sum")]).sort_by(recipe)
        return dict(zip(counts[recipe].to_pylist(), counts[f"{rows}_sum"].to_pylist(), strict=True))

    def orphans(self) -> list[str]:
        """Data files that no version of the log names, as paths relative to the table.

        A killed or refused commit leaves some, and the file of a commit under way looks the same. They are invisible
        here, but whoever reads the folder as plain Parquet sees their rows.
        """
        handle = self._open()
        if handle is None:
            return []
        garbage = partial(handle.vacuum, retention_hours=0, dry_run=True, enforce_retention_duration=False)
        with store_errors(f"listing {self.uri}"):
            replaced = set(garbage())
            return sorted(path for path in garbage(full=True) if path not in replaced)

    def duplicates(self) -> pa.Table:
        """Keys with more than one row under their recipe: the recipe, the key's columns and `rows`."""
        by = [RECIPE, *self.schema.key]
        counts = self.read(by).group_by(by).aggregate([([], "count_all")]).rename_columns([*by, "rows"])
        return counts.filter(pc.field("rows") > 1).sort_by([(name, "ascending") for name in by])

    def _open(self) -> DeltaTable | None:
        """The newest snapshot: one handle is kept, as opening afresh reads the whole log."""
        with store_errors(f"opening {self.uri}"):
            try:
                if self._handle is None:
                    self._handle = DeltaTable(self.uri, storage_options=self._delta_options)
                else:
                    self._handle.update_incremental()
            except TableNotFoundError:
                self._handle = None
            return self._handle

    def _open_or_create(self) -> DeltaTable:
        handle = self._open()
        if handle is not None:
            return handle
        try:
            with store_errors(f"creating {self.uri}"):
                DeltaTable.create(
                    self.uri,
                    self.schema.stored,
                    mode="ignore",
                    partition_by=[RECIPE],
                    name=self.name,
                    storage_options=self._delta_options,
                )
        except TableNotFoundError as error:
            raise BadConfig(f"workspace: {self.uri} cannot be created: choose a folder that can be written") from error
        handle = self._open()
        assert handle is not None, "a table that was just created is there"
        return handle

    def _append_once(self, recipe: str, rows: pa.Table) -> int:
        """Commit the rows that the newest snapshot has not.

        Raises:
            CommitFailedError: another writer committed in the meantime.
        """
        if not rows.num_rows:
            return 0
        handle = self._open_or_create()
        known = self._keys_known(handle, recipe)
        rows, keys = self._new(rows, known.keys)
        if not rows.num_rows:
            return 0
        transaction = known.transaction + 1
        self._commit(handle, recipe, rows, transaction)
        self._known[recipe] = _Known(transaction, _joined(known.keys, keys))
        return rows.num_rows

    def _commit(self, handle: DeltaTable, recipe: str, rows: pa.Table, transaction: int) -> None:
        rows = rows.append_column(self.schema.stored.field(RECIPE), pa.repeat(pa.scalar(recipe), rows.num_rows))
        stored = {column.name: column.metadata for column in handle.schema().fields}
        # A table keeps the comments that it was made with: Delta refuses to append under others.
        columns = [column.with_metadata(stored.get(column.name, column.metadata)) for column in rows.schema]
        lacking = set(self.schema.stored.names) - stored.keys()
        try:
            with store_errors(f"appending to {self.uri}"):
                write_deltalake(
                    handle,  # not the address: from a handle, Delta sees that the transaction number is stale
                    rows.cast(pa.schema(columns)),
                    mode="append",
                    schema_mode="merge" if lacking else None,
                    writer_properties=_COMPRESSION,
                    commit_properties=CommitProperties(app_transactions=[Transaction(self._app(recipe), transaction)]),
                )
        except (CommitFailedError, DeltaProtocolError, SchemaMismatchError):
            raise
        except DeltaError as error:  # this is how a full disk shows
            raise Transient(f"writing to {self.uri} failed: look at the disk space") from error

    def _app(self, recipe: str) -> str:
        return f"{self.name}/{recipe}"

    def _keys_known(self, handle: DeltaTable, recipe: str) -> _Known:
        """The keys in a snapshot: remembered from our last commit, unless another writer came after it."""
        transaction = handle.transaction_version(self._app(recipe)) or 0
        known = self._known.get(recipe)
        if known is None or known.transaction != transaction:
            known = _Known(transaction, self._keys(self._scan(handle, self.schema.key, recipe)))
        return known

    def _new(self, rows: pa.Table, known: pa.ChunkedArray) -> tuple[pa.Table, pa.ChunkedArray]:
        """The rows with keys that are neither known nor further up, and these keys."""
        keys = self._keys(rows)
        there = known.filter(pc.is_in(known, value_set=keys))  # hash the few rows, not the many known
        numbered = pa.table({"key": keys, "row": pa.arange(0, len(keys))})
        firsts = numbered.group_by("key", use_threads=False).aggregate([("row", "min")])
        firsts = firsts.filter(pc.invert(pc.is_in(firsts["key"], value_set=there)))
        if firsts.num_rows < rows.num_rows:
            rows = rows.take(firsts["row_min"])
        return rows, firsts["key"]

    def _keys(self, rows: pa.Table) -> pa.ChunkedArray:
        """The key of each row as one text."""
        columns = [rows[name] for name in self.schema.key]
        return columns[0] if len(columns) == 1 else pc.binary_join_element_wise(*columns, _KEY_SEPARATOR)

    def _scan(
        self, handle: DeltaTable, names: Sequence[str], recipe: str | None, filter: pc.Expression | None = None
    ) -> pa.Table:
        """The one place where data files are read.

        Delta's own `to_pyarrow_table` and `to_pandas` do their work and then abort the process as it exits.
        """
        one = None if recipe is None else [(RECIPE, "=", checked_recipe(recipe))]
        root = self._store.path(self.name)
        # Delta escapes the root's name; below it are `recipe=…` and a file, neither with anything to escape.
        files = ["/".join([root, *uri.rsplit("/", 2)[-2:]]) for uri in handle.file_uris(file_pruning_predicate=one)]
        with store_errors(f"reading {self.uri}"):
            return ds.dataset(
                files,
                schema=self.schema.stored,
                format="parquet",
                filesystem=self._store.arrow_filesystem,
                partitioning=_PARTITIONING,
                partition_base_dir=root,
            ).to_table(columns=list(names), filter=filter)

    def _checked(self, rows: pa.Table) -> pa.Table:
        """Rows with the columns in order, as the table has them."""
        wanted = self.schema.columns
        self._refuse(name for name in rows.column_names if name not in wanted.names)
        for column in wanted:
            self._check_column(rows, column)
        return rows.select(wanted.names).cast(wanted)

    def _check_column(self, rows: pa.Table, column: pa.Field) -> None:
        where = f"{self.name}.{column.name}"
        if column.name not in rows.column_names:
            raise ValueError(f"{where} is missing: give it as {column.type}")
        values = rows[column.name]
        if values.type != column.type:
            raise ValueError(f"{where} is {values.type}: give it as {column.type}")
        has_holes = pa.types.is_list(column.type) and pc.list_flatten(values).null_count
        if has_holes or (values.null_count and not column.nullable):
            raise ValueError(f"{where} has nulls: give every row a {column.type} without any")

    def _refuse(self, names: Iterable[str]) -> None:
        for name in names:
            raise ValueError(
                f"there is no column {self.name}.{name}: choose from {', '.join(self.schema.stored.names)}"
            )


def subtract(ids: pa.ChunkedArray, *others: pa.ChunkedArray) -> pa.ChunkedArray:
    """The ids that are in none of the others, in their order."""
    return ids.filter(pc.invert(pc.is_in(ids, value_set=_joined(*others))))


def _joined(*arrays: pa.ChunkedArray) -> pa.ChunkedArray:
    return pa.chunked_array([chunk for array in arrays for chunk in array.chunks], type=pa.string())
