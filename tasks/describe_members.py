"""Describe members: what metadata tables say of tars and of their members becomes a log, once the tars are read.

A row names a member as `a.tar#1.png`, as `a.tar/1.png`, or by its own name if the table lies beside the tar; a row that
names the tar describes all of its members. Sidecars in the tar count more than the row of the tar, and rows of members
count more than sidecars.
"""

import logging
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial

import pyarrow as pa

from aai.media.kinds import AUDIO_SUFFIXES, IMAGE_SUFFIXES
from aai.media.metadata import COLUMNS
from aai.workspace import SCHEMAS, Query
from tasks.match_metadata import SIDECARS, TAR, fill_rows, match, of_members, resolve, unmatched
from tasks.runtime.driver import StageSummary
from tasks.runtime.run import Run
from tasks.runtime.stage import Stage

_SCHEMA = SCHEMAS["audio_member_metadata"].columns

_MEMBERS = f"""
    SELECT m.file_id, l.uri AS tar, l.uri || '#' || m.name AS uri, m.name, m.sidecar_fault,
           {", ".join(f"m.{name}, l.{name} AS tar_{name}" for name in COLUMNS)}
    FROM {{kind}}_members m JOIN current_{{kind}}_listing l ON m.tar_id = l.file_id
"""
_LOOSE = "SELECT file_id, uri FROM current_{kind}_listing WHERE NOT is_tar"
_WITHIN = """
    SELECT file_id, uri FROM members UNION ALL SELECT file_id, tar || '/' || name AS uri FROM members
"""
_BESIDE_TAR = """
    SELECT min(file_id) AS file_id, regexp_replace(tar, '/[^/]*$', '') || '/' || name AS uri FROM members
    GROUP BY ALL HAVING count(*) = 1
"""
_TEXTS = ", ".join(COLUMNS)
_OF_ROWS = f"""
    SELECT p.file_id, m.uri, r.number, r.source, r.line, {", ".join(f"r.{name}" for name in COLUMNS)}
    FROM pairs p JOIN metadata_rows r ON p.number = r.number JOIN members m ON p.file_id = m.file_id
"""
_OF_TARS = f"""
    SELECT file_id, uri, {TAR}, {TAR}, 0, {", ".join(f"tar_{name}" for name in COLUMNS)}
    FROM members WHERE coalesce({", ".join(f"tar_{name}" for name in COLUMNS)}) IS NOT NULL
"""
_OF_SIDECARS = f"""
    SELECT m.file_id, m.uri, {SIDECARS}, {SIDECARS}, 0, {", ".join(f"m.{name}" for name in COLUMNS)}
    FROM members m SEMI JOIN touched t ON m.file_id = t.file_id
    WHERE coalesce({", ".join(f"m.{name}" for name in COLUMNS)}) IS NOT NULL
"""
_DIFFERS = " OR ".join(
    f"d.{name} IS DISTINCT FROM CASE WHEN k.file_id IS NULL THEN m.{name} ELSE k.{name} END" for name in COLUMNS
)
_CHANGED = f"""
    SELECT d.file_id, {", ".join(f"d.{name}" for name in COLUMNS)}
    FROM described d JOIN members m ON d.file_id = m.file_id LEFT JOIN known k ON d.file_id = k.file_id
    WHERE {_DIFFERS}
    UNION ALL
    SELECT m.file_id, {", ".join(f"m.{name}" for name in COLUMNS)}
    FROM known k JOIN members m ON k.file_id = m.file_id ANTI JOIN described d ON k.file_id = d.file_id
    WHERE {" OR ".join(f"k.{name} IS DISTINCT FROM m.{name}" for name in COLUMNS)}
"""

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class MemberListing:
    """What is known of the members of tars, compared with what was known."""

    num: int
    """Members of the tars that are there."""
    changes: pa.Table
    """Rows to append: members with other metadata, with the columns of the table except `listed_at`."""
    warnings: list[str]
    """Sentences on rows that name no member, on disputed metadata, and on sidecars without effect."""
    corrections: list[str] = field(default_factory=list)
    """A sentence on members of which one source corrects another."""

    @property
    def notes(self) -> list[str]:
        """Sentences on changed metadata, and on metadata without effect."""
        num = self.changes.num_rows
        changed = [f"tar members with other metadata than before: {num:,}"] if num else []
        return [*changed, *self.corrections, *self.warnings]


