"""Render: cues are injected into prompts, and the pictures are written to tar shards."""

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from pydantic import Field

from aai.errors import BadConfig, BadItem
from aai.inject.prompt import UNNAMED, parse
from aai.jobs.job import Job
from aai.media.options import IngestOptions
from aai.models.options import RenderOptions
from aai.options import SPEED_ONLY
from aai.workspace import SCHEMAS
from aai.workspace.shards import ShardWriter
from tasks.choice import note
from tasks.pictures import Picture, PictureWriter, Renders, is_masked
from tasks.render_source import RenderSource
from tasks.runtime.config import Config
from tasks.runtime.driver import StageSummary
from tasks.runtime.estimates import Estimate, Estimates, placement_of
from tasks.runtime.loader import Loader, Row, default_threads
from tasks.runtime.models import open_diffusion
from tasks.runtime.outdated import remove_rejects
from tasks.runtime.passes import memory_share
from tasks.runtime.run import Run
from tasks.runtime.stage import Context, Stage
from tasks.runtime.work import Outcome, Reject

if TYPE_CHECKING:
    from torch import Tensor

    from tasks.candidates import Choosing
    from tasks.edit import Source

Loaded = tuple[Row, "Source | None"]
"""A row, and the photo that it edits."""

_PHOTOS_AHEAD = 8
"""Photos that are opened beyond one for each thread while the model works on others: half a batch of edits."""


class RenderSectionOptions(RenderOptions):
    """Rendering. A job can override all of these options except `batch_size` and `shard_size`."""

    batch_size: int | None = Field(None, gt=0, json_schema_extra=SPEED_ONLY)
    """Batch size in pictures; null: as many as keep the device busy and fit into its free memory. It changes the speed,
    not the pictures."""

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
    estimate: Estimate
    """The time for the new pictures, on the workers that they would get."""
    warnings: list[str]
    candidates: int = 0
    """Pictures that the model renders for the new ones: more where the best of several candidates is kept."""


def plan_render(run: Run, source: RenderSource) -> RenderPlan:
    """Count the pictures of some jobs; no model is loaded and Ray is not started.

    Raises:
        BadConfig: a job's photos do not exist.
        Transient: the store failed.
    """
    total, num, rejected = source.counts(run.config.run.retry_rejects)
    faulty = min(num, max(0, source.num_faulty() - rejected))
    candidates = source.num_candidates(num)
    return RenderPlan(
        total=total,
        new=num,
        rejected=rejected,
        faulty=faulty,
        estimate=_estimate(run, (candidates - faulty) / source.mean_candidates()) if num else Estimate(),
        warnings=source.warnings(),
        candidates=candidates,
    )


def _estimate(run: Run, num: float) -> Estimate:
    try:
        placement = placement_of(run, RENDERS)
    except BadConfig:  # the run itself says it
        placement = None
    return Estimates(run).of(RENDERS, num, placement)


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


def shards_of(run: Run, kind: str) -> str:
    """A glob for the shards of a run's pictures of one format, such as `png`, or with masks, `masked-png`."""
    any_shard = run.workspace.shard_uri("renders", run.recipe("renders"), "any")
    return f"{any_shard.rpartition('/')[0]}/{kind}-*.tar"


