"""The pictures of a comparison: one for each clip, method, prompt and seed.

Pictures have the ids that jobs would give them, so that what has been rendered before is used.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
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


@dataclass
class Cell:
    """A clip's picture by one method for one prompt and seed."""

    clip_id: str
    method: str
    prompt: str
    """As the comparison has it, with `*`."""
    seed: int
    picture_id: str
    """Id of the picture; of an image of the collection its own."""
    fault: str | None = None
    """Why there is no picture."""
    location: dict[str, Any] | None = None
    """Of the picture: a member of a shard, or an image file; none if there is no picture."""
    request: dict[str, Any] = field(default_factory=dict)
    """What renders it."""


def seeds_of(options: ComparisonOptions, run_seed: int, clip_id: str) -> list[int]:
    """The seeds of a clip's pictures: its own, unless the comparison lists seeds for all."""
    if isinstance(options.seeds, tuple):
        return list(options.seeds)
    return [seed_of(run_seed, "evaluate", clip_id, "noise", number) for number in range(options.seeds)]


def text_of(prompt: str | dict[str, Any]) -> str:
    """The text of a prompt."""
    return prompt if isinstance(prompt, str) else str(prompt["prompt"])


def caption_of(prompt: str, clip: dict[str, Any]) -> tuple[str | None, str]:
    """A prompt with the clip's label in place of the cue, none without a label; and with the `*` left in it.

    Raises:
        BadItem: the clip lacks metadata that the prompt names.
    """
    filled = fill(prompt, json.loads(clip.get("attributes") or "{}") | clip)
    label = clip["label"]
    return (parse(filled).in_words({UNNAMED: label}) if label else None), filled


class RenderedCells:
    """The pictures that a method renders; a source for the stage `render`.

    Raises:
        BadConfig: a prompt cannot be a job.
    """

    def __init__(self, run: Run, method: Method, options: ComparisonOptions, clips: pa.Table) -> None:
        self._run, self._method, self._options = run, method, options
        self._jobs = _jobs(run, method, options)
        self._clips = clips.filter(pc.is_in(clips["clip_id"], self._with_cues(clips)))

    @cached_property
    def cells(self) -> list[Cell]:
        """All cells of the method, in the order in which they are best rendered."""
        return [cell for job in self._jobs for cell in self._of_job(job)]

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
        ids = {cell.picture_id for cell in self.cells if cell.location is None}
        rows = {row["render_id"]: row for row in look_up(self._run, "renders", ids, _LOCATION)} if ids else {}
        for cell in self.cells:
            if row := rows.get(cell.picture_id):
                cell.location = {name: row[name] for name in _LOCATION}

    def _with_cues(self, clips: pa.Table) -> pa.Array:
        ids = clips["clip_id"].to_pylist()
        if self._method.needs_cues:
            ids = [row["clip_id"] for row in look_up(self._run, "cues", ids, ())]
        return pa.array(ids, pa.string())

    def _rejected(self) -> set[str]:
        with self._run.query({"rejects": self._run.recipe("renders")}) as query:
            found = query.table("SELECT DISTINCT id FROM rejects WHERE part_of IS NULL AND error <> 'Unavailable'")
        return set(found["id"].to_pylist())

    def _of_job(self, job: Job) -> Iterator[Cell]:
        """The cells of one prompt; combinations come in the order of the clips."""
        if not self._clips.num_rows:
            return
        combinations = Combinations(self._run, [job], {CueFilter(): self._clips})
        prompt = job.name
        for block in combinations.blocks():
            shared = {name: value for name, value in block.shared().items() if name != "block"}
            for row in (row for table in combinations.of(block) for row in table.to_pylist()):
                clip_id = row["clip_ids"][0]
                address, fault = row.pop("address").encode(), row["fault"]
                for seed in seeds_of(self._options, self._run.config.seed, clip_id):
                    picture_id = blake2b(address + b"%d" % seed, digest_size=_ID_BYTES).hexdigest()
                    yield Cell(clip_id, self._method.name, prompt, seed, picture_id, fault, None, shared | row)

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
        if not self._method.needs_cues:
            return {clip_id: {"vectors": []} for clip_id in clip_ids}
        names = ("num_tokens", "dim", "method")
        rows = look_up(self._run, "cues", clip_ids, (*names, "vector"))
        return {row["clip_id"]: {name: row[name] for name in names} | {"vectors": [row["vector"]]} for row in rows}


def collection_cells(run: Run, method: Method, options: ComparisonOptions, clips: pa.Table) -> list[Cell]:
    """Images of the collection in place of pictures: random ones, or the nearest to each clip.

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
        _collection_cell(clip_id, method, text_of(prompt), seed, images[image_id])
        for prompt in options.prompts
        for (clip_id, seed), image_id in chosen.items()
        if image_id in images
    ]


def _collection_cell(clip_id: str, method: Method, prompt: str, seed: int, image: dict[str, Any]) -> Cell:
    location = {name: image[name] for name in ("uri", "offset", "num_bytes")} | {"content_id": image["image_id"]}
    return Cell(clip_id, method.name, prompt, seed, image["image_id"], None, location)


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


def _jobs(run: Run, method: Method, options: ComparisonOptions) -> tuple[Job, ...]:
    """A job for each prompt, whose name is the prompt's text."""
    given = []
    for prompt in options.prompts:
        keys = {"prompt": prompt} if isinstance(prompt, str) else dict(prompt)
        text = text_of(prompt)
        words = text if method.prompt == "cue" else parse(text).in_words({UNNAMED: _WORDS[method.prompt]})
        given.append(keys | method.job | {"prompt": words, "name": text})
    return make_jobs(given, run.config.options(RenderSectionOptions).of_jobs, "prompts")