def look(run: Run, kind: str, listing: pa.Table | None = None) -> MemberListing:
    """Compare what metadata tables say of members with what is known; nothing is written.

    Args:
        run: the run.
        kind: audio or image.
        listing: today's listing; by default the stored one counts, and all of its tars have been read.

    Raises:
        BadConfig: a metadata table cannot be read.
        Transient: the store failed.
    """
    extra = {} if listing is None else {f"known_{kind}_listing": listing}
    with run.query(extra=extra) as query:
        num = query.number(f"SELECT count(*) FROM current_{kind}_listing WHERE is_tar")
        if not num:
            return MemberListing(0, _SCHEMA.empty_table().drop_columns(["listed_at"]), [])
        num = query.keep("members", _MEMBERS.format(kind=kind))
        query.keep("known", f"SELECT * FROM known_{kind}_member_metadata")
        _match(query, run, kind)
        query.keep("statements", f"{_OF_ROWS} UNION ALL {_OF_TARS}")
        query.keep("touched", "SELECT DISTINCT file_id FROM statements")
        disputes = resolve(
            query, "described", f"SELECT * FROM statements UNION ALL {_OF_SIDECARS}", run.config.metadata
        )
        tars = "SELECT tar AS uri FROM members" + (
            f" UNION SELECT uri FROM current_{kind}_listing WHERE is_tar" if listing is None else ""
        )
        warnings = [*_unmatched(query, tars, run.config.metadata), *disputes.notes, *_broken(query)]
        return MemberListing(num, query.table(_CHANGED), warnings, disputes.corrections)


def _match(query: Query, run: Run, kind: str) -> None:
    """Pairs of rows and members, as the table `pairs`; a row that names a file names no member."""
    own, other = (AUDIO_SUFFIXES, IMAGE_SUFFIXES) if kind == "audio" else (IMAGE_SUFFIXES, AUDIO_SUFFIXES)
    fill_rows(query, "metadata_rows", run.config.metadata, own, other - own)
    match(query, "loose", "SELECT * FROM metadata_rows WHERE is_own", _LOOSE.format(kind=kind))
    query.keep("of_tars", "SELECT r.* FROM metadata_rows r ANTI JOIN loose p ON r.number = p.number WHERE r.is_own")
    match(query, "within", "SELECT * FROM of_tars", _WITHIN)
    rest = "SELECT r.* FROM of_tars r ANTI JOIN within p ON r.number = p.number"
    match(query, "beside_tar", rest, _BESIDE_TAR)
    query.keep("pairs", "SELECT * FROM within UNION SELECT * FROM beside_tar")


def _unmatched(query: Query, tars: str, tables: tuple[str, ...]) -> list[str]:
    rows = of_members("SELECT * FROM of_tars", "beside_tar_elsewhere", tars)
    candidates = f"SELECT r.* FROM of_tars r SEMI JOIN ({rows}) c ON r.number = c.number"
    missing = f"SELECT r.* FROM ({candidates}) r ANTI JOIN pairs p ON r.number = p.number"
    known = f"SELECT number FROM loose UNION SELECT number FROM pairs UNION SELECT number FROM ({missing})"
    counted = f"SELECT r.* FROM metadata_rows r SEMI JOIN ({known}) c ON r.number = c.number"
    return unmatched(query, counted, missing, "beside_tar_elsewhere", "SELECT uri FROM members", tables)


def _broken(query: Query) -> list[str]:
    faults = query.table(
        "SELECT count(*) AS num, arg_min(tar || '#' || sidecar_fault, uri) AS first FROM members "
        "WHERE sidecar_fault IS NOT NULL"
    ).to_pylist()[0]
    if not faults["num"]:
        return []
    return [
        f"metadata: tar members with a sidecar that cannot be read: {faults['num']:,}, for example {faults['first']}"
    ]


def describe_members(kind: str, run: Run) -> StageSummary:
    """Bring the log of what is known of members up to date."""
    table = f"{kind}_member_metadata"
    started_at, start_s, recipe = datetime.now(UTC), time.monotonic(), run.recipe(table)
    found = look(run, kind)
    for note in found.notes:
        _log.warning(note)
    num = found.changes.num_rows
    if not num:
        return StageSummary.nothing(run.stage_of(table).name, recipe, found.num)
    with run.query() as query:
        now = max(time.time_ns() // 1000, query.number(f"SELECT max(listed_at) FROM {table}") + 1)
    rows = found.changes.append_column("listed_at", pa.repeat(pa.scalar(now), num)).cast(_SCHEMA)
    run.register(table)
    run.workspace.table(table).append(recipe, rows)
    took_s = time.monotonic() - start_s
    summary = StageSummary(run.stage_of(table).name, recipe, found.num - num, num, rejected=0, took_s=took_s)
    run.record(started_at, summary)
    return summary


IMAGE_MEMBER_METADATA = Stage(
    name="describe_image_members",
    table="image_member_metadata",
    reads=("image_members", "image_listing"),
    make=partial(describe_members, "image"),
)
AUDIO_MEMBER_METADATA = Stage(
    name="describe_audio_members",
    table="audio_member_metadata",
    reads=("audio_members", "audio_listing"),
    make=partial(describe_members, "audio"),
)
