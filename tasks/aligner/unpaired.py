"""What of the files of a training has no partner, in sentences that name the first of them."""

from collections.abc import Sequence

from aai.errors import BadConfig
from aai.format import without_secrets
from aai.workspace import Query
from tasks.runtime.run import Run

_NUM_NAMED = 3

_MISSING = """
    SELECT file, count(*) OVER () AS num FROM (
        SELECT audio AS file FROM listed WHERE audio NOT IN (SELECT uri FROM ({sounds}))
        UNION SELECT image AS file FROM listed WHERE image NOT IN (SELECT uri FROM ({pictures}))
    ) ORDER BY file LIMIT {limit}
"""
_ROWS = """
    SELECT count(*) AS num, count(*) FILTER (audio IS NULL OR image IS NULL) AS unnamed FROM listed
    WHERE audio NOT IN (SELECT uri FROM ({sounds})) OR image NOT IN (SELECT uri FROM ({pictures}))
       OR audio IS NULL OR image IS NULL
"""
_TARS = """
    SELECT l.uri, r.id IS NOT NULL AS is_without FROM current_{kind}_listing l
    LEFT JOIN (SELECT DISTINCT id FROM rejects) r ON l.file_id = r.id WHERE l.is_tar AND l.fault IS NULL ORDER BY l.uri
"""
_KINDS = {"audio": "sounds", "image": "images"}
_TOO_MANY = "run.max_reject_fraction"


def first_of(names: Sequence[str], num: int) -> str:
    """The first of some names, and how many more there are."""
    shown = ", ".join(without_secrets(name) for name in names[:_NUM_NAMED])
    return f"{shown} and {num - _NUM_NAMED:,} more" if num > _NUM_NAMED else shown


def rows_without_pair(query: Query, sounds: str, pictures: str) -> list[str]:
    """A sentence on the rows of the table `listed` of which a file is not in the workspace, or not named.

    Raises:
        Transient: the store failed.
    """
    [rows] = query.table(_ROWS.format(sounds=sounds, pictures=pictures)).to_pylist()
    if not rows["num"]:
        return []
    missing = query.table(_MISSING.format(sounds=sounds, pictures=pictures, limit=_NUM_NAMED)).to_pylist()
    parts = []
    if missing:
        num = missing[0]["num"]
        named = first_of([row["file"] for row in missing], num)
        parts.append(f"missing or rejected files: {num:,} ({named})")
    if rows["unnamed"]:
        parts.append(f"rows that name one file only, or none: {rows['unnamed']:,}")
    return [f"rows of the table without a pair: {rows['num']:,}; {'; '.join(parts)}"]


def tars_without(run: Run) -> list[str]:
    """A sentence for each kind of files that some tars of the pairs lack.

    Raises:
        Transient: the store failed.
    """
    return [sentence for kind in _KINDS if (sentence := _tars_without(run, kind))]


def refused(run: Run, stage: str, error: BadConfig) -> BadConfig:
    """The error of a stage; of tars that lack sounds or images the one that names them, and the key of the training.

    Raises:
        Transient: the store failed.
    """
    kind = stage.removeprefix("read_").removesuffix("_tars")
    if kind not in _KINDS or error.key != _TOO_MANY or not (sentence := _tars_without(run, kind)):
        return error
    return BadConfig(f"{sentence}: put each sound and its images into one tar", key="pairs.folder")


def _tars_without(run: Run, kind: str) -> str:
    with run.query({"rejects": run.recipe(f"{kind}_members")}) as query:
        tars = query.table(_TARS.format(kind=kind)).to_pylist()
    names = [row["uri"] for row in tars if row["is_without"]]
    if not names:
        return ""
    return f"{len(names):,} of {len(tars):,} tars hold no {_KINDS[kind]} ({first_of(names, len(names))})"
