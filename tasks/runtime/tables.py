"""Where the items of a stage come from: the rows of a table, and what others know of them."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

import pyarrow as pa
import pyarrow.compute as pc

from aai.errors import BadConfig
from aai.workspace import Workspace

_IDS_AT_ONCE = 16_384
"""Items whose rows are in memory together: 50 MB of vectors of dimension 768."""

_LONG = ("vector", "loss_curve", "image_ids")


class Source(Protocol):
    """Where the items of a stage come from."""

    def ids(self) -> pa.ChunkedArray:
        """The ids of all items."""

    def rows(self, ids: pa.ChunkedArray) -> Iterable[pa.Table]:
        """What workers get of some of them: tables of any size, one row per item."""


@dataclass(frozen=True)
class TableSource:
    """The rows of a table under a recipe."""

    workspace: Workspace
    name: str
    recipe: str
    columns: tuple[str, ...] | None = None
    """What workers get; none for all columns but the recipe."""

    def ids(self) -> pa.ChunkedArray:
        """The ids of all items."""
        return self.workspace.table(self.name).ids(self.recipe)

    def rows(self, ids: pa.ChunkedArray) -> Iterable[pa.Table]:
        """The rows of some of them."""
        table = self.workspace.table(self.name)
        columns = self.columns or table.schema.columns.names
        for first in range(0, len(ids), _IDS_AT_ONCE):
            chosen = ids[first : first + _IDS_AT_ONCE].combine_chunks()
            yield table.read(columns, self.recipe, pc.field(table.schema.id).isin(chosen))


@dataclass(frozen=True)
class JoinedSource:
    """The rows of a table, each with columns of other tables that know the same item; without these it is left out."""

    main: TableSource
    others: tuple[TableSource, ...]

    def ids(self) -> pa.ChunkedArray:
        """The ids of the items that all tables have."""
        found = self.main.ids()
        for other in self.others:
            found = found.filter(pc.is_in(found, value_set=other.ids()))
        return found

    def rows(self, ids: pa.ChunkedArray) -> Iterable[pa.Table]:
        """The rows of some of them."""
        key = self.main.workspace.table(self.main.name).schema.id
        for rows in self.main.rows(ids):
            for other in self.others:
                for theirs in other.rows(
                    pa.chunked_array([rows[key]]) if isinstance(rows[key], pa.Array) else rows[key]
                ):
                    rows = with_columns(rows, key, theirs)
            yield rows


def with_columns(rows: pa.Table, key: str, theirs: pa.Table) -> pa.Table:
    """Rows with the columns of others that have the same key."""
    places = pc.index_in(rows[key], value_set=theirs[key])
    for name in theirs.column_names:
        if name not in rows.column_names:
            rows = rows.append_column(theirs.schema.field(name), theirs[name].take(places))
    return rows


def look_up(workspace: Workspace, name: str, recipe: str, ids: Iterable[str], columns: Sequence[str]) -> pa.Table:
    """Columns of some rows of a table, the key's first; ids that it does not have are left out."""
    table = workspace.table(name)
    wanted = pc.field(table.schema.id).isin(pa.array(sorted(set(ids)), pa.string()))
    return table.read([table.schema.id, *columns], recipe, wanted)


def described_cues(workspace: Workspace, cue_recipe: str, clip_recipe: str) -> pa.Table:
    """What is known of each cue and its clip, in the order of ids, but for what is long: its numbers above all.

    Raises:
        BadConfig: there are no cues.
        Transient: the store failed.
    """
    tables = workspace.table("cues"), workspace.table("clips")
    names = [[name for name in each.schema.columns.names if name not in _LONG] for each in tables]
    cues = tables[0].read(names[0], cue_recipe).sort_by("clip_id")
    if not cues.num_rows:
        raise BadConfig(f"workspace: {workspace.uri} has no cues of this configuration: run `aai build` with it first")
    return with_columns(cues, "clip_id", tables[1].read(names[1], clip_recipe))
