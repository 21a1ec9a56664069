"""Combinations of job, prompt, cues and source, of which each becomes a picture per seed."""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from aai.errors import BadItem
from aai.jobs.job import Job, fields_of, fill
from aai.jobs.selection import CueFilter
from aai.models.prompt_lengths import PromptLengths
from tasks.choice import choice_of
from tasks.runtime.photos import Photo, find_photos
from tasks.runtime.run import Run

COMBINATIONS_AT_ONCE = 10_000
"""Rows of a table of combinations in memory."""

BLOCK = pa.schema(
    [
        ("block", pa.int64()),
        ("job", pa.string()),
        ("job_file", pa.string()),
        ("mode", pa.string()),
        ("edit", pa.string()),  # options as JSON; this and the next four: null without a source
        ("image_id", pa.string()),
        ("image_uri", pa.string()),
        ("mask_id", pa.string()),
        ("mask_uri", pa.string()),
        ("negative_prompt", pa.string()),
        ("options", pa.string()),  # as JSON
        ("candidates", pa.int32()),
        ("chosen_by", pa.string()),  # this and the next: null for a single candidate
        ("chosen_by_model", pa.string()),
    ]
)
"""What the combinations of a job and a source have in common."""

COMBINATION = pa.schema(
    [
        ("clip_ids", pa.list_(pa.string())),  # of the cues that the prompt names, in order; of a blend both ends
        ("labels", pa.list_(pa.string())),
        ("licences", pa.list_(pa.string())),
        ("uri", pa.string()),  # the first clip's file
        ("blend", pa.float64()),  # position between both ends, 0 to 1; null without a blend
        ("prompt", pa.string()),
        ("source_prompt", pa.string()),  # null without a source
        ("fault", pa.string()),  # why it cannot be rendered
        ("address", pa.string()),  # all that its pictures depend on but the seed, as JSON
    ]
)
"""What a combination has of its own."""

PLAIN = {
    "mode": "generate",
    "blend": None,
    "source_prompt": None,
    "edit": None,
    "image_id": None,
    "mask_id": None,
    "candidates": 1,
    "chosen_by": None,
    "chosen_by_model": None,
}
"""What most pictures have in common; it is no part of their ids."""


@dataclass(frozen=True)
class Block:
    """A job with some of its prompts and one of its sources."""

    job: Job
    prompts: tuple[str, ...]
    source: dict[str, Any]
    choice: dict[str, Any]

    def shared(self) -> dict[str, Any]:
        """What its combinations have in common."""
        job = self.job
        row = {"job": job.name, "job_file": job.file, "mode": job.mode, "options": options_of(job)}
        return PLAIN | row | {"negative_prompt": job.negative_prompt} | self.source | self.choice


class Combinations:
    """The combinations that jobs ask for, in the order in which they are rendered.

    Args:
        selected: the cues that each filter of the jobs selects, with columns of their clips.

    Raises:
        BadConfig: no measure can choose among the candidates of a job.
    """

    def __init__(self, run: Run, jobs: Sequence[Job], selected: Mapping[CueFilter, pa.Table]) -> None:
        self._run, self._jobs, self._selected = run, jobs, selected
        self._photos: dict[tuple[tuple[str, ...], ...], list[Photo]] = {}
        self._choices = {(job.candidates, job.chosen_by): choice_of(run, job) for job in jobs}
        self._too_long = _TooLong(run)

    def blocks(self) -> Iterator[Block]:
        """Jobs with all prompts if they have sources, else once per prompt.

        Raises:
            BadConfig: a job's photos or masks do not exist, or it is unclear which they are.
            Transient: the store failed.
        """
        parts = [(job, some) for job in self._jobs for some in ([job.prompts] if job.has_source else zip(job.prompts))]
        key = lambda part: (options_of(part[0]), edit_of(part[0]), part[0].negative_prompt, part[1])  # noqa: E731
        for job, prompts in sorted(parts, key=key):
            for source in self._sources_of(job):
                yield Block(job, prompts, source, self._choices[job.candidates, job.chosen_by])

    def num_of(self, block: Block) -> int:
        """The number of combinations of a block."""
        num_positions = len(block.job.blend.positions) if block.job.blend else 1
        return sum(self._num_groups(block.job, prompt) for prompt in block.prompts) * num_positions

    def of(self, block: Block) -> Iterator[pa.Table]:
        """The combinations of a block, one for each cue or group of cues and each position of a blend, in chunks."""
        for prompt in block.prompts:
            for tables in self._groups(block.job, prompt):
                yield self._combined(block, prompt, tables)

    def _combined(self, block: Block, prompt: str, tables: Sequence[pa.Table]) -> pa.Table:
        job = block.job
        positions = job.blend.positions if job.blend else (None,)
        num = tables[0].num_rows if tables else 1
        columns = _of_clips(tables, len(positions)) | {"blend": pa.array([*positions] * num, pa.float64())}
        if fields_of(prompt) or fields_of(job.source_prompt):
            filled = [self._filled(job, prompt, clip, block.source.get("fault")) for clip in tables[0].to_pylist()]
            texts = {name: [row[name] for row in filled for _ in positions] for name in _TEXTS}
        else:
            fault = block.source.get("fault") or self._too_long.fault_of(job, prompt, job.source_prompt)
            values = (prompt, job.source_prompt, fault)
            texts = {name: [value] * num * len(positions) for name, value in zip(_TEXTS, values, strict=True)}
        columns |= {name: pa.array(column, pa.string()) for name, column in texts.items()}
        columns["address"] = self._addresses(block, tables, columns)
        return pa.table([columns[name] for name in COMBINATION.names], schema=COMBINATION)

    def _addresses(self, block: Block, tables: Sequence[pa.Table], columns: Mapping[str, pa.Array]) -> pa.Array:
        """All that the pictures of each combination depend on but the seed, as JSON."""
        start = json.dumps([self._run.recipe("cues"), self._run.recipes["renders"].models["diffusion"]])[:-1]
        num_positions = len(columns["blend"]) // (tables[0].num_rows if tables else 1)
        ids = [_repeated(table["clip_id"], num_positions) for table in tables]
        joined = pc.binary_join_element_wise(*ids, '", "') if ids else ""
        prompts = _mapped(json.dumps, columns["prompt"])
        shared = block.shared()

        def end_of(end: tuple[float | None, str | None]) -> str:
            row = shared | dict(zip(("blend", "source_prompt"), end, strict=True))
            special = {name: row[name] for name, plain in PLAIN.items() if row[name] != plain}
            return json.dumps([row["negative_prompt"], row["options"], *([special] if special else [])])[1:]

        ends = _mapped(end_of, zip(*(columns[name].to_pylist() for name in ("blend", "source_prompt")), strict=True))
        return pc.binary_join_element_wise(f'{start}, ["', joined, '"], ', prompts, ", ", ends, "")

    def _filled(self, job: Job, prompt: str, clip: dict[str, Any], fault: str | None) -> dict[str, Any]:
        """The prompts with the clip's metadata, and why they cannot be rendered."""
        filled = _filled_prompts(prompt, job.source_prompt, clip, fault)
        found = filled["fault"] or self._too_long.fault_of(job, filled["prompt"], filled["source_prompt"])
        return filled | {"fault": found}

    def _groups(self, job: Job, prompt: str) -> Iterator[list[pa.Table]]:
        """The cues that come together in a prompt, in chunks: a table of each filter; shorter selections repeat."""
        tables = [self._selected[cue_filter] for cue_filter in job.filters_of(prompt).values()]
        if not tables:
            yield []
            return
        num = self._num_groups(job, prompt)
        for first in range(0, num, COMBINATIONS_AT_ONCE):
            indices = np.arange(first, min(first + COMBINATIONS_AT_ONCE, num))
            yield [table.take(pa.array(indices % table.num_rows)) for table in tables]

    def _num_groups(self, job: Job, prompt: str) -> int:
        counts = [self._selected[cue_filter].num_rows for cue_filter in job.filters_of(prompt).values()]
        if not counts:
            return 1
        return min(max(counts), job.limit or max(counts)) if all(counts) else 0

    def _sources_of(self, job: Job) -> Iterable[dict[str, Any]]:
        """Columns of each source of a job; without a source one that has none."""
        if not job.has_source:
            return ({},)
        edit = {"edit": edit_of(job)}
        if not job.photos:
            return (edit,)
        locations = job.source_images, job.source_masks
        if locations not in self._photos:
            self._photos[locations] = find_photos(job)
        return (edit | vars(photo) for photo in self._photos[locations])


