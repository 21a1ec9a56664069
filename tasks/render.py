"""Render: cues are injected into prompts, and the pictures are written to tar shards."""

import json
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from importlib.metadata import version
from itertools import groupby
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pyarrow as pa
from pydantic import Field

from aai.errors import BadItem
from aai.inject.prompt import UNNAMED, parse
from aai.jobs.job import Job
from aai.media import images, provenance
from aai.media.options import IngestOptions
from aai.models.options import RenderOptions
from aai.options import SPEED_ONLY
from aai.workspace import SCHEMAS
from aai.workspace.shards import ShardWriter
from tasks.render_source import RenderSource
from tasks.runtime.config import Config
from tasks.runtime.driver import StageSummary
from tasks.runtime.models import open_diffusion
from tasks.runtime.outdated import remove_rejects
from tasks.runtime.run import Run
from tasks.runtime.stage import Context, Stage
from tasks.runtime.work import Batched, Outcome, Reject, batches

if TYPE_CHECKING:
    from torch import Tensor

_KINDS: dict[str, Literal["png", "jpeg", "webp"]] = {"png": "png", "jpg": "jpeg", "webp": "webp"}

_REQUEST_COLUMNS = ("render_id", "mode", "clip_ids", "prompt", "negative_prompt", "seed")

_NO_SOURCE = {"source_prompt": "", "edit": "", "image_id": "", "mask_id": ""}
"""Keys in the JSON of every picture, because `datasets` infers the columns from the first ones."""


class RenderSectionOptions(RenderOptions):
    """Rendering. A job can override all of these options except `batch_size` and `shard_size`."""

    batch_size: int = Field(16, gt=0, json_schema_extra=SPEED_ONLY)
    """Batch size in pictures; halved after an out-of-memory error. It changes the speed, not the pictures."""

    shard_size: int = Field(1_000, gt=0, json_schema_extra=SPEED_ONLY)
    """Maximum number of pictures in a tar shard. Shards are smaller if there would be fewer shards than workers."""

    @property
    def of_jobs(self) -> RenderOptions:
        """The options that jobs can override."""
        return RenderOptions(**self.model_dump(include=set(RenderOptions.model_fields)))


@dataclass(frozen=True)
class RenderPlan:
    """Counts of the pictures of some jobs."""

    total: int
    """Distinct pictures."""
    new: int
    """Pictures still to be rendered."""
    rejected: int
    """Rejected pictures, which are not tried again."""
    faulty: int
    """New pictures that cannot be rendered, as the warnings say."""
    estimate_s: float | None
    """Estimated time for the new pictures in seconds, at the rate of the last run; None without one."""
    warnings: list[str]


def plan_render(run: Run, source: RenderSource) -> RenderPlan:
    """Count the pictures of some jobs; no model is loaded and Ray is not started.

    Raises:
        BadConfig: a job's photos do not exist.
        Transient: the store failed.
    """
    total, num, rejected = source.counts(run.config.run.retry_rejects)
    faulty = min(num, max(0, source.num_faulty() - rejected))
    rate = run.rates().get(RENDERS.name)
    return RenderPlan(
        total=total,
        new=num,
        rejected=rejected,
        faulty=faulty,
        estimate_s=(num - faulty) / rate if rate else None,
        warnings=source.warnings(),
    )


def render(run: Run, jobs: Sequence[Job], source: RenderSource | None = None) -> StageSummary:
    """Render the pictures of jobs that do not exist yet.

    `source` is the source of the same jobs, if a plan has expanded them before.

    Raises:
        BadConfig: there are no cues, or a job's SQL condition is wrong.
        Transient: the store failed, or a slice failed too often.
    """
    source = source or RenderSource(run, jobs)
    forget_rejects(run, source)
    return run.do(RENDERS, source)


def forget_rejects(run: Run, source: RenderSource) -> None:
    """Remove rejects of pictures that the job file no longer asks for, such as those of a photo since repaired.

    Raises:
        BadConfig: a job's photos do not exist.
        Transient: the store failed.
    """
    forgotten = source.forgotten()
    if forgotten.num_rows:
        remove_rejects(run, "renders", forgotten)


