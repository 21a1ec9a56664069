"""Selection of cues by label, clip id or a condition in SQL, and interpolation between two selections."""

import difflib
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field, field_validator, model_validator

from aai.errors import BadConfig
from aai.format import shortened
from aai.options import Options

if TYPE_CHECKING:
    import pyarrow as pa

    from aai.workspace import Query

_MAX_LABELS = 10
_PROGRAM = Path(__file__).with_name("condition.py")
_UNKNOWN = re.compile(r'Referenced column "(.+?)" (?:was )?not found')


class CueFilter(Options):
    """Selection of cues: those that meet all conditions; without any, all cues."""

    labels: tuple[str, ...] = ()
    """Labels; the clip has one of them."""

    clip_ids: tuple[str, ...] = ()
    """Clip ids; the clip is one of them."""

    where: str | None = Field(None, min_length=1)
    """A condition in SQL over the columns of `clips` and `cues`, as `label = 'rain' and duration_s > 2`."""

    @model_validator(mode="before")
    @classmethod
    def _from_text(cls, given: Any) -> Any:
        return {"where": given} if isinstance(given, str) else given

    @field_validator("labels", "clip_ids", mode="before")
    @classmethod
    def _one_or_many(cls, given: Any) -> Any:
        if isinstance(given, list) and not given:
            raise ValueError("it is empty, so it would select all cues: name at least one, or leave it out")
        return (given,) if isinstance(given, str) else given


class Blend(Options):
    """Interpolation between two cues, in even steps."""

    start: CueFilter = Field(alias="from")
    """The cues at the start."""

    end: CueFilter = Field(alias="to")
    """The cues at the end. The first start is blended with the first end, the second with the second, and so on."""

    steps: int = Field(8, ge=2, le=1_000)
    """Number of pictures, both ends included."""

    @property
    def positions(self) -> tuple[float, ...]:
        """The position of each picture between the ends, from 0 to 1."""
        return tuple(step / (self.steps - 1) for step in range(self.steps))


def select_cues(  # noqa: PLR0913
    query: "Query",
    cue_filter: CueFilter,
    columns: Sequence[str],
    key: str,
    limit_s: int = 60,
    rows: "pa.RecordBatchReader | None" = None,
) -> "pa.Table":
    """Some columns of the cues that a filter selects, sorted by clip id.

    The SQL condition has no access to files or the network, and its time and memory are limited.

    Args:
        query: a connection to the bank.
        cue_filter: the filter.
        columns: the columns to return.
        key: the key of the filter, for the error.
        limit_s: maximum processor time of the condition in seconds.
        rows: what is filtered instead of the cues of present clips, such as clips without cues.

    Raises:
        BadConfig: the condition is not SQL, names a column that does not exist, or needs too much time or memory.
    """
    import pyarrow as pa

    cues = rows or query.described_cues()
    batches = (_matching(batch, cue_filter) for batch in cues)
    if cue_filter.where is None:
        found = pa.Table.from_batches((batch.select(columns) for batch in batches), _schema_of(cues, columns))
        return found.sort_by("clip_id")
    try:
        return _meeting(cue_filter.where, cues.schema, batches, columns, limit_s).sort_by("clip_id")
    except _Refused as error:
        sentence = _explained(cue_filter.where, str(error), cues.schema.names, labels_of(query))
        raise BadConfig(f"{shortened(cue_filter.where)} cannot be used: {sentence}", key=f"{key}.where") from error


def labels_of(query: "Query") -> dict[str, int]:
    """The labels of all cues with their numbers of cues, the most frequent first."""
    rows = query.table(
        "SELECT label, count(*) AS num FROM cues JOIN present_clips USING (clip_id) WHERE label IS NOT NULL "
        "GROUP BY label ORDER BY num DESC, label"
    ).to_pylist()
    return {row["label"]: row["num"] for row in rows}


def labels_sentence(labels: Mapping[str, int]) -> str:
    """A few labels with their numbers of cues."""
    if not labels:
        return "no cue has a label"
    shown = ", ".join(f"{label} ({num:,})" for label, num in list(labels.items())[:_MAX_LABELS])
    more = len(labels) - _MAX_LABELS
    return f"the labels are {shown}{f' and {more:,} more' if more > 0 else ''}"


def without_match(cue_filter: CueFilter, found: "pa.Table") -> list[str]:
    """Labels and clip ids of a filter that none of the cues that pass it has.

    Args:
        cue_filter: the filter.
        found: the cues that it selects, with the columns `label` and `clip_id`.
    """
    labels, ids = (set(found[name].to_pylist()) for name in ("label", "clip_id"))
    missing = [f"label {label}" for label in cue_filter.labels if label not in labels]
    return missing + [f"id {shortened(own)}" for own in cue_filter.clip_ids if own not in ids]


