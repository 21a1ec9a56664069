"""Read tars: the headers of each new tar become rows, so that ingest cuts large tars into slices by their members."""

from collections import Counter
from dataclasses import asdict

import pyarrow as pa

from aai.errors import BadItem
from aai.identity import content_id
from aai.media.files import read_members
from aai.media.kinds import AUDIO_SUFFIXES, IMAGE_SUFFIXES, count_kinds, left_aside
from aai.workspace import SCHEMAS
from tasks.runtime.stage import Context, Stage
from tasks.runtime.work import Outcome, Reject

_SCHEMA = SCHEMAS["audio_members"].columns


class TarReader:
    """Reads the headers and sidecars of tars, each in one pass."""

    def __init__(self, suffixes: frozenset[str]) -> None:
        self.suffixes = suffixes

    def __call__(self, rows: pa.Table) -> Outcome:
        """Map a slice of tars."""
        found: list[dict[str, object]] = []
        others: Counter[str] = Counter()
        rejects = []
        for row in rows.to_pylist():
            try:
                members, left = self._members(row["tar_id"], row["uri"], row["fault"])
            except BadItem as error:
                rejects.append(Reject.of(row["tar_id"], error, row["uri"]))
                continue
            found += members
            others += count_kinds(left)
        return Outcome(pa.Table.from_pylist(found, schema=_SCHEMA), rejects, counts=others)

    def _members(self, tar_id: str, uri: str, fault: str | None) -> tuple[list[dict[str, object]], list[str]]:
        if fault:
            raise BadItem(fault, uri=uri)
        contents = read_members(uri, self.suffixes)
        rows = [
            {
                "tar_id": tar_id,
                "file_id": content_id(f"{tar_id} {number}".encode()),
                "name": member.name,
                "offset": member.offset,
                "num_bytes": member.num_bytes,
                "fault": member.fault,
                "sidecar_fault": member.sidecar_fault,
            }
            | asdict(member.metadata)
            for number, member in enumerate(contents.members)
        ]
        if not rows:
            but = f" (it has {phrase})" if (phrase := left_aside(count_kinds(contents.left_aside))) else ""
            raise BadItem(f"no member is of a known kind{but}: leave the tar out, or rename its members", uri=uri)
        return rows, contents.left_aside


def _note(counts: Counter[str]) -> str:
    return f"left aside {phrase}" if (phrase := left_aside(counts)) else ""


def _audio_tars(context: Context) -> TarReader:
    return TarReader(AUDIO_SUFFIXES)


def _image_tars(context: Context) -> TarReader:
    return TarReader(IMAGE_SUFFIXES)


_ROWS = "SELECT file_id AS tar_id, uri, fault FROM current_{kind}_listing WHERE is_tar"

IMAGE_TARS = Stage(
    name="read_image_tars",
    table="image_members",
    reads=("image_listing",),
    rows=_ROWS.format(kind="image"),
    worker=_image_tars,
    slice_size=4,
    code_version=2,
    note=_note,
)
AUDIO_TARS = Stage(
    name="read_audio_tars",
    table="audio_members",
    reads=("audio_listing",),
    rows=_ROWS.format(kind="audio"),
    worker=_audio_tars,
    slice_size=4,
    code_version=2,
    note=_note,
)