_TEXTS = ("prompt", "source_prompt", "fault")


def _of_clips(tables: Sequence[pa.Table], num_positions: int) -> dict[str, pa.Array]:
    """The columns about the cues of each combination, for each position of a blend."""
    columns = {"clip_ids": "clip_id", "labels": "label", "licences": "licence"}
    if not tables:
        return {name: pa.array([[]], pa.list_(pa.string())) for name in columns} | {"uri": pa.nulls(1, pa.string())}
    num, width = tables[0].num_rows, len(tables)
    offsets = np.arange(0, num * num_positions * width + 1, width, dtype=np.int32)
    indices = (np.repeat(np.arange(num), num_positions)[:, None] + np.arange(width) * num).ravel()
    every = pa.concat_tables([table.select(columns.values()) for table in tables]).take(indices).combine_chunks()
    lists = {
        name: pa.ListArray.from_arrays(offsets, every[column].combine_chunks()) for name, column in columns.items()
    }
    return lists | {"uri": _repeated(tables[0]["uri"], num_positions)}


def _repeated(column: pa.ChunkedArray, times: int) -> pa.Array:
    """Each value of a column so many times."""
    return column.take(np.repeat(np.arange(len(column)), times)).combine_chunks()


def _mapped(function: Callable[[Any], str], values: Iterable[Any]) -> pa.Array:
    """The results of a function, called once for each different value."""
    listed = values.to_pylist() if isinstance(values, pa.Array) else list(values)
    results = {value: function(value) for value in set(listed)}
    return pa.array([results[value] for value in listed], pa.string())


def edit_of(job: Job) -> str:
    """The options of edits as one text; empty without a source."""
    return job.edit.text(bool(job.photos)) if job.has_source else ""


def options_of(job: Job) -> str:
    """The options that a picture depends on, as one text."""
    excluded = {"quality"} if job.options.format == "png" else set()
    if job.options.guidance_interval is None or job.options.guidance <= 1:  # it changes nothing; older ids stay
        excluded |= {"guidance_interval"}
    if job.photos:  # they have their own size, and are always sampled with DDIM
        excluded |= {"width", "height", "scheduler"}
    return json.dumps(job.options.model_dump(exclude=excluded), sort_keys=True)


def _filled_prompts(prompt: str, source_prompt: str | None, clip: dict[str, Any], fault: str | None) -> dict[str, Any]:
    """The prompts with the clip's metadata, or why they cannot be filled."""
    values = json.loads(clip.get("attributes") or "{}") | clip
    texts = {"prompt": prompt, "source_prompt": source_prompt}
    try:
        return {name: text and fill(text, values) for name, text in texts.items()} | {"fault": fault}
    except BadItem as error:
        return texts | {"fault": fault or error.sentence}


class _TooLong:
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
