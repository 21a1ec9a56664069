"""A workspace with cues, as a build would have left it but in no time: the clips are names, the cues are noise."""

import numpy as np
import pyarrow as pa

from aai.identity import content_id
from aai.jobs.jobfile import make_jobs
from aai.workspace import SCHEMAS
from tasks.runtime.config import make_config
from tasks.runtime.run import Run, open_run

DIM = 128  # of the shipped text encoder's token embeddings
LABELS = ["rain", "fire", "rain", "snow", None]
CLIPS = [content_id(b"%d" % number) for number in range(len(LABELS))]
QUICK = {"prompt": "a photo of *", "steps": 2}
GENERATED = b"http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"


def run_on(bank, **keys) -> Run:
    keys = {"fit": {"method": "mapper"}, "pool": {"num_workers": 0}, "render": {"guidance": 1}} | keys
    return open_run(make_config(workspace=str(bank), **keys))


def add_cues(run: Run, num_tokens=2, dim=DIM, **said) -> Run:
    """Clips, of which more may be said, and cues as a build would have left them; the cues are noise."""
    noise = np.random.default_rng(0).normal(0, 0.02, (len(CLIPS), num_tokens * dim)).astype(np.float32)
    for name, own in (
        (
            "clips",
            {
                "label": LABELS,
                "licence": ["CC0"] * 5,
                "attributes": ["{}"] * 5,
                "duration_s": [1.0, 2.0, 3.0, 4.0, 5.0],
            }
            | said,
        ),
        (
            "cues",
            {"vector": noise.tolist(), "num_tokens": [num_tokens] * 5, "dim": [dim] * 5, "method": ["mapper"] * 5},
        ),
    ):
        columns = SCHEMAS[name].columns
        blank = {c.name: pa.repeat(pa.scalar([] if pa.types.is_list(c.type) else "1").cast(c.type), 5) for c in columns}
        rows = {**blank, **own, "clip_id": CLIPS}
        run.workspace.table(name).append(run.recipe(name), pa.table(rows, schema=columns))
    return run


def jobs_of(run: Run, *jobs):
    return make_jobs([QUICK | job for job in jobs], run.config.render)


def rows_of(run: Run) -> list[dict]:
    return run.workspace.table("renders").read(recipe=run.recipe("renders")).sort_by("render_id").to_pylist()
