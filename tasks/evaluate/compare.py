"""A comparison from its options to a folder of results. What exists is used: a second call does nothing new."""

import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from aai.errors import BadConfig
from aai.identity import content_id
from tasks.evaluate.cells import Cell, collection_cells, image_ids, jobs_of, rendered_cells
from tasks.evaluate.clips import chosen_clips, notes_on_labels, own_images, reasons_without_cue, truths_of
from tasks.evaluate.edits import Edits, generated_sources, set_generated, set_photos
from tasks.evaluate.figures import SECONDS, Sample, figures_of, undefined
from tasks.evaluate.folder import check_folder
from tasks.evaluate.measuring import Items, measured_cells, vectors_by_method
from tasks.evaluate.options import ComparisonOptions, Method
from tasks.evaluate.output import FOLDERS, OURS, Comparison, Results, stored, write
from tasks.evaluate.prompts import is_edit, name_of
from tasks.fit import CUES
from tasks.measure import MEASURES
from tasks.render import RENDERS
from tasks.runtime import config as files
from tasks.runtime.config import merge
from tasks.runtime.driver import StageSummary
from tasks.runtime.run import Run
from tasks.runtime.source import QuerySource
from tasks.runtime.stage import Source, Stage, sections_of
from tasks.stages import STAGES, make_config, open_run
from tasks.views.independence import dependent_metrics
from tasks.views.lookup import look_up

_SHARED = ("aligned_vectors", "index", "neighbours")
"""What every comparison needs of the bank, beside the cues."""

_OF_THE_BANK = ("workspace", "audio", "images", "metadata", "seed")
"""Keys of the configuration that no method can change."""


