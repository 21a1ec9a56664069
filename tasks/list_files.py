"""List: the files of the configured locations, and what the metadata tables say of them, become a log of changes.

A file is one row of the listing until something about it changes. New metadata thus takes effect at the next build
without any vector being computed again, and files that are gone are known to be gone.
"""

import json
import logging
import os
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from functools import partial

import pyarrow as pa
import pyarrow.compute as pc

from aai.identity import content_id
from aai.media.files import File, Found, find_files, read_sidecars
from aai.media.kinds import AUDIO_SUFFIXES, IMAGE_SUFFIXES, TABLE_SUFFIXES, count_kinds, left_aside, suffix_of
from aai.media.metadata import COLUMNS
from aai.workspace import SCHEMAS, Query
from tasks.match_metadata import SIDECARS, fill_rows, match, of_members, resolve, unmatched
from tasks.runtime.config import Config
from tasks.runtime.driver import StageSummary
from tasks.runtime.run import Run
from tasks.runtime.stage import Stage
from tasks.runtime.work import batches

_FILES_AT_ONCE = 100_000
_SIDECARS_AT_ONCE = 1_000
_THREADS = 32
_SCHEMA = SCHEMAS["audio_listing"].columns
_FOUND = pa.schema([_SCHEMA.field(name) for name in ("file_id", "uri", "num_bytes", "is_tar", "fault", "sidecars")])
_BESIDE = pa.schema([_SCHEMA.field(name) for name in ("file_id", *COLUMNS, "sidecar_fault")])

_COLUMNS = ", ".join(f"n.{name}" for name in _SCHEMA.names if name != "listed_at")
_TEXTS = ", ".join(COLUMNS)
_IS_OTHER = " OR ".join(f"n.{name} IS DISTINCT FROM k.{name}" for name in ("is_present", *COLUMNS))
_KNOWN_BESIDE = f"""
    SELECT f.file_id, {", ".join(f"k.sidecar_metadata ->> '{name}' AS {name}" for name in COLUMNS)}, k.sidecar_fault
    FROM found f JOIN known k ON f.file_id = k.file_id
    WHERE f.sidecars = k.sidecars AND k.sidecar_fault IS NULL
"""
_UNREAD = "SELECT f.file_id FROM found f ANTI JOIN beside b ON f.file_id = b.file_id WHERE f.sidecars IS NOT NULL"
_STATEMENTS = f"""
    SELECT p.file_id, f.uri, m.number, m.source, m.line, {", ".join(f"m.{name}" for name in COLUMNS)}
    FROM pairs p JOIN metadata_rows m ON p.number = m.number JOIN found f ON p.file_id = f.file_id
    UNION ALL
    SELECT b.file_id, f.uri, {SIDECARS}, {SIDECARS}, 0, {", ".join(f"b.{name}" for name in COLUMNS)}
    FROM beside b JOIN found f ON b.file_id = f.file_id WHERE coalesce({_TEXTS}) IS NOT NULL
"""
_NOW = f"""
    SELECT f.*, true AS is_present, {", ".join(f"d.{name}" for name in COLUMNS)}, b.sidecar_fault,
           to_json({{{", ".join(f"'{name}': b.{name}" for name in COLUMNS)}}})::VARCHAR AS sidecar_metadata
    FROM found f LEFT JOIN described d ON f.file_id = d.file_id LEFT JOIN beside b ON f.file_id = b.file_id
"""
_CHANGED = f"""
    SELECT {_COLUMNS}, k.is_present IS NOT TRUE AS is_new, {_IS_OTHER} AS is_other,
           n.uri IN (SELECT uri FROM known WHERE is_present) AS was_listed
    FROM now n LEFT JOIN known k ON n.file_id = k.file_id
    WHERE k.file_id IS NULL OR {_IS_OTHER} OR n.sidecars IS DISTINCT FROM k.sidecars
       OR n.sidecar_fault IS DISTINCT FROM k.sidecar_fault
"""
_GONE = (
    "SELECT k.* REPLACE (false AS is_present) FROM known k ANTI JOIN now n ON k.file_id = n.file_id WHERE k.is_present"
)
_CURRENT = f"SELECT {_COLUMNS} FROM now n"
_REST = "SELECT r.* FROM metadata_rows r ANTI JOIN pairs p ON r.number = p.number"

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Listing:
    """The files of the configured locations, compared with the last listing."""

    key: str
    """The key of the locations: audio or images."""
    current: pa.Table
    """All files that are there, with today's metadata; columns as in the table."""
    changes: pa.Table
    """Rows to append: new files, files with other metadata, files that are gone."""
    num_new: int
    """Files at an address that was not listed before."""
    num_replaced: int
    """Files with other contents than before at the same address."""
    num_changed: int
    """Files of which only the metadata changed."""
    num_gone: int
    """Files whose address is no longer listed."""
    warnings: list[str]
    """Sentences on rows of metadata tables that name no file, on disputed metadata, and on sidecars without effect."""
    corrections: list[str]
    """A sentence on files of which one source corrects another."""
    left_aside: str = ""
    """A sentence on files that are of no known kind."""

    @property
    def num_unchanged(self) -> int:
        """Files that are there as they were."""
        return self.current.num_rows - self.num_new - self.num_replaced - self.num_changed

    @property
    def num_to_note(self) -> int:
        """Files that the next listing notes, each once; one with other contents takes two rows."""
        return self.changes.num_rows - self.num_replaced

    @property
    def notes(self) -> list[str]:
        """Sentences on changed and removed files, on those left aside, and on metadata without effect."""
        files = [self._counts] if self.num_replaced or self.num_changed or self.num_gone else []
        return [*files, *([self.left_aside] if self.left_aside else []), *self.corrections, *self.warnings]

    @property
    def _counts(self) -> str:
        counts = {
            "new": self.num_new,
            "with other contents than before": self.num_replaced,
            "with other metadata than before": self.num_changed,
            "gone": self.num_gone,
        }
        return f"files of {self.key}: {', '.join(f'{num:,} {what}' for what, num in counts.items() if num)}"


