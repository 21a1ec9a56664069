"""Export of cues to files that other programs load."""

import time
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from aai.export import CARD, Folder, Program, model_card
from aai.jobs.selection import CueFilter
from tasks.runtime.run import Run
from tasks.views.export import ExportSource


@dataclass(frozen=True)
class Exported:
    """Counts of an export."""

    folder: Path

    num: int
    """Selected cues."""

    new: int
    """Files that were written."""

    updated: int
    """Files that were written again, because the label or licence changed."""

    unlicensed: int
    """Cues of recordings without a licence in the metadata."""

    remark: str = ""
    """On labels that select no cue."""

    @property
    def sentence(self) -> str:
        """The counts as a sentence."""
        num_same = self.num - self.new - self.updated
        existing = f", {self.updated:,} updated" if self.updated else ""
        existing += f", {num_same:,} existed already" if num_same else ""
        unlicensed = f"; {self.unlicensed:,} have no known licence" if self.unlicensed else ""
        return (
            f"{self.new:,} cues written to {self.folder}{existing}{unlicensed}: {CARD} there explains how to load them"
        )


def export(
    run: Run, folder: Path, program: Program = "diffusers", cues: CueFilter | None = None, limit: int | None = None
) -> Exported:
    """Write cues as files for a program; no model is loaded. A file is written again if its metadata changed.

    Args:
        run: the run whose cues are exported.
        folder: the folder to write to.
        program: the program that will load the files.
        cues: the selection of cues; by default all.
        limit: maximum number of cues, the first by their ids.

    Raises:
        BadConfig: no cue is selected, the model's configuration cannot be loaded, or the folder holds other files.
        Transient: the store failed.
    """
    source, target = ExportSource(run, cues or CueFilter(), limit), Folder(folder, program, run.recipe("cues"))
    progress, start_s = run.watch("export") if run.watch else None, time.monotonic()
    unlicensed = 0
    for num, (entry, vectors) in enumerate(source.cues(program), start=1):
        target.add(entry, vectors, source.dims)
        unlicensed += not entry.licence
        if progress:
            progress(num, len(source), num / max(time.monotonic() - start_s, 1e-3))
    target.close(model_card(target.entries, len(source.dims) > 1, version("aai")))
    return Exported(folder, len(source), target.num_new, target.num_updated, unlicensed, source.remark)