@dataclass
class Opened:
    """A comparison that can be run."""

    options: ComparisonOptions
    base: Run
    runs: Mapping[str, Run]
    """By method."""
    announce: Callable[[str, StageSummary], None] = lambda name, summary: None
    """Called after each stage, with its name and the method's that it was for."""
    _done: set[tuple[str, str]] = field(default_factory=set)
    _notes: list[str] = field(default_factory=list)

    def run(self) -> Comparison:
        """Do everything that is not done yet, and write the results unless they are there.

        Raises:
            BadConfig: a stage cannot start, or the folder cannot be written to.
            Transient: the store failed, or a slice failed too often.
        """
        self._make(self.base, _SHARED)
        clips = chosen_clips(self.base, self.options, self._notes)
        cells = [cell for method in self.options.methods for cell in self._cells(method, clips)]
        own = own_images(self.base, clips, self._notes) if self.options.own_images == "names" else {}
        items = Items(self.base, clips, own)
        item_ids = [items.add(cell) for cell in cells]
        edit_ids = self._add_edits(items, cells)
        self._do(self.base, MEASURES, items)
        self._note_faults(cells)
        self._check_pictures(cells)
        mark = self._mark(items, cells, clips)
        if found := stored(Path(self.options.output), mark):
            return found
        items.read()
        if unmeasured := sum(item_id not in items.values for item_id in edit_ids.values()):
            self._notes.append(f"{unmeasured:,} edits could not be compared with their source: see the rejects")
        return write(self._results(clips, cells, items, item_ids, edit_ids), self.base, clips, cells, mark)

    def _cells(self, method: Method, clips: pa.Table) -> list[Cell]:
        """The pictures of a method, which are rendered if they are not there yet."""
        run = self.runs[method.name]
        if method.pictures != "rendered":
            if method.pictures == "retrieved":
                self._make(run, ("neighbours",))
            cells = collection_cells(run, method, self.options, clips)
            self._note_lacking(method, cells, clips)
            return cells
        if method.needs_cues:
            self._make(run, CUES.upstream(run.config))
            if CUES.table not in run.recipes:
                raise BadConfig("this configuration has no cues", key=f"methods.{method.name}")
            with run.query(extra={"selected": clips.select(["clip_id"])}) as query:
                some = query.table("SELECT n.* FROM neighbours n SEMI JOIN selected s ON n.clip_id = s.clip_id")
            self._do(run, CUES, QuerySource(run, CUES, {"neighbours": some}))
        source = rendered_cells(run, method, self.options, clips)
        self._note_lacking(method, source.cells, clips)
        self._do(run, RENDERS, source)
        source.locate()
        self._set_sources(method, source.cells, clips)
        return source.cells

    def _set_sources(self, method: Method, cells: list[Cell], clips: pa.Table) -> None:
        """Note what edits are made from; generated sources are rendered, once for all methods if the model is one."""
        set_photos(cells)
        own = self.runs[method.name]
        run = self.base if own.recipes["renders"].models == self.base.recipes["renders"].models else own
        sources = generated_sources(run, jobs_of(own, method, self.options), cells, clips)
        if sources.cells:
            self._do(run, RENDERS, sources)
            sources.locate()
            set_generated(cells, sources.cells)

    def _add_edits(self, items: Items, cells: Sequence[Cell]) -> dict[int, str]:
        """The items of edits that are compared with their sources, by the number of their cell."""
        edits = Edits(self.options, items.clips)
        found = edits.items(cells)
        self._notes += edits.left_out() + edits.notes(cells, found)
        return {number: items.add_edit(item) for number, item in found.items()}

    def _make(self, run: Run, tables: Iterable[str]) -> None:
        """Make tables and artifacts with all that they are made from, unless this call has looked after them."""
        wanted = _ancestors(run, tables)
        for stage in run.stages:
            key = stage.table, run.recipe(stage.table) if stage.table in run.recipes else ""
            if stage.table in wanted and key not in self._done:
                self._do(run, stage)
                self._done.add(key)

    def _do(self, run: Run, stage: Stage, source: Source | None = None) -> None:
        run.watch, run.workers = self.base.watch, self.base.workers
        summary = run.do(stage, source)
        method = next((f"{name}: " for name, own in self.runs.items() if own is run), "")
        self.announce(f"{method}{stage.name}", summary)
        if summary.stopped:
            raise KeyboardInterrupt

    def _note_lacking(self, method: Method, cells: Sequence[Cell], clips: pa.Table) -> None:
        """Say of which clips a method has no picture to begin with, as they have no cue or no image."""
        if all(is_edit(prompt) for prompt in self.options.prompts) and method.pictures != "rendered":
            return  # it makes no edits
        if lacking := sorted(set(clips["clip_id"].to_pylist()) - {cell.clip_id for cell in cells}):
            for reason, num in reasons_without_cue(self.runs[method.name], lacking).most_common():
                self._notes.append(f"{method.name}: clips without pictures: {num:,} ({reason})")

    def _check_pictures(self, cells: Sequence[Cell]) -> None:
        """Stop where nothing was rendered, before an earlier comparison is replaced."""
        rendering = {method.name for method in self.options.methods if method.pictures == "rendered"}
        if rendering and not any(cell.location for cell in cells if cell.method in rendering):
            raise BadConfig("; ".join(["no method has a picture", *self._notes]))

    def _note_faults(self, cells: Sequence[Cell]) -> None:
        faults = Counter((cell.method, cell.fault or "it was rejected") for cell in cells if cell.location is None)
        for (method, fault), num in faults.most_common():
            self._notes.append(f"{method}: {num:,} pictures are missing: {fault}")

    def _results(
        self,
        clips: pa.Table,
        cells: Sequence[Cell],
        items: Items,
        item_ids: Sequence[str | None],
        edit_ids: Mapping[int, str],
    ) -> Results:
        rows = measured_cells(self.base, items, cells, item_ids)
        seconds = {name: self._seconds(name, clips) for name in self.runs}
        known = {row["clip_id"]: row for row in clips.to_pylist()}
        table = [
            {"clip_id": cell.clip_id, "method": cell.method, "prompt": cell.prompt, "seed": cell.seed}
            | {SECONDS: seconds[cell.method].get(cell.clip_id)}
            | row
            | items.values.get(edit_ids.get(number, ""), {})
            for number, (cell, row) in enumerate(zip(cells, rows, strict=True))
        ]
        sample = Sample(
            clip_ids=list(known),
            labels=[row["label"] for row in known.values()],
            truths=truths_of(clips, self._notes),
            methods=list(self.runs),
            reference=self.options.compared_with,
            prompts=[name_of(prompt) for prompt in self.options.prompts],
            rows=table,
            vectors=vectors_by_method(self.base, items, cells, item_ids),
            images=self._images(),
            dependent=dependent_metrics(self.base),
        )
        figures = figures_of(sample, self.base.config.seed)
        self._notes += notes_on_labels(clips, table)
        return Results(self.options, sample, figures, seconds, [*self._notes, *undefined(figures)])

    def _seconds(self, method: str, clips: pa.Table) -> dict[str, float]:
        """The time that each clip's cue took; none for what needs no cue."""
        chosen = next(each for each in self.options.methods if each.name == method)
        ids = clips["clip_id"].to_pylist()
        if not chosen.needs_cues:
            return dict.fromkeys(ids, 0.0)
        return {row["clip_id"]: row["took_s"] for row in look_up(self.runs[method], "cues", ids, ("took_s",))}

    def _images(self) -> np.ndarray:
        """Embeddings of images of the collection, in the space of the index."""
        ids = image_ids(self.base, self.options.num_images)
        rows = look_up(self.base, "image_vectors", ids, ("vector",))
        return np.array([row["vector"] for row in sorted(rows, key=lambda row: row["image_id"])], np.float32)

    def _mark(self, items: Items, cells: Sequence[Cell], clips: pa.Table) -> str:
        """A digest of everything that the results depend on, this program's version included."""
        parts = [
            version("aai"),
            self.options.model_dump(mode="json", exclude={"output"}),
            {name: run.recipe("cues") for name, run in self.runs.items()},
            self.base.recipe("measures"),
            self.base.recipe("aligned_vectors"),
            items.digest(),
            image_ids(self.base, self.options.num_images),
            sorted(
                (cell.method, cell.clip_id, cell.prompt, cell.seed, cell.picture_id, cell.location is None)
                for cell in cells
            ),
            clips.select(["clip_id", "label", "attributes", "uri"]).to_pylist(),
            self._notes,
        ]
        return content_id(json.dumps(parts, sort_keys=True).encode())


