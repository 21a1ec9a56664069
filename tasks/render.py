"""Render: cues stand in prompts, and the pictures go to shards."""

import json
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from itertools import groupby
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pyarrow as pa

from aai.errors import BadItem
from aai.inject.prompt import UNNAMED, parse
from aai.jobs.job import Job
from aai.media import images, provenance
from aai.models.options import RenderOptions
from aai.workspace import SCHEMAS, Workspace
from aai.workspace.shards import ShardWriter
from tasks.render_source import JobSource
from tasks.runtime.config import Config
from tasks.runtime.driver import StageSummary
from tasks.runtime.run import Run, rates
from tasks.runtime.work import Batched, Outcome, Reject

if TYPE_CHECKING:
    from torch import Tensor

_KINDS: dict[str, Literal["png", "jpeg", "webp"]] = {"png": "png", "jpg": "jpeg", "webp": "webp"}

_AS_ASKED = ("render_id", "mode", "clip_ids", "prompt", "negative_prompt", "seed")

_TOLD_ALWAYS = {"source_prompt": "", "edit": "", "image_id": "", "mask_id": ""}
"""Keys that are there of each picture, as readers take those of a few pictures for those of all."""


def render(run: Run, jobs: Sequence[Job]) -> StageSummary:
    """Make every picture that the jobs ask for and that is not there, whichever jobs asked for it before.

    Raises:
        BadConfig: there are no cues, or a job's condition cannot be used.
        Transient: the store failed, or a slice failed too often.
    """
    worker = partial(Renderer, run.config, run.pinned("diffusion"), run.workspace, run.recipe("renders"))
    return run.drive("renders", JobSource(run, jobs), worker)


@dataclass(frozen=True)
class RenderPlan:
    """How things stand with what some jobs ask for."""

    total: int
    """Different pictures."""
    new: int
    """Those still to be made."""
    rejected: int
    """Those that could not be made; they are not tried again."""
    estimate_s: float | None
    """How long the new ones will take, at the rate of the last run; none without one."""
    warnings: list[str]
    """What is odd about the jobs."""


def plan(run: Run, jobs: Sequence[Job]) -> RenderPlan:
    """How things stand with what some jobs ask for, told without a model and without Ray.

    Raises:
        BadConfig: there are no cues, or a job's condition cannot be used.
        Transient: the store failed.
    """
    source, recipe = JobSource(run, jobs), run.recipe("renders")
    ids, rate = source.ids(), rates(run).get("render")
    undone = run.workspace.undone(ids, "renders", recipe, retry_rejects=True)
    new = len(run.workspace.undone(undone, "renders", recipe, run.config.run.retry_rejects))
    return RenderPlan(
        total=len(ids),
        new=new,
        rejected=len(undone) - new,
        estimate_s=new / rate if rate else None,
        warnings=source.without_cues(),
    )


def shards_of(run: Run) -> str:
    """Where the shards of a run's pictures are, as a glob."""
    one = run.workspace.shard_uri("renders", run.recipe("renders"), "one")
    return f"{one.rsplit('/', 1)[0]}/*.tar"


