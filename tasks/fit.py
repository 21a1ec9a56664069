"""Fit: each clip with neighbours gets its AudioCue."""

import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from aai.cues.options import MOST_ROWS, FitOptions, TrainMapperOptions
from aai.identity import seed_of
from aai.media.options import IngestOptions
from aai.retrieve.options import RetrieveOptions
from aai.workspace import SCHEMAS, Query
from tasks.runtime.arrow import constants, to_array, to_lists
from tasks.runtime.caption_cues import CaptionCues, caption_settings
from tasks.runtime.config import Config
from tasks.runtime.models import check_templates, initial_cue, open_diffusion, open_mapper, sound_role
from tasks.runtime.passes import Passes
from tasks.runtime.stage import Context, Stage
from tasks.runtime.supervision import SUPERVISED_CLIPS, image_locations, with_images
from tasks.runtime.work import Outcome, Reject, Worker

_MIN_SLICE = 64


class FittingWorker:
    """Fits the cues of many clips at a time under the frozen text-to-image model.

    With the method `adapter` a clip's network is a copy of the shared mapper; with `inversion` the cue itself is
    optimised, from the same words for all clips.
    """

    def __init__(self, context: Context) -> None:
        from aai.cues.fit import Fitter, FreeCue
        from tasks.runtime.latents import Latents

        options = context.options(FitOptions)
        diffusion = open_diffusion(context.config)
        mapper = None if options.method == "inversion" else open_mapper(context)
        num_tokens = mapper.num_tokens if mapper else options.num_tokens
        check_templates(diffusion, options.templates, num_tokens, "fit.templates")
        if mapper is None:
            options = options.model_copy(update={"learning_rate": options.inversion_rate, "prior_weight": 0.0})
        network = mapper or FreeCue(initial_cue(context, diffusion, num_tokens))
        self.passes = Passes(context, CUES.name, diffusion, num_tokens, options.max_rows)
        self.fitter = Fitter(diffusion, network, options, context.config.seed)
        self.fitter.max_rows = self.passes.max_rows
        self.latents = Latents(context.options(IngestOptions).images, diffusion)
        self.method, self.revision, self.seed = options.method, context.revisions["diffusion"], context.config.seed

    def __call__(self, rows: pa.Table) -> Outcome:
        """Fit a slice. All images are read first, so that a store that fails costs no fitted cue."""
        rejects: list[Reject] = []
        clips = self.latents.clips(rows, rejects)
        with self.passes.work(self.fitter.max_rows):
            fitted = list(self.fitter.fit(clips))
        self.fitter.max_rows = min(self.fitter.max_rows, self.passes.max_rows)
        columns = {
            "clip_id": [cue.clip_id for cue in fitted],
            "vector": [cue.vector.cpu().numpy() for cue in fitted],
            "method": self.method,
            "loss_before": [cue.losses[0] for cue in fitted],
            "loss_after": [cue.loss_after for cue in fitted],
            "loss_curve": [cue.losses for cue in fitted],
            "steps": [cue.steps for cue in fitted],
            "stop_reason": [cue.stop_reason for cue in fitted],
            "took_s": [cue.took_s for cue in fitted],
            "image_ids": [list(cue.image_ids) for cue in fitted],
        }
        return Outcome(_cue_rows(columns, self.seed, self.revision), rejects)

    def halve_batch(self) -> bool:
        """Halve the micro-batch: the last resort, where memory was estimated too low or others took it."""
        return self.fitter.halve_memory()


class MapperWorker:
    """The shared mapper alone: aligned vectors in, cues out, without any fitting."""

    def __init__(self, context: Context) -> None:
        from aai.models.device import best_device

        self.device = best_device()
        self.mapper = open_mapper(context).to(self.device)
        self.revision, self.seed = context.revisions["diffusion"], context.config.seed

    def __call__(self, rows: pa.Table) -> Outcome:
        """Map a slice."""
        import torch

        start_s = time.monotonic()
        with torch.inference_mode():
            cues = self.mapper(torch.from_numpy(to_array(rows["vector"])).to(self.device)).cpu().numpy()
        took_s = (time.monotonic() - start_s) / rows.num_rows
        columns = {"clip_id": rows["clip_id"].to_pylist(), "vector": list(cues), "method": "mapper"}
        return Outcome(_cue_rows(columns | constants(rows.num_rows, took_s=took_s), self.seed, self.revision))