class Renderer:
    """Renders slices of pictures with the frozen diffusion model, each into one shard per format."""

    def __init__(self, context: Context) -> None:
        from aai.models.batching import BatchSizes
        from tasks.candidates import Measures
        from tasks.edit import Edits, Sources

        self.diffusion = diffusion = open_diffusion(context.config)
        self.edits = Edits(diffusion)
        self.sources = Sources(diffusion, context.options(IngestOptions).images)
        self.workspace = context.workspace
        self.renders = Renders(
            context.revisions["diffusion"], type(diffusion.default_scheduler).__name__, context.recipes["renders"]
        )
        unet, batch_size = diffusion.pipeline.unet, context.options(RenderSectionOptions).batch_size
        pixel_bytes = unet.config.block_out_channels[0] * unet.dtype.itemsize
        share = diffusion.codec.memory_share = memory_share(context.config, RENDERS.name, diffusion.device.type)
        self.sizes = BatchSizes(diffusion.device, pixel_bytes, batch_size, share)
        self._compiled_for = (diffusion.default_size, diffusion.default_size)
        self.measures = Measures(context)

    def __call__(self, rows: pa.Table) -> Outcome:
        """Map a slice to one shard per format, and one for pictures with masks."""
        renders: list[dict[str, Any]] = []
        rejects: list[Reject] = []
        counts: Counter[str] = Counter()
        for kind, some in _by_kind(rows.to_pylist()).items():
            with ShardWriter(self.workspace, "renders", self.renders.recipe, kind) as shard:
                renders += self._to_shard(shard, some, rejects, counts)
        return Outcome(pa.Table.from_pylist(renders, schema=SCHEMAS["renders"].columns), rejects, counts=counts)

    def halve_batch(self) -> bool:
        """Halve the batch; whether that was possible."""
        return self.sizes.halve()

    def _to_shard(
        self, shard: ShardWriter, rows: list[dict], rejects: list[Reject], counts: Counter[str]
    ) -> list[dict[str, Any]]:
        """Render pictures into a shard; batches are encoded and written while the next one is rendered."""
        from tasks.candidates import Choosing, expanded

        choosing = Choosing(self.measures)
        rejects += [_reject(row, BadItem(row["fault"])) for row in rows if row["fault"]]
        loader = Loader(self.sources, lambda row, error: rejects.append(_reject(row, error)))
        good = (row for row in rows if not row["fault"])
        with (
            PictureWriter(shard, self.renders) as writer,
            closing(loader.loaded(good, _PHOTOS_AHEAD + default_threads())) as loaded,
        ):
            for batch in self._batches(expanded(loaded)):
                for part, pictures in self._rendered(batch, choosing):
                    choosing.add([row for row, _ in part], pictures)
                held = sum(source.photo.nbytes for _, source in batch if source)
                writer.add(*choosing.take(), held)
        rejects += choosing.rejects
        counts += choosing.counts
        return writer.rows

    def _batches(self, loaded: Iterable[Loaded]) -> Iterator[Sequence[Loaded]]:
        """Batches of rows that can be rendered together, as many as the memory suffices for."""
        batch: list[Loaded] = []
        size = 0
        for each in loaded:
            if batch and _batch_key(each[0]) != _batch_key(batch[0][0]):
                yield batch
                batch = []
            size = size if batch else self._size(each[0])
            batch.append(each)
            if len(batch) == size:
                yield batch
                batch = []
        if batch:
            yield batch

    def _size(self, row: Row) -> int:
        """How many pictures like one are rendered at once."""
        options = _options(row)
        diffusion, num_rows = self.diffusion, 1 if row["edit"] is None else 2
        num_rows += num_rows if diffusion.takes_negatives(options) else 0
        height, width = self._picture_size(options)
        num_pixels = height * width // diffusion.pipeline.vae_scale_factor**2
        return self.sizes.size(_batch_key(row), num_pixels, num_rows)

    def _picture_size(self, options: RenderOptions) -> tuple[int, int]:
        default = self.diffusion.default_size
        return options.height or default, options.width or default

    @contextmanager
    def _work(self, row: Row) -> Iterator[None]:
        """Context manager around a batch: the model is compiled once that pays, for one size of pictures.

        Edits and other sizes run as they are: edits change what attention does from step to step.
        """
        speed, decoder, options = self.diffusion.speed, self.diffusion.codec.speed, _options(row)
        if row["edit"] is not None or (speed.is_settled and self._picture_size(options) != self._compiled_for):
            from aai.models.speed import fastest_attention

            with speed.eager(), decoder.eager(), fastest_attention(self.diffusion.device):
                yield
            return
        with decoder.work(partial(self._try_decoder, options)), speed.work(partial(self._try_step, options)):
            yield

    def _try_step(self, options: RenderOptions) -> "Tensor":
        from aai.models.sampling import try_step

        self._compiled_for = self._picture_size(options)
        return try_step(self.diffusion, options)

    def _try_decoder(self, options: RenderOptions) -> None:
        self.diffusion.decode(self._try_step(options))

    def _rendered(
        self, batch: Sequence[Loaded], choosing: "Choosing"
    ) -> Iterator[tuple[Sequence[Loaded], Sequence[Picture]]]:
        """Render a batch. If a picture cannot be rendered, bisect the batch to reject that picture alone."""
        try:
            with self._work(batch[0][0]), self.sizes.measured(_batch_key(batch[0][0]), len(batch)):
                pictures = self._render(batch)
        except BadItem as error:
            if len(batch) == 1:
                choosing.fail(batch[0][0], _reject(batch[0][0], error))
                return
            half = len(batch) // 2
            yield from self._rendered(batch[:half], choosing)
            yield from self._rendered(batch[half:], choosing)
        else:
            yield batch, pictures

    def _render(self, batch: Sequence[Loaded]) -> Sequence[Picture]:
        import torch

        rows, sources = [row for row, _ in batch], [source for _, source in batch]
        prompts = [row["prompt"] for row in rows]
        cues = torch.stack([self._cues(row) for row in rows]) if _num_cues(rows[0]) else None
        if rows[0]["edit"] is not None:
            return self.edits(rows, sources, prompts, cues)
        seeds, negatives = [row["seed"] for row in rows], [row["negative_prompt"] for row in rows]
        options = _options(rows[0])
        pictures = self.diffusion.render(prompts, seeds, cues, negatives, options)
        return [partial(np.asarray, pixels) for pixels in pictures]

    def _cues(self, row: Row) -> "Tensor":
        """The token vectors of a picture's cues, in the order of the prompt."""
        import torch

        from aai.cues.interpolate import between

        cues = [torch.tensor(vector).view(-1, row["dim"]) for vector in row["vectors"]]
        if row["blend"] is not None:
            first = parse(row["prompt"]).names.index(UNNAMED)
            start, end = cues[first : first + 2]
            cues[first : first + 2] = [between(start, end, row["blend"], self.diffusion.cue_dims)]
        return torch.cat(cues)