def shards_of(run: Run, picture_format: str) -> str:
    """A glob for the shards of a run's pictures of one format."""
    any_shard = run.workspace.shard_uri("renders", run.recipe("renders"), "any")
    return f"{any_shard.rpartition('/')[0]}/{picture_format}-*.tar"


class Renderer(Batched):
    """Renders slices of pictures with the frozen diffusion model, each into one shard per format."""

    def __init__(self, context: Context) -> None:
        from tasks.edit import Edits

        self.diffusion = open_diffusion(context.config)
        self.edits = Edits(self.diffusion, context.options(IngestOptions).images)
        self.revision, self.workspace = context.revisions["diffusion"], context.workspace
        self.recipe = context.recipes["renders"]
        self.batch_size = context.options(RenderSectionOptions).batch_size

    def __call__(self, rows: pa.Table) -> Outcome:
        """Map a slice to one shard per format."""
        renders: list[dict[str, Any]] = []
        rejects: list[Reject] = []
        for picture_format, some in _by_format(rows.to_pylist()).items():
            with ShardWriter(self.workspace, "renders", self.recipe, picture_format) as shard:
                renders += self._to_shard(shard, some, rejects)
        return Outcome(pa.Table.from_pylist(renders, schema=SCHEMAS["renders"].columns), rejects)

    def _to_shard(self, shard: ShardWriter, rows: list[dict], rejects: list[Reject]) -> list[dict[str, Any]]:
        """Render pictures into a shard; each batch is encoded and written while the next one is rendered."""
        renders: list[dict[str, Any]] = []
        writing: Future[list[dict[str, Any]]] | None = None
        with ThreadPoolExecutor(1) as writer:
            for batch in _batches(rows, self.batch_size, rejects):
                for part, pictures in self._rendered(batch, rejects):
                    renders += writing.result() if writing else []
                    writing = writer.submit(self._write, shard, part, pictures)
            renders += writing.result() if writing else []
        return renders

    def _rendered(
        self, batch: Sequence[dict], rejects: list[Reject]
    ) -> Iterator[tuple[Sequence[dict], Sequence[np.ndarray]]]:
        """Render a batch. If a picture cannot be rendered, bisect the batch to reject that picture alone."""
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

    def _render(self, batch: Sequence[dict]) -> Sequence[np.ndarray]:
        import torch

        prompts = [row["prompt"] for row in batch]
        cues = torch.stack([self._cues(row) for row in batch]) if _num_cues(batch[0]) else None
        if batch[0]["edit"] is not None:
            return self.edits(batch, prompts, cues)
        seeds, negatives = [row["seed"] for row in batch], [row["negative_prompt"] for row in batch]
        options = RenderOptions.model_validate_json(batch[0]["options"])
        return list(self.diffusion.render(prompts, seeds, cues, negatives, options))

    def _cues(self, row: dict) -> "Tensor":
        """The token vectors of a picture's cues, in the order of the prompt."""
        import torch

        from aai.cues.interpolate import between

        cues = [torch.tensor(vector).view(-1, row["dim"]) for vector in row["vectors"]]
        if row["blend"] is not None:
            first = parse(row["prompt"]).names.index(UNNAMED)
            start, end = cues[first : first + 2]
            cues[first : first + 2] = [between(start, end, row["blend"], self.diffusion.cue_dims)]
        return torch.cat(cues)

    def _write(self, shard: ShardWriter, batch: Sequence[dict], pictures: Sequence[np.ndarray]) -> list[dict[str, Any]]:
        return [self._write_one(shard, row, pixels) for row, pixels in zip(batch, pictures, strict=True)]

    def _write_one(self, shard: ShardWriter, row: dict, pixels: np.ndarray) -> dict[str, Any]:
        """Write a picture and its JSON to the shard, and return its row of `renders`."""
        options = RenderOptions.model_validate_json(row["options"])
        request = self._request(row, pixels, options)
        xmp = provenance.xmp_packet(*self.revision, row["prompt"], version("aai"), request, _digital_source_type(row))
        key, data = row["render_id"], images.encode(pixels, _KINDS[options.format], options.quality, xmp)
        location = shard.add(key, options.format, data)
        shard.add(
            key, "json", json.dumps(_NO_SOURCE | request | self._context_of(row, options), sort_keys=True).encode()
        )
        own = {key: row[key] for key in ("job", "image_id", "image_uri", "source_prompt", "edit")}
        return request | vars(location) | own

    def _context_of(self, row: dict, options: RenderOptions) -> dict[str, Any]:
        """The rest of a picture's JSON; without nulls, because `datasets` infers types from the first pictures."""
        return {
            "job": row["job"],
            "quality": options.quality,
            "labels": [label or "" for label in row["labels"]],
            "licences": [licence or "" for licence in row["licences"]],
            "method": row["method"] or "",
            "recipe": self.recipe,
            "aai_version": version("aai"),
            "digital_source_type": _digital_source_type(row),
        }

    def _request(self, row: dict, pixels: np.ndarray, options: RenderOptions) -> dict[str, Any]:
        """Everything that the picture depends on; without nulls."""
        blend = {} if row["blend"] is None else {"blend": row["blend"]}
        return (
            blend
            | _source_columns(row)
            | {name: row[name] for name in _REQUEST_COLUMNS}
            | {
                "steps": options.steps,
                "guidance": options.guidance,
                "scheduler": _scheduler_of(row, options) or type(self.diffusion.default_scheduler).__name__,
                "width": pixels.shape[1],
                "height": pixels.shape[0],
                "format": options.format,
                "base_model": self.revision[0],
                "base_revision": self.revision[1],
            }
        )