class CaptionWorker:
    """Captions alone: what the audio encoder hears, in the text encoder's own words."""

    def __init__(self, context: Context) -> None:
        self.context, self.cues = context, CaptionCues(context.config)
        self.revision, self.seed = context.revisions["diffusion"], context.config.seed

    def __call__(self, rows: pa.Table) -> Outcome:
        """Map a slice."""
        start_s = time.monotonic()
        with self.context.query() as query:
            query.keep_ids("wanted", rows["clip_id"].to_pylist())
            query.narrow("wanted", "clip_id", _HEARD)
            heard = query.table(_HEARD)
        cues = self.cues(to_array(heard["vector"])).numpy()
        took_s = (time.monotonic() - start_s) / rows.num_rows
        columns = {"clip_id": heard["clip_id"].to_pylist(), "vector": list(cues), "method": "captions"}
        return Outcome(_cue_rows(columns | constants(rows.num_rows, took_s=took_s), self.seed, self.revision))


def _cue_rows(given: dict[str, Any], seed: int, revision: tuple[str, str]) -> pa.Table:
    """Rows of the table `cues`; what `given` leaves out is that of a cue without fitting."""
    ids, cues = given["clip_id"], given["vector"]
    schema, num = SCHEMAS["cues"].columns, len(given["clip_id"])
    if not num:
        return schema.empty_table()
    num_tokens, dim = cues[0].shape
    columns = constants(num, loss_before=None, loss_after=None, loss_curve=None, steps=0, stop_reason=None, took_s=0.0)
    columns |= constants(num, base_model=revision[0], base_revision=revision[1], image_ids=[])
    columns |= {"seed": [seed_of(seed, "fit", clip_id, "cue") for clip_id in ids]}
    columns |= given | constants(num, num_tokens=num_tokens, dim=dim, method=given["method"])
    columns["vector"] = to_lists(np.stack(cues).reshape(num, -1))
    return pa.table([pa.array(columns[field.name], field.type) for field in schema], schema=schema)


def _fitter(context: Context) -> Worker:
    match context.options(FitOptions).method:
        case "mapper":
            return MapperWorker(context)
        case "captions":
            return CaptionWorker(context)
    return FittingWorker(context)


def _starts_from_mapper(config: Config) -> bool:
    return config.options(FitOptions).method not in ("inversion", "captions")


def _is_shipped(config: Config) -> bool:
    return config.options(TrainMapperOptions).method == "shipped"


def _reads(config: Config) -> tuple[str, ...]:
    if config.options(FitOptions).method == "captions":
        return ("neighbours", "aligned_vectors", "audio_vectors")
    trained = _starts_from_mapper(config) and not _is_shipped(config)
    return ("neighbours", "aligned_vectors", *(["mapper"] if trained else []))


def _models(config: Config) -> tuple[str, ...]:
    if config.options(FitOptions).method == "captions":
        return ("diffusion", sound_role(config))
    return ("diffusion", *(["mapper"] if _starts_from_mapper(config) and _is_shipped(config) else []))


def _settings(config: Config) -> dict[str, object]:
    settings = config.options(FitOptions).settings()
    if settings["method"] == "captions":
        return {"method": "captions"} | caption_settings(config)
    if not _starts_from_mapper(config):
        settings["start_words"] = list(config.options(TrainMapperOptions).start_words)
    return settings


def _slice_size(config: Config) -> int:
    """Twice the clips that a worker may fit at a time, so that others take the places of those that stop early."""
    options = config.options(FitOptions)
    return max(_MIN_SLICE, 2 * ((options.max_rows or MOST_ROWS) // options.rows_per_step))


_HEARD = "SELECT v.clip_id, v.vector FROM audio_vectors v SEMI JOIN wanted w ON v.clip_id = w.id"


def _with_images(query: Query, folder: Path, rows: Iterable[pa.Table]) -> Iterator[pa.Table]:
    return with_images(rows, image_locations(query, folder))


# Cues that were fitted on images which retrieval by label no longer finds, because labels were corrected.
_OUTDATED = """
    SELECT c.clip_id FROM cues c LEFT JOIN neighbours n ON c.clip_id = n.clip_id
    WHERE n.clip_id IS NULL OR NOT list_has_all(n.image_ids, c.image_ids)
"""


def _outdated(config: Config) -> str:
    has_retrieval = "retrieve" in config.sections
    return _OUTDATED if has_retrieval and config.options(RetrieveOptions).method == "label" else ""


CUES = Stage(
    name="fit",
    table="cues",
    reads=_reads,
    rows=SUPERVISED_CLIPS,
    extend=_with_images,
    items="SELECT clip_id FROM neighbours n SEMI JOIN present_audio_ids p ON n.clip_id = p.id",
    options=FitOptions,
    settings=_settings,
    models=_models,
    is_seeded=True,
    worker=_fitter,
    gpu=True,
    slice_size=_slice_size,
    outdated=_outdated,
    code_version=3,
    label="cues",
)
