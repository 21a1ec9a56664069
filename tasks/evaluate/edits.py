"""The edits of a comparison: their sources, true masks, and what is measured of them."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import PurePosixPath
from typing import Any

import pyarrow as pa

from aai.edit.options import EditOptions
from aai.errors import BadItem
from aai.identity import image_id
from aai.jobs.job import Job, fill
from aai.media.files import find_files, read_bytes
from aai.media.kinds import IMAGE_SUFFIXES
from tasks.evaluate.cells import Cell, Location, RenderedCells, Source, cells_of
from tasks.evaluate.options import ComparisonOptions
from tasks.evaluate.prompts import TRUE_MASKS, is_edit, name_of, true_masks_of
from tasks.measure_edits import EditItem
from tasks.runtime.run import Run

_KEPT = {
    "truth": "what is outside the true mask",
    "allowed": "what is outside your mask",
    "others": "what at most half of the masks of all methods reach",
}
_UNKNOWN = "unknown, as no other method edits the same source"


def set_photos(cells: Sequence[Cell]) -> None:
    """Note the photos of edits as their sources."""
    for cell in cells:
        if cell.photo and cell.source is None:
            uri = cell.request["image_uri"]
            cell.source = Source(cell.photo, PurePosixPath(uri).name, True, _file(uri, cell.photo))


def generated_sources(run: Run, jobs: Sequence[Job], cells: Sequence[Cell], clips: pa.Table) -> RenderedCells:
    """The pictures of the source prompts of edits without photos, each under its edit's seed: of the plain model.

    Raises:
        Transient: the store failed.
    """
    found: list[Cell] = []
    for job in jobs:
        edits = [cell for cell in cells if cell.prompt == job.name and cell.is_edit and not cell.photo]
        seeds: dict[str, set[int]] = {}
        for cell in edits:
            seeds.setdefault(cell.clip_id, set()).add(_seed(cell))
        if seeds:
            own = cells_of(run, _plain(job), clips, lambda clip_id, seeds=seeds: sorted(seeds.get(clip_id, ())))  # type: ignore[misc]
            found += [replace(cell, text=job.source_prompt or "") for cell in own]
    return RenderedCells(run, found, needs_cues=False)


def set_generated(cells: Sequence[Cell], sources: Sequence[Cell]) -> None:
    """Note generated pictures as the sources of their edits."""
    known = {(cell.prompt, cell.clip_id, cell.seed): cell for cell in sources}
    for cell in cells:
        if cell.is_edit and not cell.photo and (found := known.get((cell.prompt, cell.clip_id, _seed(cell)))):
            cell.source = Source(found.picture_id, found.request["prompt"], False, found.location)


class Edits:
    """What is measured of each edit, by the number of its cell."""

    def __init__(self, options: ComparisonOptions, clips: Mapping[str, dict[str, Any]]) -> None:
        self._options, self._clips = options, clips
        self._true_masks = {name_of(prompt): true_masks_of(prompt) for prompt in options.prompts}
        self._found = lru_cache(None)(_masks_at)

    def items(self, cells: Sequence[Cell]) -> dict[int, EditItem]:
        """The edits that can be measured, those of one source together.

        Raises:
            BadConfig: a location of true masks holds none.
            Transient: the store failed.
        """
        groups: dict[tuple[str, str, str], list[int]] = {}
        for number, cell in enumerate(cells):
            if cell.location and cell.source and cell.source.location:
                groups.setdefault((cell.clip_id, cell.prompt, cell.source.id), []).append(number)
        found: dict[int, EditItem] = {}
        for numbers in groups.values():
            own = [cells[number] for number in numbers]
            are_compared = len({cell.method for cell in own}) > 1
            others = [cell.location for cell in own if cell.location] if are_compared else []
            found |= {number: self._item(cells[number], others) for number in numbers}
        return found

    def notes(self, cells: Sequence[Cell], items: Mapping[int, EditItem]) -> list[str]:
        """What is to be kept of how many edits, and what is missing."""
        found = []
        kept = Counter(_KEPT.get(item.kept or "", _UNKNOWN) for item in items.values() if item.has_mask)
        if kept:
            parts = "; ".join(f"{what} ({num:,} edits)" for what, num in kept.most_common())
            found.append(f"to be kept of an edit's source: {parts}")
        if missing := sum(cell.is_edit and cell.location is not None for cell in cells) - len(items):
            found.append(f"{missing:,} edits have no picture of their source, and are not compared with it")
        return found

    def left_out(self) -> list[str]:
        """Which methods have no pictures of which prompts."""
        edits = [name_of(prompt) for prompt in self._options.prompts if is_edit(prompt)]
        others = [method.name for method in self._options.methods if method.pictures != "rendered"]
        if not (edits and others):
            return []
        also = "" if len(edits) == len(self._options.prompts) else ", nor in the figures of all prompts together"
        return [f"{', '.join(others)}: nothing is edited, so they are not compared in {', '.join(edits)}{also}"]

    def _item(self, cell: Cell, others: list[Location]) -> EditItem:
        assert cell.location and cell.source and cell.source.location, "it is there"
        mask = cell.request.get("mask_id")
        return EditItem(
            picture=cell.location,
            source=cell.source.location,
            has_mask=cell.request["mode"] == "edit",
            truth=self._truth(cell),
            allowed=_file(cell.request["mask_uri"], mask) if mask else None,
            others=others,
        )

    def _truth(self, cell: Cell) -> Location | None:
        if not (cell.source and cell.source.is_photo):
            return None
        clip = self._clips[cell.clip_id]
        values = json.loads(clip.get("attributes") or "{}") | clip
        try:
            locations = tuple(fill(each, values) for each in self._true_masks[cell.prompt])
        except BadItem:
            return None
        return self._found(locations).get(PurePosixPath(cell.source.name).stem)


def _masks_at(locations: tuple[str, ...]) -> dict[str, Location]:
    """The masks at some locations, by the names of their photos."""
    if not locations:
        return {}
    uris = [file.uri for file in find_files(f"prompts: {TRUE_MASKS}", locations, IMAGE_SUFFIXES).files]
    return {PurePosixPath(uri).stem: _file(uri, image_id(read_bytes(uri))) for uri in uris}


def _file(uri: str, content: str) -> Location:
    return {"uri": uri, "offset": None, "num_bytes": None, "content_id": content}


def _seed(cell: Cell) -> int:
    """The seed of an edit's source: that of the kept candidate."""
    return cell.seed if cell.chosen_seed is None else cell.chosen_seed


def _plain(job: Job) -> Job:
    """A job that renders the sources of an edit's pictures."""
    nothing = {"source_prompt": None, "source_images": (), "source_masks": (), "edit": EditOptions()}
    single = {"candidates": 1, "chosen_by": None}
    return job.model_copy(update={"mode": "generate", "prompts": (job.source_prompt,)} | nothing | single)
