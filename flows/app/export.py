"""A cue bank -> files that other programs load."""

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
    """What an export came to."""

    folder: Path

    num: int
    """Cues that were asked for."""

    new: int
    """How many of their files were not there before."""

    unlicensed: int
    """How many are of recordings whose licence is not known."""

    @property
    def sentence(self) -> str:
        """All of it in words."""
        there = f", {self.num - self.new:,} were there already" if self.new < self.num else ""
        lacking = f"; of {self.unlicensed:,} no licence is known" if self.unlicensed else ""
        return f"{self.new:,} cues written to {self.folder}{there}{lacking}: {CARD} there says how to load them"


def export(
    run: Run, folder: Path, program: Program = "diffusers", cues: CueFilter | None = None, limit: int | None = None
) -> Exported:
    """Write the cues of a run's configuration, those that a filter lets through, for a program; loads no model.

    `limit` is of the most cues, the first by their ids. What is there already stays as it is.

    Raises:
        BadConfig: there are no such cues, they have no rows, the model's configuration is not at hand, or the folder
            holds other files.
        Transient: the store failed.
    """
    source, target = ExportSource(run, cues or CueFilter(), limit), Folder(folder, program, run.recipe("cues"))
    tell, start_s = run.watch("export") if run.watch else None, time.monotonic()
    unlicensed = 0
    for num, (entry, rows) in enumerate(source.cues(program), start=1):
        target.add(entry, rows, source.dims)
        unlicensed += not entry.licence
        if tell:
            tell(num, len(source), num / max(time.monotonic() - start_s, 1e-3))
    target.close(model_card(target.entries, len(source.dims) > 1, version("aai")))
    return Exported(folder, len(source), target.num_new, unlicensed)
