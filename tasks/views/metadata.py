"""Contradictory metadata: files with the same bytes of which metadata says different things."""

from collections.abc import Mapping

import pyarrow as pa

from aai.workspace import Query
from tasks.runtime.run import Run

_COLUMNS = ("licence", "label", "caption")
_KINDS = {"image": "images", "audio": "recordings"}
_DISPUTED = """
    SELECT n.content_id FROM named_{kind} n
    SEMI JOIN (SELECT content_id FROM present_{kind}_files GROUP BY content_id HAVING count(*) > 1) s
    ON n.content_id = s.content_id
    GROUP BY n.content_id HAVING {differs}
"""
_DIFFERS = " OR ".join(f"min(n.{name}) <> max(n.{name})" for name in _COLUMNS)


def disputed_contents(run: Run, extra: Mapping[str, pa.Table] | None = None) -> list[str]:
    """A sentence on recordings, and one on images, that lie under several names with different metadata.

    Args:
        run: the run.
        extra: tables in memory that hide stored ones of the same name.

    Raises:
        Transient: the store failed.
    """
    with run.query(extra=extra) as query:
        return [note for kind in _KINDS for note in _notes(query, kind)]


def _notes(query: Query, kind: str) -> list[str]:
    num = query.keep(f"disputed_{kind}", _DISPUTED.format(kind=kind, differs=_DIFFERS))
    if not num:
        return []
    query.keep(f"example_{kind}", f"SELECT min(content_id) AS content_id FROM disputed_{kind}")
    rows = query.table(
        f"SELECT n.* FROM named_{kind} n SEMI JOIN example_{kind} e ON n.content_id = e.content_id ORDER BY n.uri"
    ).to_pylist()
    column = next(name for name in _COLUMNS if len({row[name] for row in rows} - {None}) > 1)
    first, *others = [row for row in rows if row[column] is not None]
    other = next(row for row in others if row[column] != first[column])
    [counts] = query.table(
        f"SELECT l.{column} FROM located_{kind} l SEMI JOIN example_{kind} e ON l.content_id = e.content_id"
    ).to_pylist()
    return [
        f"metadata: {_KINDS[kind]} that lie under several names with different metadata: {num:,}, for example "
        f"{first['uri']} ({column} {first[column]!r}) and {other['uri']} ({column} {other[column]!r}); what counts is "
        f"{counts[column]!r}: give all the same, or remove one"
    ]
