"""What jobs ask for, picture by picture: the items of the stage `render`.

Jobs of millions of pictures are never a list in memory: only ids are, which cues each filter lets through, and which
photos there are. Pictures come in the order in which they are best rendered: those with the same options beside one
another, then those with the same prompt; all that is made from one source comes together.
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from itertools import islice
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from aai.errors import BadItem
from aai.identity import content_id
from aai.jobs.job import Job, fill
from aai.jobs.selection import CueFilter, choose
from tasks.runtime.photos import Photo, find_photos
from tasks.runtime.run import Run
from tasks.runtime.tables import described_cues, look_up, with_columns

_ROWS_AT_ONCE = 8_192
"""Pictures whose rows are in memory together: 50 MB of cues of 2 x 768 numbers."""

_IDS_AT_ONCE = 100_000
_CUES_AT_ONCE = 10_000
_KNOWN = ("clip_id", "label", "caption", "attributes")

ROWS = pa.schema(
    [
        pa.field("render_id", pa.string()),
        pa.field("job", pa.string()),
        pa.field("mode", pa.string()),
        pa.field("clip_ids", pa.list_(pa.string())),  # whose cues the prompt names, in order; of a blend both ends
        pa.field("labels", pa.list_(pa.string())),
        pa.field("blend", pa.float64()),  # how far from one end to the other; none without a blend
        pa.field("source_prompt", pa.string()),  # this and what follows to `mask_uri`: none without a source
        pa.field("edit", pa.string()),  # its options as JSON
        pa.field("image_id", pa.string()),
        pa.field("image_uri", pa.string()),
        pa.field("mask_id", pa.string()),
        pa.field("mask_uri", pa.string()),
        pa.field("prompt", pa.string()),
        pa.field("fault", pa.string()),  # why it cannot be rendered, if so
        pa.field("negative_prompt", pa.string()),
        pa.field("seed", pa.int64()),
        pa.field("options", pa.string()),  # as JSON
    ]
)
"""What a picture's row holds, before columns of its cues and its clips come to it."""

_PLAIN = {"mode": "generate", "blend": None, "source_prompt": None, "edit": None, "image_id": None, "mask_id": None}
"""What is said of most pictures, and not in their addresses, so that these stay as they are."""

_OF_FIRST_CUE = ("num_tokens", "dim", "method")  # the same for all cues of a recipe


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
        cues = described_cues(run.workspace, self._cue_recipe, self._clip_recipe)
        self._jobs = jobs
        self._photos: dict[tuple[tuple[str, ...], ...], list[Photo]] = {}
        self._chosen: dict[CueFilter, pa.Table] = {}
        for job, key, wanted in self._filters():
            if wanted not in self._chosen:
                self._chosen[wanted] = choose(cues, wanted, job.place, key).select(_KNOWN)

    def without_cues(self) -> list[str]:
        """A sentence for each filter of a job that lets no cue through: nothing is rendered where it is needed."""
        empty = {(job.place, key) for job, key, wanted in self._filters() if not self._chosen[wanted].num_rows}
        said = {"cues": "no cue passes its filter"}
        return [f"{place}: {said.get(key, f'no cue passes the filter of {key}')}" for place, key in sorted(empty)]

    def _filters(self) -> Iterator[tuple[Job, str, CueFilter]]:
        """Each choice of cues, with the key that says it."""
        for job in self._jobs:
            for prompt in job.prompts:
                for key, wanted in job.filters_of(prompt).items():
                    yield job, key, wanted

    def ids(self) -> pa.ChunkedArray:
        """The ids of all pictures, each once; the photos of jobs are read for them.

        Raises:
            BadConfig: a job's photos or masks are not there, or it is unclear which they are.
            Transient: the store failed.
        """
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

    def _wanted(self) -> Iterator[tuple[str, int, dict[str, Any]]]:
        """Of each picture its id, its seed, and the rest of its row; those that share much follow one another."""
        for job, prompts in _in_order(self._jobs):
            seeds = job.seeds_under(self._run_seed)
            for source in self._sources_of(job):
                # From one source, which has a seed, all is made at a time; elsewhere a prompt is read for all seeds.
                for some in ([seed] for seed in seeds) if job.has_source else (seeds,):
                    for row in self._rows_of(job, prompts, source):
                        address = self._address(row)
                        for seed in some:
                            yield content_id(b"%s%d" % (address, seed)), seed, row

    def _rows_of(self, job: Job, prompts: Sequence[str], source: dict[str, Any]) -> Iterator[dict[str, Any]]:
        """Rows, but for their ids and seeds, of all that is made under some prompts and from one source, if any."""
        said = {"job": job.name, "mode": job.mode, "negative_prompt": job.negative_prompt, "options": _options_of(job)}
        shared = _PLAIN | said | source
        for prompt in prompts:
            for clips in self._together(job, prompt):
                filled = shared | _filled(prompt, job.source_prompt, clips[0]) | _of_all(clips)
                fault = source.get("fault") or filled["fault"]
                for at in job.blend.positions if job.blend else (None,):
                    yield filled | {"blend": at, "fault": fault}

    def _sources_of(self, job: Job) -> Iterable[dict[str, Any]]:
        """What is said of each photo that a job's pictures are made from, or of them all if from none."""
        if not job.has_source:
            return ({},)
        edit = {"edit": _edit_of(job)}
        if not job.photos:
            return (edit,)
        places = job.source_images, job.source_masks
        if places not in self._photos:
            self._photos[places] = find_photos(job)
        return (edit | vars(photo) for photo in self._photos[places])

    def _together(self, job: Job, prompt: str) -> Iterator[tuple[dict[str, Any], ...]]:
        """What is known of the cues that come together in a prompt: one of each filter, in turn."""
        filters = [self._chosen[wanted] for wanted in job.filters_of(prompt).values()]
        counts = [each.num_rows for each in filters]
        num = min(max(counts), job.limit or max(counts)) if all(counts) else 0
        for first in range(0, num, _CUES_AT_ONCE):
            places = range(first, min(first + _CUES_AT_ONCE, num))
            yield from zip(*(_in_turn(each, places) for each in filters), strict=True)

    def _address(self, row: dict[str, Any]) -> bytes:
        """All that a picture depends on but its seed, and nothing else."""
        asked = [row["clip_ids"], row["prompt"], row["negative_prompt"], row["options"]]
        special = {name: row[name] for name, plain in _PLAIN.items() if row[name] != plain}
        return json.dumps([self._cue_recipe, self._model, *asked, *([special] if special else [])]).encode()

    def _with_cues(self, rows: pa.Table) -> pa.Table:
        """Rows with the cues of all their clips and the licences of these, and what else is the same for all."""
        rows = rows.combine_chunks()
        rows = rows.append_column("clip_id", pc.list_element(rows["clip_ids"], 0))
        ids = rows["clip_ids"].combine_chunks().flatten().unique().to_pylist()
        cues = look_up(self._workspace, "cues", self._cue_recipe, ids, ["vector", *_OF_FIRST_CUE])
        clips = look_up(self._workspace, "clips", self._clip_recipe, ids, ["uri", "licence"])
        for name, theirs, of_each in (("vectors", cues, "vector"), ("licences", clips, "licence")):
            rows = rows.append_column(name, _of_each(rows["clip_ids"], theirs, of_each))
        rows = with_columns(rows, "clip_id", cues.select(["clip_id", *_OF_FIRST_CUE]))
        return with_columns(rows, "clip_id", clips.select(["clip_id", "uri"]))


