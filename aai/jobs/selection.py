"""Which cues are meant: by label, by clip, or by a condition in SQL; and cues between two."""

from typing import TYPE_CHECKING, Any

from pydantic import Field, field_validator, model_validator

from aai.errors import BadConfig
from aai.options import Options

if TYPE_CHECKING:
    import pyarrow as pa


class CueFilter(Options):
    """Which cues a job is about: those that all of its conditions let through; without any, all cues."""

    labels: tuple[str, ...] = ()
    """One of these is the clip's label."""

    clip_ids: tuple[str, ...] = ()
    """One of these is the clip's id."""

    where: str | None = Field(None, min_length=1)
    """A condition in SQL over the columns of `clips` and `cues`, as `label = 'rain' and duration_s > 2`."""

    @model_validator(mode="before")
    @classmethod
    def _from_text(cls, given: Any) -> Any:
        return {"where": given} if isinstance(given, str) else given

    @field_validator("labels", "clip_ids", mode="before")
    @classmethod
    def _one_or_many(cls, given: Any) -> Any:
        return (given,) if isinstance(given, str) else given


class Blend(Options):
    """Cues between two, in even steps from one to the other."""

    start: CueFilter = Field(alias="from")
    """Which cues it begins with."""

    end: CueFilter = Field(alias="to")
    """Which cues it comes to: the first of these from the first of those, and so on."""

    steps: int = Field(8, ge=2, le=1_000)
    """How many pictures, both ends counted."""

    @property
    def positions(self) -> tuple[float, ...]:
        """Where between its ends each picture is, from 0 to 1."""
        return tuple(step / (self.steps - 1) for step in range(self.steps))


def choose(cues: "pa.Table", wanted: CueFilter, place: str, key: str = "cues") -> "pa.Table":
    """The rows that a filter lets through, in their order.

    The message about a wrong condition begins with `place`, and with the key under which the filter stands there.

    Raises:
        BadConfig: the condition is no SQL, or names what is not there.
    """
    import pyarrow.compute as pc

    conditions = [("label", wanted.labels), ("clip_id", wanted.clip_ids)]
    for column, values in conditions:
        if values:
            cues = cues.filter(pc.field(column).isin(list(values)))
    return _filtered(cues, wanted.where, f"{place}: {key}.where") if wanted.where else cues


def _filtered(cues: "pa.Table", condition: str, place: str) -> "pa.Table":
    """Rows under a condition in SQL, which reaches neither files nor the network."""
    import duckdb
    import pyarrow as pa

    numbered = cues.append_column("_row", pa.arange(0, cues.num_rows))
    with duckdb.connect(config={"enable_external_access": "false"}) as database:
        try:
            rows = database.from_arrow(numbered).filter(condition).project("_row").order("_row").to_arrow_table()
        except duckdb.Error as error:
            said = " ".join(str(error).split("\n\n")[0].split())
            raise BadConfig(f"{place}: {condition!r} cannot be used: {said}") from error
    return cues.take(rows["_row"])
