"""The pictures of a comparison: one for each clip, method, prompt and seed.

Pictures have the ids that jobs would give them, so that what has been rendered before is used.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from hashlib import blake2b
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from aai.errors import BadConfig
from aai.identity import content_id, seed_of
from aai.inject.prompt import UNNAMED, parse
from aai.jobs.job import Job, fill
from aai.jobs.jobfile import make_jobs
from aai.jobs.selection import CueFilter
from tasks.combinations import BLOCK, COMBINATION, Combinations
from tasks.evaluate.options import ComparisonOptions, Method
from tasks.evaluate.prompts import Prompt, is_edit, job_keys, name_of, text_of
from tasks.render import RenderSectionOptions
from tasks.runtime.run import Run
from tasks.runtime.stage import Pending
from tasks.views.lookup import look_up

_ID_BYTES = 16  # as `tasks.render_source` has it
_ROWS_AT_ONCE = 4_000
_POOL = 10_000
"""Images of the collection among which random ones are drawn."""

_WORDS = {"label": "{label}", "caption": "{caption}"}
"""What a method has in place of the cue."""

_LOCATION = ("shard", "key", "offset", "num_bytes", "checksum", "format")
Location = dict[str, Any]
"""Of a picture: a member of a shard, or an image file."""

_CUE = pa.schema(
    [
        ("num_tokens", pa.int32()),
        ("dim", pa.int32()),
        ("method", pa.string()),
        ("vectors", pa.list_(pa.list_(pa.float32()))),
    ]
)
_ROW = pa.schema(
    [
        ("render_id", pa.string()),
        ("seed", pa.int64()),
        *(column for column in COMBINATION if column.name != "address"),
        *(column for column in BLOCK if column.name != "block"),
        *_CUE,
    ]
)
"""What the worker of the stage `render` gets."""


@dataclass(frozen=True)
class Source:
    """What an edit is made from."""

    id: str
    """Of a photo the digest of its contents; of a generated picture its own id."""
    name: str
    """File name of a photo, or the prompt."""
    is_photo: bool
    location: Location | None
    """None if there is no picture."""


@dataclass
class Cell:
    """A clip's picture by one method for one prompt and seed."""

    clip_id: str
    method: str
    prompt: str
    """Name of the prompt: its text with `*`, unless it has another."""
    text: str
    """Text of the prompt, with `*`."""
    seed: int
    picture_id: str
    """Id of the picture; of an image of the collection its own."""
    fault: str | None = None
    """Why there is no picture."""
    location: Location | None = None
    """None if there is no picture."""
    request: dict[str, Any] = field(default_factory=dict)
    """What renders it."""
    chosen_seed: int | None = None
    """Seed of the candidate that was kept; none for a single candidate."""
    source: Source | None = None
    """Of an edit."""

    @property
    def is_edit(self) -> bool:
        """Whether it is made from a source image."""
        return self.request.get("edit") is not None

    @property
    def photo(self) -> str:
        """Id of the photo that it is made from; empty without one."""
        return str(self.request.get("image_id") or "")


SeedsOf = Callable[[str], Sequence[int]]
"""The seeds of a clip's pictures."""


def seeds_of(options: ComparisonOptions, run_seed: int, clip_id: str) -> list[int]:
    """The seeds of a clip's pictures: its own, unless the comparison lists seeds for all."""
    if isinstance(options.seeds, tuple):
        return list(options.seeds)
    return [seed_of(run_seed, "evaluate", clip_id, "noise", number) for number in range(options.seeds)]


def caption_of(prompt: str, clip: dict[str, Any]) -> tuple[str | None, str]:
    """A prompt with the clip's label in place of the cue, none without a label; and with the `*` left in it.

    Raises:
        BadItem: the clip lacks metadata that the prompt names.
    """
    filled = fill(prompt, json.loads(clip.get("attributes") or "{}") | clip)
    label = clip["label"]
    return (parse(filled).in_words({UNNAMED: label}) if label else None), filled


