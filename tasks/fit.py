"""Fit: every clip with neighbours gets its AudioCue."""

import time
from collections.abc import Callable
from functools import partial

import numpy as np
import pyarrow as pa

from aai.errors import BadConfig, BadItem
from aai.identity import seed_of
from aai.models.device import best_device
from aai.workspace import SCHEMAS
from tasks.columns import constants, to_array, to_lists
from tasks.config import Config
from tasks.run import Run
from tasks.slices import Outcome, Reject, Worker
from tasks.sources import JoinedSource, TableSource
from tasks.stage import StageSummary


def fit(run: Run) -> StageSummary:
    """Make a cue for every clip that has neighbours and no cue of this recipe.

    Raises:
        BadConfig: the mapper is to be learned, which this version cannot do.
    """
    if run.config.learn.method == "learned" and run.config.fit.method in ("adapter", "mapper"):
        raise BadConfig(
            "learn.method: a bank cannot learn its own mapper yet: name one in models.mapper and set it to `shipped`, "
            "or set fit.method to `text`"
        )
    source = JoinedSource(
        TableSource(run.workspace, "neighbours", run.recipe("neighbours"), ("clip_id", "image_ids")),
        (
            TableSource(run.workspace, "aligned_vectors", run.recipe("aligned_vectors"), ("clip_id", "vector")),
            TableSource(run.workspace, "clips", run.recipe("clips"), ("clip_id", "uri", "label")),
        ),
    )
    return run.drive("cues", source, partial(_MAKERS[run.config.fit.method], run.config, run.pinned("diffusion")))


class MapperWorker:
    """The shared mapper alone: aligned vectors in, cues out, without a step."""

    def __init__(self, config: Config, pinned: tuple[str, str]) -> None:
        from aai.cue import CueMapper

        assert config.models.mapper is not None, "its recipe names it"
        self.device = best_device()
        self.mapper = CueMapper.load(config.models.mapper).to(self.device)
        self.pinned, self.seed = pinned, config.seed

    def __call__(self, rows: pa.Table) -> Outcome:
        """Map a slice."""
        import torch

        start_s = time.monotonic()
        with torch.inference_mode():
            cues = self.mapper(torch.from_numpy(to_array(rows["vector"])).to(self.device)).cpu().numpy()
        made = {"clip_id": rows["clip_id"].to_pylist(), "vector": cues, "method": "mapper"}
        return Outcome(_cue_rows(made, self.seed, self.pinned, time.monotonic() - start_s))


class TextWorker:
    """The clip's label stands in the prompt: the plain diffusion model, to compare with. Its cues have no rows."""

    def __init__(self, config: Config, pinned: tuple[str, str]) -> None:
        self.pinned, self.seed = pinned, config.seed

    def __call__(self, rows: pa.Table) -> Outcome:
        """Map a slice."""
        named = [row for row in rows.to_pylist() if row["label"]]
        error = BadItem("it has no label, which the method `text` needs: give one in the metadata")
        rejects = [Reject.of(row["clip_id"], error, row["uri"]) for row in rows.to_pylist() if not row["label"]]
        cues = np.empty((len(named), 0, 0), np.float32)
        made = {"clip_id": [row["clip_id"] for row in named], "vector": cues, "method": "text"}
        return Outcome(_cue_rows(made, self.seed, self.pinned, 0.0), rejects)


_MAKERS: dict[str, Callable[..., Worker]] = {"mapper": MapperWorker, "text": TextWorker}


def _cue_rows(made: dict, seed: int, pinned: tuple[str, str], took_s: float) -> pa.Table:
    """Rows of the table `cues`; what `made` does not say is said of a cue that took no step."""
    cues, ids = made["vector"], made["clip_id"]
    num = len(ids)
    columns = constants(num, loss_before=None, loss_after=None, loss_curve=None, steps=0, stop_reason=None)
    columns |= constants(num, num_tokens=cues.shape[1], dim=cues.shape[2], took_s=took_s / max(num, 1), image_ids=[])
    columns |= constants(num, base_model=pinned[0], base_revision=pinned[1], method=made["method"])
    columns["seed"] = [seed_of(seed, "fit", clip_id, "cue") for clip_id in ids]
    columns |= {"clip_id": ids}
    schema = SCHEMAS["cues"].columns
    arrays = [pa.array(columns[c.name], c.type) if c.name != "vector" else None for c in schema]
    flat = to_lists(cues.reshape(num, -1))
    return pa.table([flat if each is None else each for each in arrays], schema=schema)
