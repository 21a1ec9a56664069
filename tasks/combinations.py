"""Combinations of job, prompt, cues and source, of which each becomes a picture per seed: their columns."""

import json
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from hashlib import blake2b
from typing import Any

import pyarrow as pa

from aai.errors import BadItem
from aai.jobs.job import Job, fill
from aai.models.prompt_lengths import PromptLengths
from tasks.runtime.run import Run

COMBINATION = pa.schema(
    [
        ("combination", pa.int64()),
        ("job", pa.string()),
        ("job_file", pa.string()),
        ("mode", pa.string()),
        ("clip_ids", pa.list_(pa.string())),  # of the cues that the prompt names, in order; of a blend both ends
        ("labels", pa.list_(pa.string())),
        ("licences", pa.list_(pa.string())),
        ("uri", pa.string()),  # the first clip's file
        ("blend", pa.float64()),  # position between both ends, 0 to 1; null without a blend
        ("source_prompt", pa.string()),  # this and the next five: null without a source
        ("edit", pa.string()),  # options as JSON
        ("image_id", pa.string()),
        ("image_uri", pa.string()),
        ("mask_id", pa.string()),
        ("mask_uri", pa.string()),
        ("prompt", pa.string()),
        ("fault", pa.string()),  # why it cannot be rendered
        ("negative_prompt", pa.string()),
        ("options", pa.string()),  # as JSON
    ]
)
"""A row has these columns, `render_id`, `seed`, and of its cues `num_tokens`, `dim`, `method` and `vectors`."""

PICTURE = pa.schema(
    [("render_id", pa.string()), ("seed", pa.int64()), ("combination", pa.int64()), ("number", pa.int64())]
)
"""A picture: its id, its seed, its combination, and its position among all."""

_PICTURES_AT_ONCE = 100_000
_ID_BYTES = 16

PLAIN = {"mode": "generate", "blend": None, "source_prompt": None, "edit": None, "image_id": None, "mask_id": None}
"""What most pictures have in common; it is no part of their ids."""


def of_clips(tables: Sequence[pa.Table], num_positions: int) -> dict[str, Any]:
    """The columns about the cues of each combination, for each position of a blend."""
    if not tables:
        return {"clip_ids": [[]], "labels": [[]], "licences": [[]], "uri": [None]}
    num = tables[0].num_rows
    once = {
        column: list(zip(*(table[name].to_pylist() for table in tables), strict=True))
        for column, name in (("clip_ids", "clip_id"), ("labels", "label"), ("licences", "licence"))
    }
    once["uri"] = tables[0]["uri"].to_pylist()
    if num_positions == 1:
        return once
    return {
        name: [values[index] for index in range(num) for _ in range(num_positions)] for name, values in once.items()
    }


def in_order(jobs: Sequence[Job]) -> list[tuple[Job, tuple[str, ...]]]:
    """Jobs in the order in which they are rendered: with all prompts if they have sources, else once per prompt."""
    parts = [(job, prompts) for job in jobs for prompts in ([job.prompts] if job.has_source else zip(job.prompts))]
    return sorted(parts, key=lambda part: (options_of(part[0]), edit_of(part[0]), part[0].negative_prompt, part[1]))


def edit_of(job: Job) -> str:
    """The options of edits as one text; empty without a source."""
    return json.dumps(job.edit.model_dump(), sort_keys=True) if job.has_source else ""


def options_of(job: Job) -> str:
    """The options that a picture depends on, as one text."""
    excluded = {"quality"} if job.options.format == "png" else set()
    if job.photos:  # they have their own size, and are always sampled with DDIM
        excluded |= {"width", "height", "scheduler"}
    return json.dumps(job.options.model_dump(exclude=excluded), sort_keys=True)


def filled_prompts(prompt: str, source_prompt: str | None, clip: dict[str, Any], fault: str | None) -> dict[str, Any]:
    """The prompts with the clip's metadata, or why they cannot be filled."""
    values = json.loads(clip.get("attributes") or "{}") | clip
    texts = {"prompt": prompt} | ({} if source_prompt is None else {"source_prompt": source_prompt})
    try:
        return {name: fill(text, values) for name, text in texts.items()} | {"fault": fault}
    except BadItem as error:
        return texts | {"fault": fault or error.sentence}


def pictures_of(combinations: pa.Table, seeds: Mapping[int, Sequence[int]]) -> Iterator[pa.Table]:
    """The pictures of some combinations with the lists of seeds that they name, in chunks."""
    texts = {number: [b"%d" % seed for seed in some] for number, some in seeds.items()}
    names = ("address", "seeds", "combination", "first", "step")
    columns: list[list[Any]] = [[], [], [], []]
    for text, own, combination, first, step in zip(*(combinations[name].to_pylist() for name in names), strict=True):
        address = text.encode()
        for start in range(0, len(texts[own]), _PICTURES_AT_ONCE):
            some = texts[own][start : start + _PICTURES_AT_ONCE]
            columns[0] += [blake2b(address + seed, digest_size=_ID_BYTES).hexdigest() for seed in some]
            columns[1] += seeds[own][start : start + len(some)]
            columns[2] += [combination] * len(some)
            columns[3] += range(first + start * step, first + (start + len(some)) * step, step)
            if len(columns[0]) >= _PICTURES_AT_ONCE:
                yield pa.table(columns, schema=PICTURE)
                columns = [[], [], [], []]
    if columns[0]:
        yield pa.table(columns, schema=PICTURE)


class TooLong:
    """Finds texts that are longer than the context of the text encoder."""

    def __init__(self, run: Run) -> None:
        self._run = run

    def fault_of(self, job: Job, prompt: str, source_prompt: str | None) -> str | None:
        """Why a text of a picture is too long; none if all fit."""
        texts = [prompt, source_prompt or "", job.negative_prompt if job.options.guidance > 1 else ""]
        faults = (self._lengths.fault_of(text, self._num_tokens) for text in texts)
        return next(filter(None, faults), None)

    @cached_property
    def _lengths(self) -> PromptLengths:
        model = self._run.config.models.diffusion
        return PromptLengths(model.name, model.revision)

    @cached_property
    def _num_tokens(self) -> int:
        """The token vectors of a cue: the fewest, so that a prompt with a fault has it for every cue."""
        with self._run.query() as query:
            return query.number("SELECT coalesce(min(num_tokens), 0) FROM cues")
