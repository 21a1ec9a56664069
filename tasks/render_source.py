"""The pictures that jobs ask for, as the items of the stage `render`.

Jobs are expanded once. Two tables on disk hold the result: combinations of job, prompt, cues and source, and for each
picture its id, its seed and its combination. Pictures come in the order in which they are best rendered: those with the
same options beside one another, then those with the same prompt; all pictures from one source come together.
"""

import json
import weakref
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from hashlib import blake2b
from typing import Any

import numpy as np
import pyarrow as pa

from aai.errors import BadConfig, BadItem
from aai.jobs.job import Job, fields_of, fill
from aai.jobs.selection import CueFilter, select_cues
from aai.workspace import Query
from tasks.runtime.photos import Photo, find_photos
from tasks.runtime.run import Run
from tasks.runtime.stage import Pending

_COMBINATIONS_AT_ONCE = 10_000
_PICTURES_AT_ONCE = 100_000
_BATCH_ROWS = 4_000
"""Rows in memory at a time: 25 MB of cues of 2 x 768 numbers, 66 MB of SDXL's."""

_ID_BYTES = 16

_COMBINATION = pa.schema(
    [
        ("combination", pa.int64()),
        ("job", pa.string()),
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

_WITHOUT_NUMBER = pa.schema(list(_COMBINATION)[1:])

_PICTURE = pa.schema(
    [("render_id", pa.string()), ("seed", pa.int64()), ("combination", pa.int64()), ("number", pa.int64())]
)

_PLAIN = {"mode": "generate", "blend": None, "source_prompt": None, "edit": None, "image_id": None, "mask_id": None}
"""What most pictures have in common; it is no part of their ids."""

_CUE_COLUMNS = ("clip_id", "label", "licence", "uri")

_PENDING = """
    SELECT render_id, arg_min(seed, number) AS seed, arg_min(combination, number) AS combination, min(number) AS number
    FROM pictures p ANTI JOIN renders r ON p.render_id = r.render_id {rejected} GROUP BY p.render_id
"""

_FAULTS = """
    SELECT fault, count(DISTINCT render_id) AS num FROM pictures
    JOIN (SELECT combination, fault FROM combinations WHERE fault IS NOT NULL) USING (combination)
    GROUP BY fault ORDER BY num DESC, fault LIMIT 3
"""


class RenderSource:
    """The pictures that some jobs ask for under a run's configuration.

    Raises:
        BadConfig: there are no cues, or a filter's condition cannot be used.
        Transient: the store failed.
    """

    def __init__(self, run: Run, jobs: Sequence[Job]) -> None:
        self._run, self._jobs = run, jobs
        self._photos: dict[tuple[tuple[str, ...], ...], list[Photo]] = {}
        self._selected: dict[CueFilter, pa.Table] = {}
        fields = {field for job in jobs for prompt in (*job.prompts, job.source_prompt) for field in fields_of(prompt)}
        columns = (*_CUE_COLUMNS, *(["caption"] if "caption" in fields else []))
        columns += ("attributes",) if fields - {"label", "caption", "clip_id", "licence"} else ()
        for job, key, cue_filter in self._filters():
            if cue_filter not in self._selected:
                self._selected[cue_filter] = _select(run, cue_filter, columns, f"{job.position}: {key}")

    def warnings(self) -> list[str]:
        """A sentence for each filter that selects no cue, and for the most frequent faults of pictures."""
        empty = {
            (job.position, key) for job, key, cue_filter in self._filters() if not self._selected[cue_filter].num_rows
        }
        return [
            f"{position}: {'no cue passes its filter' if key == 'cues' else f'no cue passes the filter of {key}'}"
            for position, key in sorted(empty)
        ] + [f"{row['num']:,} of the pictures cannot be rendered: {row['fault']}" for row in self._faults()]

    def _faults(self) -> list[dict[str, Any]]:
        return self._expanded.table(_FAULTS).to_pylist()

    def pending(self, retry_rejects: bool = False) -> Pending:
        """Count the pictures; rows are streamed once they are iterated over.

        Raises:
            BadConfig: a job's photos or masks do not exist, or it is unclear which they are.
            Transient: the store failed.
        """
        query = self._expanded
        total = query.number("SELECT count(DISTINCT render_id) FROM pictures")
        query.keep("rejected", "SELECT DISTINCT id FROM rejects i ANTI JOIN renders r ON i.id = r.render_id")
        rejected = query.number(
            "SELECT count(DISTINCT render_id) FROM pictures p SEMI JOIN rejected r ON p.render_id = r.id"
        )
        excluded = "" if retry_rejects else "ANTI JOIN rejected x ON p.render_id = x.id"
        num = query.keep("pending", _PENDING.format(rejected=excluded))
        return Pending(total, num, 0 if retry_rejects else rejected, self._rows() if num else ())

    @cached_property
    def _expanded(self) -> Query:
        """A connection with the tables `combinations` and `pictures`."""
        query = self._run.query({"rejects": self._run.recipe("renders")})
        weakref.finalize(self, query.close)
        query.fill("combinations", _COMBINATION)
        query.fill("pictures", _PICTURE)
        num_combinations = num_pictures = 0
        for combinations, pictures in self._expand():
            numbers = pa.array(range(num_combinations, num_combinations + combinations.num_rows), pa.int64())
            query.fill("combinations", _COMBINATION, combinations.add_column(0, "combination", numbers))
            for ids, seeds, positions in pictures:
                owners = [num_combinations + position for position in positions]
                own = range(num_pictures, num_pictures + len(ids))
                query.fill("pictures", _PICTURE, pa.table([ids, seeds, owners, own], schema=_PICTURE))
                num_pictures += len(ids)
            num_combinations += combinations.num_rows
        return query

    def _rows(self) -> Iterator[pa.Table]:
        """Rows of the pending pictures.

        Generated pictures come in the order of the cues' files, so that the cues are read once and never held together;
        within a batch, and in all if they have sources, they come in the order of the jobs.
        """
        query = self._expanded
        longest = query.number("SELECT max(len(clip_ids)) FROM pending JOIN combinations USING (combination)")
        query.keep(
            "wanted", "SELECT p.*, c.* EXCLUDE (combination) FROM pending p JOIN combinations c USING (combination)"
        )
        others = "".join(
            f" LEFT JOIN (SELECT clip_id, vector FROM cues SEMI JOIN (SELECT clip_ids[{n}] AS clip_id FROM wanted) "
            f"USING (clip_id)) c{n} ON w.clip_ids[{n}] = c{n}.clip_id"
            for n in range(2, longest + 1)
        )
        vectors = ", ".join(["c.vector", *(f"c{n}.vector" for n in range(2, longest + 1))])
        columns = f"w.*, c.num_tokens, c.dim, c.method, list_filter([{vectors}], lambda v: v IS NOT NULL) AS vectors"
        streamed = "w.edit IS NULL AND len(w.clip_ids) > 0"
        for sql in (
            f"SELECT {columns} FROM cues c JOIN wanted w ON c.clip_id = w.clip_ids[1] {others} WHERE {streamed}",
            f"SELECT {columns} FROM wanted w LEFT JOIN (SELECT * FROM cues SEMI JOIN (SELECT clip_ids[1] AS clip_id "
            f"FROM wanted) USING (clip_id)) c ON c.clip_id = w.clip_ids[1] {others} "
            f"WHERE NOT ({streamed}) ORDER BY w.number",
        ):
            for rows in query.batches(sql, _BATCH_ROWS):
                yield rows.sort_by("number").drop_columns(["number", "combination"])

    def _filters(self) -> Iterator[tuple[Job, str, CueFilter]]:
        """Each selection of cues, with the key under which the job has it."""
        for job in self._jobs:
            for prompt in job.prompts:
                for key, cue_filter in job.filters_of(prompt).items():
                    yield job, key, cue_filter

    def _expand(self) -> Iterator[tuple[pa.Table, Iterator[tuple[list[str], list[int], list[int]]]]]:
        """Combinations in chunks, each with its pictures: ids, seeds, and positions in the chunk."""
        for job, prompts in _in_order(self._jobs):
            seeds = job.seeds_under(self._run.config.seed)
            for source in self._sources_of(job):
                # Pictures from one source and seed come together; otherwise a prompt is expanded for all seeds.
                for some_seeds in ([seed] for seed in seeds) if job.has_source else (seeds,):
                    for prompt in prompts:
                        for combinations in self._combinations(job, prompt, source):
                            yield combinations, _pictures(self._addresses(combinations), some_seeds)

    def _combinations(self, job: Job, prompt: str, source: dict[str, Any]) -> Iterator[pa.Table]:
        """Rows of a job, prompt and source: one for each cue or group of cues and each position of a blend."""
        shared = _PLAIN | {"job": job.name, "mode": job.mode, "negative_prompt": job.negative_prompt}
        shared |= {"options": _options_of(job), "image_uri": None, "mask_uri": None} | source
        shared |= {"prompt": prompt, "source_prompt": job.source_prompt, "fault": source.get("fault")}
        positions = job.blend.positions if job.blend else (None,)
        is_filled = bool(fields_of(prompt) or fields_of(job.source_prompt))
        for tables in self._groups(job, prompt):
            num = tables[0].num_rows if tables else 1
            columns: dict[str, Any] = {name: [value] * num * len(positions) for name, value in shared.items()}
            columns |= _of_clips(tables, len(positions)) | {"blend": list(positions) * num}
            if is_filled:
                filled = [
                    _filled(prompt, job.source_prompt, clip, source.get("fault")) for clip in tables[0].to_pylist()
                ]
                for name in filled[0] if filled else ():
                    columns[name] = [values[name] for values in filled for _ in positions]
            yield pa.table({name: columns[name] for name in _COMBINATION.names[1:]}, schema=_WITHOUT_NUMBER)

    def _groups(self, job: Job, prompt: str) -> Iterator[list[pa.Table]]:
        """The cues that come together in a prompt, in chunks: a table of each filter; shorter selections repeat."""
        tables = [self._selected[cue_filter] for cue_filter in job.filters_of(prompt).values()]
        if not tables:
            yield []
            return
        counts = [table.num_rows for table in tables]
        num = min(max(counts), job.limit or max(counts)) if all(counts) else 0
        for first in range(0, num, _COMBINATIONS_AT_ONCE):
            indices = np.arange(first, min(first + _COMBINATIONS_AT_ONCE, num))
            yield [table.take(pa.array(indices % table.num_rows)) for table in tables]

    def _sources_of(self, job: Job) -> Iterable[dict[str, Any]]:
        """The columns of each source of a job's pictures; a single one with nothing special if they have none."""
        if not job.has_source:
            return ({},)
        edit = {"edit": _edit_of(job)}
        if not job.photos:
            return (edit,)
        locations = job.source_images, job.source_masks
        if locations not in self._photos:
            self._photos[locations] = find_photos(job)
        return (edit | vars(photo) for photo in self._photos[locations])

    def _addresses(self, combinations: pa.Table) -> Iterator[bytes]:
        """All that the pictures of a combination depend on but the seed, as JSON."""
        start = json.dumps([self._run.recipe("cues"), self._model])[:-1]
        names = ("clip_ids", "prompt", "negative_prompt", "options", *_PLAIN)
        ends: dict[tuple[Any, ...], str] = {}
        for ids, prompt, *rest in zip(*(combinations[name].to_pylist() for name in names), strict=True):
            if (key := tuple(rest)) not in ends:
                special = {
                    name: value for (name, plain), value in zip(_PLAIN.items(), rest[2:], strict=True) if value != plain
                }
                ends[key] = json.dumps([*rest[:2], *([special] if special else [])])[1:]
            quoted = '", "'.join(ids)
            yield f'{start}, ["{quoted}"], {json.dumps(prompt)}, {ends[key]}'.encode()

    @cached_property
    def _model(self) -> str:
        return self._run.recipes["renders"].models["diffusion"]


def _select(run: Run, cue_filter: CueFilter, columns: Sequence[str], key: str) -> pa.Table:
    """The cues that a filter selects, with some columns of their clips, in the order of their ids."""
    with run.query() as query:
        if not query.number("SELECT count(*) FROM (SELECT clip_id FROM cues LIMIT 1)"):
            raise BadConfig(
                f"{run.workspace.uri} has no cues of this configuration: run `aai build` with it first", key="workspace"
            )
        return select_cues(query.described_cues(), cue_filter, columns, key)


def _pictures(addresses: Iterable[bytes], seeds: Sequence[int]) -> Iterator[tuple[list[str], list[int], list[int]]]:
    """Ids, seeds, and positions of the addresses, in chunks."""
    texts = [b"%d" % seed for seed in seeds]
    ids: list[str] = []
    positions: list[int] = []
    for position, address in enumerate(addresses):
        ids += [blake2b(address + text, digest_size=_ID_BYTES).hexdigest() for text in texts]
        positions += [position] * len(texts)
        if len(ids) >= _PICTURES_AT_ONCE:
            yield ids, list(seeds) * (len(ids) // len(seeds)), positions
            ids, positions = [], []
    if ids:
        yield ids, list(seeds) * (len(ids) // len(seeds)), positions


def _of_clips(tables: Sequence[pa.Table], num_positions: int) -> dict[str, Any]:
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


def _in_order(jobs: Sequence[Job]) -> list[tuple[Job, tuple[str, ...]]]:
    """Jobs in the order in which they are rendered: with all prompts if they have sources, else once per prompt."""
    parts = [(job, prompts) for job in jobs for prompts in ([job.prompts] if job.has_source else zip(job.prompts))]
    return sorted(parts, key=lambda part: (_options_of(part[0]), _edit_of(part[0]), part[0].negative_prompt, part[1]))


def _edit_of(job: Job) -> str:
    """The options of edits as one text; empty without a source."""
    return json.dumps(job.edit.model_dump(), sort_keys=True) if job.has_source else ""


def _options_of(job: Job) -> str:
    """The options that a picture depends on, as one text."""
    excluded = {"quality"} if job.options.format == "png" else set()
    if job.photos:  # they have their own size, and are always sampled with DDIM
        excluded |= {"width", "height", "scheduler"}
    return json.dumps(job.options.model_dump(exclude=excluded), sort_keys=True)


def _filled(prompt: str, source_prompt: str | None, clip: dict[str, Any], fault: str | None) -> dict[str, Any]:
    """The prompts with the clip's metadata, or why they cannot be filled."""
    values = json.loads(clip.get("attributes") or "{}") | clip
    texts = {"prompt": prompt} | ({} if source_prompt is None else {"source_prompt": source_prompt})
    try:
        return {name: fill(text, values) for name, text in texts.items()} | {"fault": fault}
    except BadItem as error:
        return texts | {"fault": fault or error.sentence}