def open_comparison(options: ComparisonOptions, changes: Mapping[str, Any]) -> Opened:
    """The runs of a comparison: one on the bank's configuration, and one for each method.

    Raises:
        BadConfig: the configuration, or that of a method, is wrong, or the folder cannot be written; `key` names it.
    """
    keys = files.load_keys(options.config, sections_of(STAGES), changes)
    try:
        base = open_run(make_config(**keys))
    except BadConfig as error:
        raise BadConfig(error.sentence, key=error.key, uri=options.config) from error
    check_folder(options.output, OURS, FOLDERS, (*base.config.audio, *base.config.images), base.config.workspace)
    runs = {}
    for method in options.methods:
        try:
            config = make_config(**merge(keys, method.changes))
            for key in _OF_THE_BANK:
                if getattr(config, key) != getattr(base.config, key):
                    raise BadConfig("all methods use the bank's: leave it out, or compare another bank", key=key)
            runs[method.name] = open_run(config)
            jobs_of(runs[method.name], method, options)  # before any work
        except BadConfig as error:
            raise BadConfig(f"{error.key}: {error.sentence}", key=f"methods.{method.name}") from error
    return Opened(options, base, runs)


def _ancestors(run: Run, tables: Iterable[str]) -> set[str]:
    """Tables and artifacts with everything that they are made from."""
    waiting, found = list(tables), set[str]()
    while waiting:
        table = waiting.pop()
        stage = run.stage_of(table)
        found |= {stage.table, *stage.also}
        waiting += [name for name in run.recipes[table].upstream if name not in found]
    return found