class RenderedCells:
    """Cells that are rendered; a source for the stage `render`."""

    def __init__(self, run: Run, cells: Sequence[Cell], needs_cues: bool) -> None:
        self.cells = list(cells)
        self._run, self._needs_cues = run, needs_cues

    def pending(self, retry_rejects: bool = False) -> Pending:
        """The pictures that are not rendered yet.

        Raises:
            Transient: the store failed.
        """
        self.locate()
        rejected = set() if retry_rejects else self._rejected()
        asked = {cell.picture_id: cell for cell in self.cells if not cell.fault}
        missing = [cell for cell in asked.values() if cell.location is None]
        new = [cell for cell in missing if cell.picture_id not in rejected]
        return Pending(len(asked), len(new), len(missing) - len(new), self._rows(new) if new else ())

    def locate(self) -> None:
        """Find the pictures that are rendered.

        Raises:
            Transient: the store failed.
        """
        ids, columns = {cell.picture_id for cell in self.cells if cell.location is None}, (*_LOCATION, "chosen_seed")
        rows = {row["render_id"]: row for row in look_up(self._run, "renders", ids, columns)} if ids else {}
        for cell in self.cells:
            if row := rows.get(cell.picture_id):
                cell.location = {name: row[name] for name in _LOCATION}
                cell.chosen_seed = row["chosen_seed"]

    def _rejected(self) -> set[str]:
        with self._run.query({"rejects": self._run.recipe("renders")}) as query:
            found = query.table("SELECT DISTINCT id FROM rejects WHERE part_of IS NULL AND error <> 'Unavailable'")
        return set(found["id"].to_pylist())

    def _rows(self, cells: Sequence[Cell]) -> Iterator[pa.Table]:
        for start in range(0, len(cells), _ROWS_AT_ONCE):
            some = cells[start : start + _ROWS_AT_ONCE]
            cues = self._cues({cell.clip_id for cell in some})
            rows = [
                cell.request | {"render_id": cell.picture_id, "seed": cell.seed} | cues[cell.clip_id] for cell in some
            ]
            filled = [{name: row.get(name) for name in _ROW.names} for row in rows]
            yield pa.Table.from_pylist(filled, schema=_ROW)

    def _cues(self, clip_ids: set[str]) -> dict[str, dict[str, Any]]:
        """What a row says of each clip's cue."""
        if not self._needs_cues:
            return {clip_id: {"vectors": []} for clip_id in clip_ids}
        names = ("num_tokens", "dim", "method")
        rows = look_up(self._run, "cues", clip_ids, (*names, "vector"))
        return {row["clip_id"]: {name: row[name] for name in names} | {"vectors": [row["vector"]]} for row in rows}


def rendered_cells(run: Run, method: Method, options: ComparisonOptions, clips: pa.Table) -> RenderedCells:
    """The pictures that a method renders, in the order in which they are best rendered.

    Raises:
        BadConfig: a prompt cannot be a job, or its photos do not exist.
        Transient: the store failed.
    """
    ids = clips["clip_id"].to_pylist()
    if method.needs_cues:
        ids = [row["clip_id"] for row in look_up(run, "cues", ids, ())]
    some = clips.filter(pc.is_in(clips["clip_id"], pa.array(ids, pa.string())))
    cells: list[Cell] = []
    for job, prompt in zip(jobs_of(run, method, options), options.prompts, strict=True):
        own = cells_of(run, job, some, lambda clip_id: seeds_of(options, run.config.seed, clip_id))
        named = (replace(cell, method=method.name, text=text_of(prompt)) for cell in own)
        cells += some_photos(named, options.photos_per_clip, run.config.seed)
    return RenderedCells(run, cells, method.needs_cues)


def cells_of(run: Run, job: Job, clips: pa.Table, seeds: SeedsOf) -> Iterator[Cell]:
    """The cells of a job; combinations come in the order of the clips.

    Raises:
        BadConfig: its photos do not exist.
        Transient: the store failed.
    """
    if not clips.num_rows:
        return
    every = clips["clip_id"].to_pylist()
    combinations = Combinations(run, [job], {CueFilter(): clips})
    for block in combinations.blocks():
        shared = {name: value for name, value in block.shared().items() if name != "block"}
        for row in (row for table in combinations.of(block) for row in table.to_pylist()):
            address, fault = row.pop("address").encode(), row["fault"]
            for clip_id in row["clip_ids"] or every:  # a prompt that names nothing of a clip is the same for all
                for seed in [0] if job.is_seedless else seeds(clip_id):
                    picture_id = blake2b(address + b"%d" % seed, digest_size=_ID_BYTES).hexdigest()
                    yield Cell(clip_id, "", job.name, "", seed, picture_id, fault, None, shared | row)