def _in_turn(cues: pa.Table, places: range) -> list[dict[str, Any]]:
    """The cues at some places, were they over and over."""
    return cues.take(pa.array([place % cues.num_rows for place in places])).to_pylist()


def _of_all(clips: Sequence[dict[str, Any]]) -> dict[str, Any]:
    return {"clip_ids": [clip["clip_id"] for clip in clips], "labels": [clip["label"] for clip in clips]}


def _of_each(clip_ids: pa.ChunkedArray, theirs: pa.Table, name: str) -> pa.ListArray:
    """For lists of clips, lists of what a column says of these."""
    lists = clip_ids.combine_chunks()
    places = pc.index_in(lists.flatten(), value_set=theirs["clip_id"])
    return pa.ListArray.from_arrays(lists.offsets, theirs[name].take(places).combine_chunks())


def _in_order(jobs: Sequence[Job]) -> list[tuple[Job, tuple[str, ...]]]:
    """Jobs in the order in which they are rendered, with all of their prompts if they have sources, else with each."""
    parts = [(job, some) for job in jobs for some in ([job.prompts] if job.has_source else zip(job.prompts))]
    return sorted(parts, key=lambda part: (_options_of(part[0]), _edit_of(part[0]), part[0].negative_prompt, part[1]))


def _edit_of(job: Job) -> str:
    """How pictures take after their sources, as one text; empty if they have none."""
    return json.dumps(job.edit.model_dump(), sort_keys=True) if job.has_source else ""


def _options_of(job: Job) -> str:
    """The options that a picture depends on, as one text."""
    unchanging = {"batch_size"} | ({"quality"} if job.options.format == "png" else set())
    if job.photos:  # which have their own size and sampler
        unchanging |= {"width", "height", "scheduler"}
    return json.dumps(job.options.model_dump(exclude=unchanging), sort_keys=True)


def _filled(prompt: str, source_prompt: str | None, clip: dict[str, Any]) -> dict[str, Any]:
    """The prompts as they are for a clip, or why they cannot be."""
    found: dict[str, Any] = {"prompt": prompt, "source_prompt": source_prompt, "fault": None}
    if clip["attributes"] and "{" in prompt + (source_prompt or ""):
        clip = json.loads(clip["attributes"]) | clip
    try:
        return found | {key: fill(found[key], clip) for key in ("prompt", "source_prompt") if found[key] is not None}
    except BadItem as error:
        return found | {"fault": str(error)}