def remark_on(cue_filter: CueFilter, found: "pa.Table", labels: Mapping[str, int], key: str) -> str:
    """That a filter selects nothing, or that some labels or ids in it select nothing; empty if all do.

    Args:
        cue_filter: the filter.
        found: the cues that it selects, with the columns `label` and `clip_id`.
        labels: the labels of all cues.
        key: the key that has the filter.
    """
    what = "its filter" if key == "cues" else f"the filter of {key}"
    if not found.num_rows:
        return f"no cue passes {what}; {labels_sentence(labels)}"
    missing = without_match(cue_filter, found)
    shown = ", ".join(missing[:_MAX_LABELS]) + (
        f" and {len(missing) - _MAX_LABELS:,} more" * (len(missing) > _MAX_LABELS)
    )
    return f"no cue that passes {what} has: {shown}; {labels_sentence(labels)}" if missing else ""


class _Refused(Exception):
    """A condition that cannot be used, with the reason."""


def _matching(batch: "pa.RecordBatch", cue_filter: CueFilter) -> "pa.RecordBatch":
    """The cues of a batch with one of the labels and one of the ids."""
    import pyarrow as pa
    import pyarrow.compute as pc

    for column, values in (("label", cue_filter.labels), ("clip_id", cue_filter.clip_ids)):
        if values:
            batch = batch.filter(pc.is_in(batch[column], pa.array(values, batch.schema.field(column).type)))
    return batch


def _schema_of(cues: "pa.RecordBatchReader", columns: Sequence[str]) -> "pa.Schema":
    import pyarrow as pa

    return pa.schema([cues.schema.field(column) for column in columns])


def _meeting(
    condition: str, schema: "pa.Schema", batches: "Iterable[pa.RecordBatch]", columns: Sequence[str], limit_s: int
) -> "pa.Table":
    """The rows that meet a condition, which is evaluated in a process of its own.

    Raises:
        _Refused: it cannot be used, or needs too much time or memory.
    """
    import pyarrow as pa

    with tempfile.TemporaryDirectory(prefix="aai-filter-") as folder:
        found, errors = Path(folder, "found.arrow"), Path(folder, "errors.txt")
        names = ", ".join(f'"{column}"' for column in columns)
        command = [sys.executable, "-P", str(_PROGRAM), condition, names, str(limit_s), str(found)]
        with errors.open("wb") as stream, subprocess.Popen(command, stdin=subprocess.PIPE, stderr=stream) as process:
            try:
                _feed(process, schema, batches)
                code = process.wait()
            finally:
                process.kill()
                process.wait()
        if code == 0:
            with pa.OSFile(str(found)) as source, pa.ipc.open_stream(source) as stream:
                return stream.read_all()
        raise _Refused(_reason(code, errors.read_text(errors="replace"), limit_s))


def _feed(process: "subprocess.Popen[bytes]", schema: "pa.Schema", batches: "Iterable[pa.RecordBatch]") -> None:
    """Write batches to a process until it ends."""
    import pyarrow as pa

    assert process.stdin is not None
    with suppress(BrokenPipeError), process.stdin, pa.ipc.new_stream(process.stdin, schema) as stream:
        for batch in batches:
            stream.write_batch(batch)


def _reason(code: int, output: str, limit_s: int) -> str:
    """Why a condition's process ended without a result."""
    from aai.jobs.condition import MEMORY_BYTES, REFUSED

    if code == REFUSED:
        return " ".join(output.split("\n\n")[0].split("\nLINE ")[0].split())
    if code in (-signal.SIGXCPU, -signal.SIGALRM, -signal.SIGKILL):
        return f"it takes more than {limit_s} s: simplify it, or raise run.filter_s"
    return f"it takes more than {MEMORY_BYTES / 2**30:g} GiB of memory: simplify it"


def _explained(condition: str, reason: str, columns: Sequence[str], labels: Mapping[str, int]) -> str:
    """A reason with what the user may have meant."""
    as_label = condition.strip().strip("'\"")
    if label := next((label for label in labels if label.lower() == as_label.lower()), None):
        return f"it is a label and no condition: did you mean label = {_quoted(label)}"
    if unknown := _UNKNOWN.search(reason):
        name = unknown.group(1)
        if name in labels:
            return f"there is no column {name}, but a label: did you mean label = {_quoted(name)}"
        close = difflib.get_close_matches(name, columns, n=1)
        remedy = (
            f"did you mean {close[0]}" if close else f"the columns are {', '.join(columns)}; {labels_sentence(labels)}"
        )
        return f"there is no column {name}: {remedy}"
    return reason


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
