"""Selection of cues by label, clip id or a condition in SQL, and interpolation between two selections."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from pydantic import Field, field_validator, model_validator

from aai.errors import BadConfig
from aai.options import Options

if TYPE_CHECKING:
    import pyarrow as pa


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


def select_cues(cues: "pa.RecordBatchReader", cue_filter: CueFilter, columns: Sequence[str], key: str) -> "pa.Table":
    """Some columns of the cues that a filter selects, sorted by clip id.

    The SQL condition has no access to files or the network.

    Args:
        cues: a stream of all cues with the columns of `clips` and `cues`.
        cue_filter: the filter.
        columns: the columns to return.
        key: the key of the filter, for the error.

    Raises:
        BadConfig: the condition is not SQL, or names a column that does not exist.
    """
    import duckdb

    with duckdb.connect(config={"enable_external_access": "false", "threads": 1}) as database:
        try:
            found = database.from_arrow(cues)
            for column, values in (("label", cue_filter.labels), ("clip_id", cue_filter.clip_ids)):
                if values:
                    found = found.filter(f"{column} IN ({', '.join(map(_quoted, values))})")
            if cue_filter.where:
                found = found.filter(cue_filter.where)
            return found.project(", ".join(columns)).to_arrow_table().sort_by("clip_id")
        except duckdb.Error as error:
            reason = " ".join(str(error).split("\n\n")[0].split())
            raise BadConfig(f"{cue_filter.where!r} cannot be used: {reason}", key=f"{key}.where") from error


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
