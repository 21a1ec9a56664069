"""Export: what the tables say of cues becomes what their files hold. Nothing here loads a model or starts Ray."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from aai.errors import BadConfig
from aai.export import Entry, Program, attribution, name_of, recording
from aai.jobs.selection import CueFilter, choose
from aai.models.encoders import row_dims
from tasks.runtime.run import Run
from tasks.runtime.tables import described_cues, look_up, with_columns

_AT_ONCE = 8_192
"""Cues that are in memory together: 130 MB of 2 x 2,048 numbers."""


class ExportSource:
    """The cues of a run's configuration that a filter lets through, the first by their ids.

    Raises:
        BadConfig: there are no such cues, they have no rows, or the model's configuration is not at hand.
        Transient: the store failed.
    """

    def __init__(self, run: Run, wanted: CueFilter, limit: int | None) -> None:
        if run.config.fit.method == "text":
            raise BadConfig(
                "fit.method: the cues of the method `text` are words in the prompt and have no rows to export: choose "
                "adapter, mapper or inversion, and run `aai build`"
            )
        self._run = run
        cues = described_cues(run.workspace, run.recipe("cues"), run.recipe("clips"))
        self._chosen = choose(cues, wanted, "export").slice(0, limit)
        if not self._chosen.num_rows:
            raise BadConfig("export: no cue passes the filter: leave `--where` or `--label` out to have all")
        self.dims = _dims(run)

    def __len__(self) -> int:
        """How many cues there are."""
        return int(self._chosen.num_rows)

    def cues(self, program: Program) -> Iterator[tuple[Entry, np.ndarray]]:
        """What is said of each cue to a program, and its rows."""
        run, base = self._run, self._run.pinned("diffusion")
        for first in range(0, len(self), _AT_ONCE):
            some = self._chosen.slice(first, _AT_ONCE)
            vectors = look_up(run.workspace, "cues", run.recipe("cues"), some["clip_id"].to_pylist(), ["vector"])
            numbers = with_columns(some.select(["clip_id"]), "clip_id", vectors)["vector"]
            for row, vector in zip(some.to_pylist(), numbers, strict=True):
                rows = vector.values.to_numpy().reshape(row["num_tokens"], row["dim"])
                yield _entry(row, base, run.recipe("cues"), program), rows


def _dims(run: Run) -> list[int]:
    model = run.config.models.diffusion
    try:
        return row_dims(model.name, model.revision)
    except BadConfig as error:
        raise BadConfig(f"models.diffusion: {error}") from error


def _entry(row: dict[str, Any], base: tuple[str, str], recipe: str, program: Program) -> Entry:
    name = name_of(row["clip_id"], row["label"])
    return Entry(
        file=f"{name}.safetensors",
        token=f"<{name}>",
        clip_id=row["clip_id"],
        label=row["label"] or "",
        licence=row["licence"] or "",
        attribution=attribution(row["attributes"]),
        recording=recording(row["uri"], row["offset"]),
        start_s=str(row["start_s"]),
        duration_s=str(row["duration_s"]),
        method=row["method"],
        base_model=base[0],
        base_revision=base[1],
        recipe=recipe,
        program=program,
    )