class Renderer(Batched):
    """The frozen diffusion model, loaded once per worker: cues in prompts in, pictures in a shard out."""

    def __init__(self, config: Config, pinned: tuple[str, str], workspace: Workspace, recipe: str) -> None:
        from tasks.edit import Edits
        from tasks.runtime.models import open_diffusion

        self.diffusion = open_diffusion(config)
        self.edits = Edits(self.diffusion, config.ingest.images)
        self.pinned, self.workspace, self.recipe = pinned, workspace, recipe
        self.batch_size = config.render.batch_size

    def __call__(self, rows: pa.Table) -> Outcome:
        """Map a slice into one shard; a batch is encoded and written while the next is rendered."""
        made: list[dict[str, Any]] = []
        rejects: list[Reject] = []
        written: Future[list[dict[str, Any]]] | None = None
        with ShardWriter(self.workspace, "renders", self.recipe) as shard, ThreadPoolExecutor(1) as writer:
            for batch in _batches(rows.to_pylist(), self.batch_size, rejects):
                for part, pictures in self._rendered(batch, rejects):
                    made += written.result() if written else []
                    written = writer.submit(self._write, shard, part, pictures)
            made += written.result() if written else []
        return Outcome(pa.Table.from_pylist(made, schema=SCHEMAS["renders"].columns), rejects)

    def _rendered(self, batch: list[dict], rejects: list[Reject]) -> Iterator[tuple[list[dict], Sequence[np.ndarray]]]:
        """The pictures of a batch; where one cannot be made, it is found by halving, and the others are made."""
        try:
            pictures = self._render(batch)
        except BadItem as error:
            if len(batch) == 1:
                rejects.append(_reject(batch[0], error))
                return
            half = len(batch) // 2
            yield from self._rendered(batch[:half], rejects)
            yield from self._rendered(batch[half:], rejects)
        else:
            yield batch, pictures

    def _render(self, batch: list[dict]) -> Sequence[np.ndarray]:
        import torch

        prompts = [_in_words(row) for row in batch]
        cues = torch.stack([self._cues(row) for row in batch]) if batch[0]["num_tokens"] else None
        if batch[0]["edit"] is not None:
            return self.edits(batch, prompts, cues)
        seeds, negatives = [row["seed"] for row in batch], [row["negative_prompt"] for row in batch]
        options = RenderOptions.model_validate_json(batch[0]["options"])
        return list(self.diffusion.render(prompts, seeds, cues, negatives, options))

    def _cues(self, row: dict) -> "Tensor":
        """The rows of a picture's cues, one after the other as the prompt names them."""
        import torch

        from aai.cues.interpolate import between

        cues = [torch.tensor(vector).view(-1, row["dim"]) for vector in row["vectors"]]
        if row["blend"] is not None:
            first = parse(row["prompt"]).names.index(UNNAMED)
            start, end = cues[first : first + 2]
            cues[first : first + 2] = [between(start, end, row["blend"], self.diffusion.cue_dims)]
        return torch.cat(cues)

    def _write(self, shard: ShardWriter, batch: list[dict], pictures: Sequence[np.ndarray]) -> list[dict[str, Any]]:
        return [self._write_one(shard, row, pixels) for row, pixels in zip(batch, pictures, strict=True)]

    def _write_one(self, shard: ShardWriter, row: dict, pixels: np.ndarray) -> dict[str, Any]:
        """Put a picture and its recipe into the shard, and make its row of `renders`."""
        options = RenderOptions.model_validate_json(row["options"])
        asked = self._asked(row, pixels, options)
        xmp = provenance.packet(*self.pinned, row["prompt"], version("aai"), asked, _kind_of_source(row))
        key, data = row["render_id"], images.encode(pixels, _KINDS[options.format], options.quality, xmp)
        place = shard.add(key, options.format, data)
        shard.add(key, "json", json.dumps(_TOLD_ALWAYS | asked | self._known(row), sort_keys=True).encode())
        said = {key: row[key] for key in ("job", "image_id", "image_uri", "source_prompt", "edit")}
        return asked | vars(place) | said

    def _known(self, row: dict) -> dict[str, Any]:
        """What else is told beside the picture; no null, as readers take the kind of a key from a few pictures."""
        return {
            "job": row["job"],
            "quality": RenderOptions.model_validate_json(row["options"]).quality,
            "labels": [label or "" for label in row["labels"]],
            "licences": [licence or "" for licence in row["licences"]],
            "method": row["method"],
            "recipe": self.recipe,
            "aai_version": version("aai"),
            "digital_source_type": _kind_of_source(row),
        }

    def _asked(self, row: dict, pixels: np.ndarray, options: RenderOptions) -> dict[str, Any]:
        """All that the picture depends on; no null, as in `_known`."""
        blend = {} if row["blend"] is None else {"blend": row["blend"]}
        return (
            blend
            | _said_of_source(row)
            | {name: row[name] for name in _AS_ASKED}
            | {
                "steps": options.steps,
                "guidance": options.guidance,
                "scheduler": _scheduler_of(row, options) or type(self.diffusion.own_scheduler).__name__,
                "width": pixels.shape[1],
                "height": pixels.shape[0],
                "format": options.format,
                "base_model": self.pinned[0],
                "base_revision": self.pinned[1],
            }
        )


def _batches(rows: list[dict], size: int, rejects: list[Reject]) -> Iterator[list[dict]]:
    """Rows that can be rendered together; those that cannot be rendered at all become rejects."""
    rejects += [_reject(row, BadItem(row["fault"])) for row in rows if row["fault"]]
    good = [row for row in rows if not row["fault"]]
    for _, alike in groupby(good, key=_shape):
        group = list(alike)
        for first in range(0, len(group), size):
            yield group[first : first + size]


def _shape(row: dict) -> tuple[Any, ...]:
    """What pictures have in common that are rendered together: options, and how many rows their cues have."""
    num_cues = len(row["clip_ids"]) - (row["blend"] is not None)
    sources = row["edit"], row["image_id"] is not None, row["mask_id"] is not None
    return row["options"], *sources, row["num_tokens"] * num_cues


def _kind_of_source(row: dict) -> str:
    return provenance.COMPOSITE if row["image_id"] else provenance.GENERATED


def _scheduler_of(row: dict, options: RenderOptions) -> str | None:
    """The sampler by name, if it is not the checkpoint's own: photos are edited with DDIM."""
    return "ddim" if row["image_id"] else options.scheduler


def _reject(row: dict, error: BadItem) -> Reject:
    """A picture that cannot be made, with the file to look at: the photo it is made from, else the clip's."""
    return Reject.of(row["render_id"], error, row["image_uri"] or row["uri"])


def _in_words(row: dict) -> str:
    """The prompt as the model reads it: where cues have no rows, the clips' labels stand for them.

    Raises:
        BadItem: a word cannot do what is asked of a cue.
    """
    if row["num_tokens"]:
        return row["prompt"]
    prompt = parse(row["prompt"])
    if prompt.changed or row["blend"] is not None:
        raise BadItem(f"prompt {row['prompt']!r}: cues of method text are words, which have no strength and no blend")
    return prompt.in_words(dict(zip(prompt.names, row["labels"], strict=True)))


def _said_of_source(row: dict) -> dict[str, object]:
    """What a picture tells of how it was made from another; nothing if it was not."""
    if row["edit"] is None:
        return {}
    of_photo = {key: row[key] for key in ("image_id", "mask_id") if row[key]}
    return {"source_prompt": row["source_prompt"], "edit": row["edit"]} | of_photo
