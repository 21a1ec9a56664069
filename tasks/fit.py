"""Fit: every clip with neighbours gets its AudioCue."""

import time
from collections.abc import Callable
from functools import partial

import numpy as np
import pyarrow as pa

from aai.errors import BadItem
from aai.identity import seed_of
from aai.models.device import best_device
from aai.workspace import SCHEMAS
from tasks.runtime.arrow import constants, to_array, to_lists
from tasks.runtime.driver import StageSummary
from tasks.runtime.models import open_diffusion
from tasks.runtime.run import Run
from tasks.runtime.tables import JoinedSource, TableSource
from tasks.runtime.work import Outcome, Reject, Worker
from tasks.train_mapper import load_mapper, start_of

_CLIPS_ON_CPU = 16
"""More at once are no faster on a CPU, but take gigabytes."""


def fit(run: Run) -> StageSummary:
    """Make a cue for every clip that has neighbours and no cue of this recipe."""
    source = JoinedSource(
        TableSource(run.workspace, "neighbours", run.recipe("neighbours"), ("clip_id", "image_ids")),
        (
            TableSource(run.workspace, "aligned_vectors", run.recipe("aligned_vectors"), ("clip_id", "vector")),
            TableSource(run.workspace, "clips", run.recipe("clips"), ("clip_id", "uri", "label")),
        ),
    )
    return run.drive("cues", source, partial(_MAKERS[run.config.fit.method], run))


class FittingWorker:
    """The frozen text-to-image model, beneath which the clips of a slice are fitted many at once.

    With the method `adapter` a clip's network starts as the shared mapper; with `inversion` its cue is free, and starts
    at words that are the same for all clips.
    """

    def __init__(self, run: Run) -> None:
        from aai.cues.fit import Fitter, FreeCue
        from tasks.runtime.latents import Latents

        config, options, self.method = run.config, run.config.fit, run.config.fit.method
        diffusion = open_diffusion(config)
        if diffusion.device.type == "cpu":
            options = options.model_copy(update={"clips_at_once": min(options.clips_at_once, _CLIPS_ON_CPU)})
        if self.method == "inversion":
            options = options.model_copy(update={"learning_rate": options.inversion_rate, "pull": 0.0})
        free = FreeCue(start_of(run, diffusion, options.num_tokens)) if self.method == "inversion" else None
        self.fitter = Fitter(diffusion, free or load_mapper(run), options, config.seed)
        self.latents = Latents(run, diffusion)
        self.pinned, self.seed = run.pinned("diffusion"), config.seed

    def __call__(self, rows: pa.Table) -> Outcome:
        """Fit a slice."""
        rejects: list[Reject] = []
        fitted = list(self.fitter.fit(self.latents.clips(rows, rejects)))
        images = dict(zip(rows["clip_id"].to_pylist(), rows["image_ids"].to_pylist(), strict=True))
        made = {
            "clip_id": [cue.clip_id for cue in fitted],
            "vector": _stacked([cue.vector.cpu().numpy() for cue in fitted]),
            "method": self.method,
            "loss_before": [cue.losses[0] for cue in fitted],
            "loss_after": [cue.loss_after for cue in fitted],
            "loss_curve": [cue.losses for cue in fitted],
            "steps": [cue.steps for cue in fitted],
            "stop_reason": [cue.stop_reason for cue in fitted],
            "took_s": [cue.took_s for cue in fitted],
            "image_ids": [images[cue.clip_id] for cue in fitted],
        }
        return Outcome(_cue_rows(made, self.seed, self.pinned), rejects)

    def halve_batch(self) -> bool:
        """Take less memory."""
        if self.fitter.clips_at_once == 1:
            return False
        self.fitter.clips_at_once //= 2
        return True


class MapperWorker:
    """The shared mapper alone: aligned vectors in, cues out, without a step."""

    def __init__(self, run: Run) -> None:
        self.device = best_device()
        self.mapper = load_mapper(run).to(self.device)
        self.pinned, self.seed = run.pinned("diffusion"), run.config.seed

    def __call__(self, rows: pa.Table) -> Outcome:
        """Map a slice."""
        import torch

        start_s = time.monotonic()
        with torch.inference_mode():
            cues = self.mapper(torch.from_numpy(to_array(rows["vector"])).to(self.device)).cpu().numpy()
        took_s = (time.monotonic() - start_s) / rows.num_rows
        made = {"clip_id": rows["clip_id"].to_pylist(), "vector": cues, "method": "mapper"}
        return Outcome(_cue_rows(made | constants(rows.num_rows, took_s=took_s), self.seed, self.pinned))


class TextWorker:
    """The clip's label stands in the prompt: the plain diffusion model, to compare with. Its cues have no rows."""

    def __init__(self, run: Run) -> None:
        self.pinned, self.seed = run.pinned("diffusion"), run.config.seed

    def __call__(self, rows: pa.Table) -> Outcome:
        """Map a slice."""
        named = [row for row in rows.to_pylist() if row["label"]]
        error = BadItem("it has no label, which the method `text` needs: give one in the metadata")
        rejects = [Reject.of(row["clip_id"], error, row["uri"]) for row in rows.to_pylist() if not row["label"]]
        cues = np.empty((len(named), 0, 0), np.float32)
        made = {"clip_id": [row["clip_id"] for row in named], "vector": cues, "method": "text"}
        return Outcome(_cue_rows(made, self.seed, self.pinned), rejects)


_MAKERS: dict[str, Callable[[Run], Worker]] = {
    "adapter": FittingWorker,
    "inversion": FittingWorker,
    "mapper": MapperWorker,
    "text": TextWorker,
}


def _stacked(cues: list[np.ndarray]) -> np.ndarray:
    return np.stack(cues) if cues else np.empty((0, 0, 0), np.float32)


def _cue_rows(made: dict, seed: int, pinned: tuple[str, str]) -> pa.Table:
    """Rows of the table `cues`; what `made` does not say is said of a cue that took no step."""
    cues, ids = made["vector"], made["clip_id"]
    num = len(ids)
    columns = constants(num, loss_before=None, loss_after=None, loss_curve=None, steps=0, stop_reason=None, took_s=0.0)
    columns |= constants(num, base_model=pinned[0], base_revision=pinned[1], image_ids=[])
    columns |= {"seed": [seed_of(seed, "fit", clip_id, "cue") for clip_id in ids]}
    columns |= made | constants(num, num_tokens=cues.shape[1], dim=cues.shape[2], method=made["method"])
    schema = SCHEMAS["cues"].columns
    arrays = [pa.array(columns[c.name], c.type) if c.name != "vector" else None for c in schema]
    flat = to_lists(cues.reshape(num, -1))
    return pa.table([flat if each is None else each for each in arrays], schema=schema)