def _by_kind(rows: list[dict]) -> dict[str, list[dict]]:
    """Rows by the format of their pictures and whether they have masks, in the same order."""
    parts: dict[str, list[dict]] = {}
    for row in rows:
        kind = "masked-" * is_masked(row) + json.loads(row["options"])["format"]
        parts.setdefault(kind, []).append(row)
    return parts


def _batch_key(row: Row) -> tuple[Any, ...]:
    """What pictures of one batch have in common: options, kind of source, and the number of cue tokens."""
    sources = row["edit"], row["image_id"] is not None, row["mask_id"] is not None
    return row["options"], *sources, (row["num_tokens"] or 0) * _num_cues(row)


def _options(row: Row) -> RenderOptions:
    return RenderOptions.model_validate_json(row["options"])


def _num_cues(row: Row) -> int:
    return len(parse(row["prompt"]).names)


def _reject(row: Row, error: BadItem) -> Reject:
    """The reject of a picture. If the error names no file, it is the photo, else the clip's recording."""
    reject = Reject.of(row["render_id"], error, row["image_uri"] or row["uri"])
    return replace(reject, job_file=row["job_file"])


def _settings(config: Config) -> dict[str, object]:
    """Options are part of the pictures' ids, not of the recipe. Latents were once in the type of the model."""
    return {} if config.models.dtype == "float32" else {"latents": "float32"}


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
    note=note,
    code_version=2,
    command="render",
    label="pictures",
)