def some_photos(cells: Iterable[Cell], num: int | None, seed: int) -> Iterator[Cell]:
    """The cells without those of photos beyond so many for a clip, which are drawn for each clip."""
    cells = list(cells)
    photos = sorted({cell.photo for cell in cells if cell.photo})
    drawn: dict[str, set[str]] = {}
    for clip_id in {cell.clip_id for cell in cells}:
        order = sorted(photos, key=lambda photo: seed_of(seed, "evaluate", clip_id, f"photo {photo}"))
        drawn[clip_id] = {"", *order[:num]}
    return (cell for cell in cells if cell.photo in drawn[cell.clip_id])


def collection_cells(run: Run, method: Method, options: ComparisonOptions, clips: pa.Table) -> list[Cell]:
    """Images of the collection in place of pictures: random ones, or the nearest to each clip; none in place of edits.

    Raises:
        BadConfig: the collection has no images.
        Transient: the store failed.
    """
    clip_ids = clips["clip_id"].to_pylist()
    if method.pictures == "retrieved":
        rows = look_up(run, "neighbours", clip_ids, ("image_ids",))
        nearest = {row["clip_id"]: row["image_ids"] for row in rows}
        chosen = {(clip_id, 0): nearest[clip_id][0] for clip_id in clip_ids if nearest.get(clip_id)}
    else:
        pool = image_ids(run, _POOL)
        chosen = {}
        for clip_id in clip_ids:
            for seed in seeds_of(options, run.config.seed, clip_id):
                rng = np.random.default_rng(seed_of(run.config.seed, "evaluate", clip_id, "random image", seed))
                chosen[clip_id, seed] = pool[int(rng.integers(len(pool)))]
    columns = ("uri", "offset", "num_bytes")
    images = {row["image_id"]: row for row in look_up(run, "known_images", chosen.values(), columns, key="image_id")}
    return [
        _collection_cell(clip_id, method, prompt, seed, images[image_id])
        for prompt in options.prompts
        if not is_edit(prompt)
        for (clip_id, seed), image_id in chosen.items()
        if image_id in images
    ]


def _collection_cell(clip_id: str, method: Method, prompt: Prompt, seed: int, image: dict[str, Any]) -> Cell:
    location = {name: image[name] for name in ("uri", "offset", "num_bytes")} | {"content_id": image["image_id"]}
    return Cell(clip_id, method.name, name_of(prompt), text_of(prompt), seed, image["image_id"], None, location)


def image_ids(run: Run, num: int) -> list[str]:
    """Ids of up to `num` images of the collection: those with the smallest, which is a random sample.

    Raises:
        BadConfig: there are none.
    """
    with run.query() as query:
        ids: list[str] = query.table(
            f"SELECT image_id FROM image_vectors SEMI JOIN present_image_ids p ON image_id = p.id "
            f"ORDER BY image_id LIMIT {num}"
        )["image_id"].to_pylist()
    if not ids:
        raise BadConfig("the collection has no images: name a folder with some", key="images")
    return ids


def item_of(cell: Cell, caption: str | None, prompt: str, label: str | None) -> dict[str, Any]:
    """What the stage `measure` gets of a cell's picture; equal pictures with equal captions are one item."""
    assert cell.location is not None, "it has a picture"
    picture = cell.location.get("checksum") or cell.location["content_id"]
    item_id = content_id(json.dumps([picture, caption, prompt, label]).encode())
    location = json.dumps(cell.location)
    return {
        "item_id": item_id,
        "kind": "picture",
        "location": location,
        "text": caption,
        "prompt": prompt,
        "label": label,
    }


def jobs_of(run: Run, method: Method, options: ComparisonOptions) -> tuple[Job, ...]:
    """A job for each prompt, with the prompt's name.

    Raises:
        BadConfig: a prompt cannot be a job.
    """
    given = []
    for prompt in options.prompts:
        text = text_of(prompt)
        words = text if method.prompt == "cue" else parse(text).in_words({UNNAMED: _WORDS[method.prompt]})
        given.append(job_keys(prompt, method.job) | {"prompt": words, "name": name_of(prompt)})
    return make_jobs(given, run.config.options(RenderSectionOptions).of_jobs, "prompts")
