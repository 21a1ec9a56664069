"""List: the files of the configured locations, and what the metadata tables say of them, become a log of changes.

A file is one row of the listing until something about it changes. New metadata thus takes effect at the next build
without any vector being computed again, and files that are gone are known to be gone.
"""

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import PurePosixPath

import pyarrow as pa
import pyarrow.compute as pc

from aai.media.files import AUDIO_SUFFIXES, IMAGE_SUFFIXES, File, find_files
from aai.media.metadata import load_metadata
from aai.workspace import SCHEMAS
from tasks.runtime.driver import StageSummary
from tasks.runtime.run import Run
from tasks.runtime.stage import Stage
from tasks.runtime.work import batches

_FILES_AT_ONCE = 100_000
_METADATA = ("label", "caption", "licence", "attributes")
_SCHEMA = SCHEMAS["audio_listing"].columns
_FOUND = pa.schema([_SCHEMA.field(name) for name in ("file_id", "uri", "num_bytes", "is_tar", "fault")])

_COLUMNS = ", ".join(f"n.{name}" for name in _SCHEMA.names if name != "listed_at")
_DIFFERS = " OR ".join(f"n.{name} IS DISTINCT FROM k.{name}" for name in ("is_present", *_METADATA))
_NOW = """
    SELECT f.*, true AS is_present, m.label, m.caption, m.licence, m.attributes, m.metadata_table
    FROM found f LEFT JOIN metadata m ON f.uri = m.uri
"""
_CHANGED = f"""
    SELECT {_COLUMNS}, k.file_id IS NULL AS is_new FROM now n LEFT JOIN known k ON n.file_id = k.file_id
    WHERE k.file_id IS NULL OR {_DIFFERS}
"""
_GONE = (
    "SELECT k.* REPLACE (false AS is_present) FROM known k ANTI JOIN now n ON k.file_id = n.file_id WHERE k.is_present"
)
_CURRENT = f"SELECT {_COLUMNS} FROM now n"

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Listing:
    """The files of the configured locations, compared with the last listing."""

    current: pa.Table
    """All files that are there, with today's metadata; columns as in the table."""
    changes: pa.Table
    """Rows to append: new files, files with other metadata, files that are gone."""
    num_new: int
    num_changed: int
    """Files whose metadata changed."""
    num_gone: int
    """Files whose address is no longer listed; one with other contents is not gone, but new."""
    metadata_tables: dict[str, tuple[int, int]]
    """For each metadata table its number of rows, and how many of them name a file that is there."""

    @property
    def num_unchanged(self) -> int:
        """Files that are there as they were."""
        return self.current.num_rows - self.num_new - self.num_changed

    @property
    def notes(self) -> list[str]:
        """A sentence on changed and removed files, and on each metadata table with rows that name no file."""
        changed = [f"files with other metadata than before: {self.num_changed:,}"] if self.num_changed else []
        gone = [f"files gone from the source folders: {self.num_gone:,}"] if self.num_gone else []
        return [*changed, *gone, *self._unmatched]

    @property
    def _unmatched(self) -> list[str]:
        return [
            f"metadata: {path}: {matched:,} of {num:,} rows name a file that is there; "
            "the column `file` is relative to the table's folder"
            for path, (num, matched) in self.metadata_tables.items()
            if matched < num
        ]


def look(run: Run, table: str) -> Listing:
    """List the files of a listing's locations; nothing is written.

    Raises:
        BadConfig: a location does not exist or holds no file of a known kind, or a metadata table cannot be read.
        Transient: the store failed.
    """
    key, suffixes = ("audio", AUDIO_SUFFIXES) if table == "audio_listing" else ("images", IMAGE_SUFFIXES)
    files = _as_table(find_files(key, getattr(run.config, key), suffixes))
    metadata = _of_kind(load_metadata(run.config.metadata), suffixes)
    with run.query(extra={"found": files, "metadata": metadata}) as query:
        query.keep("now", _NOW)
        query.keep("known", f"SELECT * FROM known_{table}")
        changed, gone, current = query.table(_CHANGED), query.table(_GONE), query.table(_CURRENT)
        num_gone = query.number(f"SELECT count(*) FROM ({_GONE}) g ANTI JOIN found f ON g.uri = f.uri")
        matched = query.table("SELECT metadata_table, count(*) AS num FROM now GROUP BY ALL")
        now = max(time.time_ns() // 1000, query.number("SELECT max(listed_at) FROM known") + 1)
    num_new = pc.sum(changed["is_new"]).as_py() or 0
    return Listing(
        current=_rows(current, now),
        changes=pa.concat_tables([_rows(changed, now), _rows(gone, now)]),
        num_new=num_new,
        num_changed=changed.num_rows - num_new,
        num_gone=num_gone,
        metadata_tables=_matched(metadata, matched),
    )


def list_files(table: str, run: Run) -> StageSummary:
    """Bring a listing up to date."""
    started_at, start_s, recipe = datetime.now(UTC), time.monotonic(), run.recipe(table)
    listing = look(run, table)
    for note in listing.notes:
        _log.warning(note)
    if not listing.changes.num_rows:
        return StageSummary.nothing(run.stage_of(table).name, recipe, listing.current.num_rows)
    run.register(table)
    run.workspace.table(table).append(recipe, listing.changes)
    num = listing.changes.num_rows
    summary = StageSummary(
        run.stage_of(table).name,
        recipe,
        done=listing.num_unchanged,
        new=num,
        rejected=0,
        took_s=time.monotonic() - start_s,
    )
    run.record(started_at, summary)
    return summary


def _of_kind(metadata: pa.Table, suffixes: frozenset[str]) -> pa.Table:
    """The rows that name files of some kinds; rows that name no known kind of file count as those of images."""
    is_audio = [PurePosixPath(uri).suffix.lower() in AUDIO_SUFFIXES for uri in metadata["uri"].to_pylist()]
    return metadata.filter(pa.array([flag == (suffixes is AUDIO_SUFFIXES) for flag in is_audio], pa.bool_()))


def _as_table(files: Sequence[File]) -> pa.Table:
    parts = [
        pa.table(
            {
                "file_id": [file.file_id for file in part],
                "uri": [file.uri for file in part],
                "num_bytes": [file.num_bytes for file in part],
                "is_tar": [file.is_tar for file in part],
                "fault": [file.fault for file in part],
            },
            schema=_FOUND,
        )
        for part in batches(files, _FILES_AT_ONCE)
    ]
    return pa.concat_tables([_FOUND.empty_table(), *parts])


def _rows(found: pa.Table, listed_at: int) -> pa.Table:
    """Rows as the table has them."""
    columns = {name: found[name] for name in _SCHEMA.names if name != "listed_at"}
    return pa.table(columns | {"listed_at": pa.repeat(pa.scalar(listed_at), found.num_rows)}).cast(_SCHEMA)


def _matched(metadata: pa.Table, matched: pa.Table) -> dict[str, tuple[int, int]]:
    totals = metadata.group_by("metadata_table").aggregate([([], "count_all")])
    found = dict(zip(matched["metadata_table"].to_pylist(), matched["num"].to_pylist(), strict=True))
    return {
        path: (num, found.get(path, 0))
        for path, num in zip(totals["metadata_table"].to_pylist(), totals["count_all"].to_pylist(), strict=True)
    }


LIST_IMAGES = Stage(name="list_images", table="image_listing", make=partial(list_files, "image_listing"))
LIST_AUDIO = Stage(name="list_audio", table="audio_listing", make=partial(list_files, "audio_listing"))
