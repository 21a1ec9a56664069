"""What jobs ask for, picture by picture: the items of the stage `render`.

Jobs of millions of pictures are never a list in memory: only ids are, and which cues each filter lets through. Pictures
come in the order in which they are best rendered: those with the same options beside one another, then those with the
same prompt.
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from itertools import islice
from typing import Any

import pyarrow as pa

from aai.errors import BadConfig, BadItem
from aai.identity import content_id
from aai.jobs import CueFilter, Job, choose, fill
from tasks.run import Run
from tasks.sources import look_up, with_columns

_ROWS_AT_ONCE = 8_192
"""Pictures whose rows are in memory together: 50 MB of cues of 2 x 768 numbers."""

_IDS_AT_ONCE = 100_000
_CUES_AT_ONCE = 10_000
_KNOWN = ("clip_id", "label", "caption", "attributes")
_LONG = ("vector", "loss_curve", "image_ids")

ROWS = pa.schema(
    [
        pa.field("render_id", pa.string()),
        pa.field("job", pa.string()),
        pa.field("clip_id", pa.string()),
        pa.field("label", pa.string()),
        pa.field("prompt", pa.string()),
        pa.field("fault", pa.string()),  # why it cannot be rendered, if so
        pa.field("negative_prompt", pa.string()),
        pa.field("seed", pa.int64()),
        pa.field("options", pa.string()),  # as JSON
    ]
)
"""What a picture's row holds, before columns of its cue and its clip come to it."""

_OF_CUE, _OF_CLIP = ("vector", "num_tokens", "dim", "method"), ("uri", "licence")


class JobSource:
    """The pictures that some jobs ask for under a run's configuration.

    Raises:
        BadConfig: there are no cues, or a filter's condition cannot be used.
        Transient: the store failed.
    """

    def __init__(self, run: Run, jobs: Sequence[Job]) -> None:
        self._workspace, self._run_seed = run.workspace, run.config.seed
        self._cue_recipe, self._clip_recipe = run.recipe("cues"), run.recipe("clips")
        self._model = run.model_pin("diffusion")
        cues = self._described_cues()
        if not cues.num_rows:
            raise BadConfig(
                f"workspace: {run.workspace.uri} has no cues of this configuration: run `aai build` with it first"
            )
        self._chosen: dict[CueFilter, pa.Table] = {}
        for job in jobs:
            if job.cues not in self._chosen:
                self._chosen[job.cues] = choose(cues, job.cues, job.place).select(_KNOWN)
        self._jobs = jobs

    def without_cues(self) -> list[Job]:
        """The jobs whose filters let no cue through."""
        return [job for job in self._jobs if not self._chosen[job.cues].num_rows]

    def ids(self) -> pa.ChunkedArray:
        """The ids of all pictures, each once."""
        return self._ids

    @cached_property
    def _ids(self) -> pa.ChunkedArray:
        ids = (render_id for render_id, _, _ in self._wanted())
        chunks = iter(lambda: pa.array(islice(ids, _IDS_AT_ONCE), pa.string()), pa.array([], pa.string()))
        return pa.chunked_array([pa.chunked_array(chunks, pa.string()).unique()])

    def rows(self, ids: pa.ChunkedArray) -> Iterable[pa.Table]:
        """The rows of some of them, which come in the order of all."""
        wanted = self._wanted()
        pending = (each.as_py() for chunk in ids.chunks for each in chunk)
        # Both are in one order, so for each id that is pending, one only has to go on until it comes.
        found = (next(one for one in wanted if one[0] == each) for each in pending)
        while some := [row | {"render_id": each, "seed": seed} for each, seed, row in islice(found, _ROWS_AT_ONCE)]:
            yield self._with_cues(pa.Table.from_pylist(some, schema=ROWS))

    def _described_cues(self) -> pa.Table:
        """What is known of each cue and its clip, in the order of ids."""
        tables = self._workspace.table("cues"), self._workspace.table("clips")
        names = [[name for name in each.schema.columns.names if name not in _LONG] for each in tables]
        cues = tables[0].read(names[0], self._cue_recipe).sort_by("clip_id")
        return with_columns(cues, "clip_id", tables[1].read(names[1], self._clip_recipe))

    def _wanted(self) -> Iterator[tuple[str, int, dict[str, Any]]]:
        """Of each picture its id, its seed, and the rest of its row."""
        prompts = [(_options_of(job), job.negative_prompt, prompt, job) for job in self._jobs for prompt in job.prompts]
        prompts.sort(key=lambda each: each[:3])
        for options, negative, prompt, job in prompts:
            shared = {"job": job.name, "negative_prompt": negative, "options": options}
            seeds = job.seeds_under(self._run_seed)
            for batch in self._chosen[job.cues].slice(0, job.limit).to_batches(_CUES_AT_ONCE):
                for clip in batch.to_pylist():
                    row = shared | _filled(prompt, clip) | {"clip_id": clip["clip_id"], "label": clip["label"]}
                    address = self._address(row)
                    for seed in seeds:
                        yield content_id(b"%s%d" % (address, seed)), seed, row

    def _address(self, row: dict[str, Any]) -> bytes:
        """All that a picture depends on but its seed, and nothing else."""
        asked = [row["prompt"], row["negative_prompt"], row["options"]]
        return json.dumps([self._cue_recipe, self._model, [row["clip_id"]], *asked]).encode()

    def _with_cues(self, rows: pa.Table) -> pa.Table:
        clip_ids = rows["clip_id"].unique().to_pylist()
        rows = with_columns(rows, "clip_id", look_up(self._workspace, "cues", self._cue_recipe, clip_ids, _OF_CUE))
        return with_columns(rows, "clip_id", look_up(self._workspace, "clips", self._clip_recipe, clip_ids, _OF_CLIP))


def _options_of(job: Job) -> str:
    """The options that a picture depends on, as one text."""
    unchanging = {"batch_size"} | ({"quality"} if job.options.format == "png" else set())
    return json.dumps(job.options.model_dump(exclude=unchanging), sort_keys=True)


def _filled(prompt: str, clip: dict[str, Any]) -> dict[str, Any]:
    if "{" in prompt and clip["attributes"]:
        clip = json.loads(clip["attributes"]) | clip
    try:
        return {"prompt": fill(prompt, clip), "fault": None}
    except BadItem as error:
        return {"prompt": prompt, "fault": str(error)}
