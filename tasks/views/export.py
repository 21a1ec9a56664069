"""Export: cues of the bank with the metadata of their files."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from aai.errors import BadConfig
from aai.export import Entry, Program, attribution, name_of, recording
from aai.jobs.selection import CueFilter, labels_of, labels_sentence, remark_on, select_cues
from aai.models.encoders import embedding_dims
from tasks.runtime.run import Run

_BATCH_ROWS = 4_096
"""Cues in memory at a time: 65 MB of SDXL's 2 x 2,048 numbers."""

_CLIP_COLUMNS = ("clip_id", "label", "licence", "attributes", "uri", "offset", "start_s", "duration_s")
_CUE_COLUMNS = ("num_tokens", "dim", "method")


class ExportSource:
    """The cues of a run's configuration that a filter selects, up to a limit, sorted by clip id.

    Raises:
        BadConfig: the filter selects no cue, or the model's configuration cannot be loaded.
        Transient: the store failed.
    """

    def __init__(self, run: Run, cue_filter: CueFilter, limit: int | None) -> None:
        self._run = run
        with run.query() as query:
            if not query.number("SELECT count(*) FROM (SELECT clip_id FROM cues LIMIT 1)"):
                raise BadConfig(
                    "it has no cues of this configuration: run `aai build` with it first",
                    key="workspace",
                    uri=run.workspace.uri,
                )
            columns, limit_s = (*_CLIP_COLUMNS, *_CUE_COLUMNS), run.config.run.filter_s
            found = select_cues(query, cue_filter, columns, "export", limit_s)
            if not found.num_rows:
                labels = labels_sentence(labels_of(query))
                remedy = "leave out `--where` and `--label` to export all"
                raise BadConfig(f"the filter selects no cue, and {labels}: {remedy}", key="export")
            self.remark = remark_on(cue_filter, found, labels_of(query), "export")
            """On labels of the filter that no cue has; empty if all have some."""
        self._selected = found.slice(0, limit)
        self.dims = _dims(run)

    def __len__(self) -> int:
        """Number of cues."""
        return int(self._selected.num_rows)

    def cues(self, program: Program) -> Iterator[tuple[Entry, np.ndarray]]:
        """Each cue's entry for a program, and its token vectors."""
        run = self._run
        base, recipe = run.revision("diffusion"), run.recipe("cues")
        with run.query(extra={"selected": self._selected}) as query:
            for rows in query.batches("SELECT s.*, c.vector FROM cues c JOIN selected s USING (clip_id)", _BATCH_ROWS):
                vectors = rows["vector"].combine_chunks()
                for row, vector in zip(rows.drop_columns("vector").to_pylist(), vectors, strict=True):
                    yield (
                        _entry(row, base, recipe, program),
                        vector.values.to_numpy().reshape(row["num_tokens"], row["dim"]),
                    )


def _dims(run: Run) -> list[int]:
    model = run.config.models.diffusion
    try:
        return embedding_dims(model.name, model.revision)
    except BadConfig as error:
        raise BadConfig(error.sentence, key="models.diffusion", uri=error.uri) from error


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