def look(run: Run, table: str, images: pa.Table | None = None) -> Listing:
    """List the files of a listing's locations; nothing is written.

    `images` is today's listing of images, for that of recordings; by default the stored one counts.

    Raises:
        BadConfig: a location does not exist or holds no file of a known kind, or a metadata table cannot be read.
        Transient: the store failed.
    """
    key, suffixes = ("audio", AUDIO_SUFFIXES) if table == "audio_listing" else ("images", IMAGE_SUFFIXES)
    found = find_files(key, getattr(run.config, key), suffixes)
    files = found.files
    if not run.config.sidecars:
        files = [replace(file, sidecars=()) if file.sidecars else file for file in files]
    extra = {"found": _as_table(files)} | ({"known_image_listing": images} if images is not None else {})
    with run.query(extra=extra) as query:
        query.keep("known", f"SELECT * FROM known_{table}")
        fill_rows(query, "metadata_rows", run.config.metadata, suffixes, (AUDIO_SUFFIXES | IMAGE_SUFFIXES) - suffixes)
        match(query, "pairs", "SELECT * FROM metadata_rows", "SELECT file_id, uri FROM found")
        _read_beside(query, files)
        disputes = resolve(query, "described", _STATEMENTS, run.config.metadata)
        query.keep("now", _NOW)
        changed, gone, current = query.table(_CHANGED), query.table(_GONE), query.table(_CURRENT)
        num_gone = query.number(f"SELECT count(*) FROM ({_GONE}) g ANTI JOIN found f ON g.uri = f.uri")
        now = max(time.time_ns() // 1000, query.number("SELECT max(listed_at) FROM known") + 1)
        warnings = [*_unmatched(query, table, run.config.metadata), *disputes.notes, *_broken(query)]
    is_new, is_other, was_listed = (changed[name] for name in ("is_new", "is_other", "was_listed"))
    return Listing(
        key=key,
        current=_rows(current, now),
        changes=pa.concat_tables([_rows(changed, now), _rows(gone, now)]),
        num_new=_num_true(pc.and_(is_new, pc.invert(was_listed))),
        num_replaced=_num_true(pc.and_(is_new, was_listed)),
        num_changed=_num_true(pc.and_(is_other, pc.invert(is_new))),
        num_gone=num_gone,
        left_aside=f"{key}: left aside {others}" if (others := _others(found, run.config, suffixes)) else "",
        warnings=warnings,
        corrections=disputes.corrections,
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
    num = listing.num_to_note
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


def _others(found: Found, config: Config, suffixes: frozenset[str]) -> str:
    """A phrase on files that no stage reads: neither metadata tables, nor what is listed as of the other kind."""
    tables = {path if "://" in path else os.path.abspath(path) for path in config.metadata}
    is_shared = any(_overlap(one, other) for one in config.audio for other in config.images)
    elsewhere = (AUDIO_SUFFIXES | IMAGE_SUFFIXES) - suffixes if is_shared else frozenset()
    others = (uri for uri in found.left_aside if uri not in tables and suffix_of(uri) not in elsewhere)
    counts = count_kinds(others)
    hint = " (a table with labels is named under `metadata`)" if counts.keys() & TABLE_SUFFIXES else ""
    return left_aside(counts) + hint


def _overlap(one: str, other: str) -> bool:
    """Whether one of two locations is, or is in, the other."""
    first, second = (f"{place if '://' in place else os.path.abspath(place)}/" for place in (one, other))
    return first.startswith(second) or second.startswith(first)


def _read_beside(query: Query, files: Sequence[File]) -> None:
    """What sidecars say, as the table `beside`; only those are read that changed since the last listing."""
    query.keep("beside", _KNOWN_BESIDE)
    unread = set(query.table(_UNREAD)["file_id"].to_pylist())
    chosen = [file for file in files if file.sidecars and file.file_id in unread]
    with ThreadPoolExecutor(_THREADS) as pool:
        for part in batches(chosen, _SIDECARS_AT_ONCE):
            read = pool.map(read_sidecars, part) if "://" in part[0].uri else map(read_sidecars, part)
            rows = [
                {"file_id": file.file_id, "sidecar_fault": fault} | asdict(metadata)
                for file, (metadata, fault) in zip(part, read, strict=True)
            ]
            query.fill("beside", _BESIDE, pa.Table.from_pylist(rows, schema=_BESIDE).select(_BESIDE.names))


def _unmatched(query: Query, table: str, tables: Sequence[str]) -> list[str]:
    """Sentences on tables with rows that name no file; whether members have these names is known once tars are read.

    A row that names neither a recording nor an image, such as one of a tar, may be matched by either listing. It is
    counted with the recordings.
    """
    candidates = of_members(_REST, "pairs_elsewhere", "SELECT uri FROM found WHERE is_tar")
    missing = f"SELECT r.* FROM ({_REST}) r ANTI JOIN ({candidates}) c ON r.number = c.number"
    counted = "SELECT * FROM metadata_rows WHERE is_own"
    if table == "audio_listing":
        others = f"SELECT * FROM ({missing}) r WHERE NOT is_own"
        images = "SELECT file_id, uri FROM known_image_listing WHERE is_present"
        match(query, "image_pairs", others, images)
        tars = f"SELECT uri FROM ({images}) i JOIN known_image_listing k USING (uri) WHERE k.is_tar"
        matched = f"SELECT number FROM image_pairs UNION {of_members(others, 'image_pairs_elsewhere', tars)}"
        missing = f"SELECT r.* FROM ({missing}) r ANTI JOIN ({matched}) i ON r.number = i.number"
        counted = "SELECT * FROM metadata_rows"
    else:
        missing = f"SELECT * FROM ({missing}) r WHERE is_own"
    return unmatched(query, counted, missing, "pairs_elsewhere", "SELECT uri FROM found", tables)


def _broken(query: Query) -> list[str]:
    num = query.number("SELECT count(*) FROM now WHERE sidecar_fault IS NOT NULL")
    if not num:
        return []
    first = query.table("SELECT arg_min(sidecar_fault, uri) AS fault FROM now")["fault"][0].as_py()
    return [f"metadata: sidecars that cannot be read: {num:,}, for example {first}; mend or delete them"]


def _num_true(values: pa.ChunkedArray) -> int:
    return pc.sum(values).as_py() or 0


def _as_table(files: Sequence[File]) -> pa.Table:
    parts = [
        pa.table(
            {
                "file_id": [file.file_id for file in part],
                "uri": [file.uri for file in part],
                "num_bytes": [file.num_bytes for file in part],
                "is_tar": [file.is_tar for file in part],
                "fault": [file.fault for file in part],
                "sidecars": [_digest(file) for file in part],
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


def _digest(file: File) -> str | None:
    """A digest of the sidecars of a file as they are listed."""
    beside = [[sidecar.uri, sidecar.num_bytes, sidecar.changed] for sidecar in file.sidecars]
    return content_id(json.dumps(beside).encode()) if beside else None


LIST_IMAGES = Stage(name="list_images", table="image_listing", make=partial(list_files, "image_listing"))
LIST_AUDIO = Stage(name="list_audio", table="audio_listing", make=partial(list_files, "audio_listing"))