def _batches(rows: list[dict], size: int, rejects: list[Reject]) -> Iterator[Sequence[dict]]:
    """Batches of rows that can be rendered together; rows with a fault become rejects."""
    rejects += [_reject(row, BadItem(row["fault"])) for row in rows if row["fault"]]
    good = [row for row in rows if not row["fault"]]
    for _, group in groupby(good, key=_batch_key):
        yield from batches(list(group), size)


def _by_format(rows: list[dict]) -> dict[str, list[dict]]:
    """Rows by the format of their pictures, in the same order."""
    parts: dict[str, list[dict]] = {}
    for row in rows:
        parts.setdefault(json.loads(row["options"])["format"], []).append(row)
    return parts


def _batch_key(row: dict) -> tuple[Any, ...]:
    """What pictures of one batch have in common: options, kind of source, and the number of cue tokens."""
    sources = row["edit"], row["image_id"] is not None, row["mask_id"] is not None
    return row["options"], *sources, (row["num_tokens"] or 0) * _num_cues(row)


def _num_cues(row: dict) -> int:
    return len(parse(row["prompt"]).names)


def _digital_source_type(row: dict) -> str:
    return provenance.COMPOSITE if row["image_id"] else provenance.GENERATED


def _scheduler_of(row: dict, options: RenderOptions) -> str | None:
    """Name of the sampler, None for the checkpoint's own; photos are always edited with DDIM."""
    return "ddim" if row["image_id"] else options.scheduler


def _reject(row: dict, error: BadItem) -> Reject:
    """The reject of a picture. If the error names no file, it is the photo, else the clip's recording."""
    reject = Reject.of(row["render_id"], error, row["image_uri"] or row["uri"])
    return replace(reject, job_file=row["job_file"])


def _source_columns(row: dict) -> dict[str, object]:
    """The columns about the source image; empty without one."""
    if row["edit"] is None:
        return {}
    of_photo = {key: row[key] for key in ("image_id", "mask_id") if row[key]}
    return {"source_prompt": row["source_prompt"], "edit": row["edit"]} | of_photo


def _settings(config: Config) -> dict[str, object]:
    """Options are part of the pictures' ids, not of the recipe."""
    return {}


def _slice_size(config: Config) -> int:
    return config.options(RenderSectionOptions).shard_size


_OF_CUES = """
    SELECT render_id FROM (SELECT render_id, unnest(clip_ids) AS clip_id FROM renders) r
    SEMI JOIN outdated o ON r.clip_id = o.id
"""

RENDERS = Stage(
    name="render",
    table="renders",
    reads=("cues",),
    options=RenderSectionOptions,
    settings=_settings,
    models=("diffusion",),
    worker=Renderer,
    gpu=True,
    slice_size=_slice_size,
    made_from={"cues": _OF_CUES},
    code_version=2,
    command="render",
    label="pictures",
)
