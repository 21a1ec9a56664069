"""The pictures that jobs ask for, as the items of the stage `render`.

Jobs are expanded once, into three tables on disk: blocks of combinations that have job and source in common,
combinations of job, prompt, cues and source, and for each picture its id, its seed and its combination. A plan of many
seeds does not need the last. Pictures come in the order in which they are best rendered: those with the same options
beside one another, then those with the same prompt; all pictures from one source come together.
"""

import weakref
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence, Set
from functools import cached_property
from hashlib import blake2b

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from aai.errors import BadConfig
from aai.jobs.job import Job, fields_of, seeds_under
from aai.jobs.selection import CueFilter, labels_of, remark_on, select_cues, without_match
from aai.workspace import Query
from tasks.choice import dependence_of
from tasks.combinations import BLOCK, COMBINATION, COMBINATIONS_AT_ONCE, Combinations
from tasks.runtime.run import Run
from tasks.runtime.stage import Pending
from tasks.sampling import check_sampling, without_sound

_PICTURES_AT_ONCE = 100_000
_EXPANDED_FOR_PLANS = 1_000_000
"""Up to this number of pictures a plan expands all: it takes two seconds, and rendering needs it."""

_BATCH_ROWS = 4_000
"""Rows in memory at a time: 25 MB of cues of 2 x 768 numbers, 66 MB of SDXL's."""

_ID_BYTES = 16

_STORED = pa.schema(
    [
        ("combination", pa.int64()),
        ("block", pa.int64()),
        *COMBINATION,
        ("seeds", pa.int32()),  # number of its list of seeds
        ("first", pa.int64()),  # position of its first picture among all, and the distance to the next one
        ("step", pa.int64()),
    ]
)
"""The table `combinations`."""

_PICTURE = pa.schema(
    [("render_id", pa.string()), ("seed", pa.int64()), ("combination", pa.int64()), ("number", pa.int64())]
)

_CUE_COLUMNS = ("clip_id", "label", "licence", "uri")

_PENDING = """
    SELECT render_id, arg_min(seed, number) AS seed, arg_min(combination, number) AS combination, min(number) AS number
    FROM pictures p ANTI JOIN renders r ON p.render_id = r.render_id {rejected} GROUP BY p.render_id
"""

# A photo that was away or changed for a moment is tried again.
_REJECTED = """
    SELECT DISTINCT id FROM rejects i ANTI JOIN renders r ON i.id = r.render_id
    WHERE part_of IS NULL AND error <> 'Unavailable'
"""

_DISTINCT = """
    SELECT fault, seeds, count(*) AS num
    FROM (SELECT arg_min(fault, combination) AS fault, {seeds} AS seeds FROM combinations GROUP BY address) GROUP BY ALL
"""
_ONE_LIST, _LISTS = "[min(seeds)]", "list_sort(list(DISTINCT seeds))"  # lists of most jobs would take most of the time
_CANDIDATES = "SELECT sum(candidates) FROM pending JOIN combinations USING (combination) JOIN blocks USING (block)"
_MAX_FAULTS = 3

Seeds = int | tuple[int, ...]
"""A number of seeds, or a list of them."""


class RenderSource:
    """The pictures that some jobs ask for under a run's configuration.

    Raises:
        BadConfig: there are no cues, a filter's condition cannot be used, or an option cannot work with the model.
        Transient: the store failed.
    """

    def __init__(self, run: Run, jobs: Sequence[Job]) -> None:
        self._run, self._jobs = run, jobs
        self._advice = check_sampling(run, jobs) + [sentence for job in jobs for sentence in without_sound(job)]
        self._advice += filter(None, (dependence_of(run.config, job) for job in jobs))
        self._selected: dict[CueFilter, pa.Table] = {}
        self._labels: dict[str, int] = {}
        self._seed_lists: dict[Seeds, list[int]] = {}
        fields = {field for job in jobs for prompt in (*job.prompts, job.source_prompt) for field in fields_of(prompt)}
        columns = (*_CUE_COLUMNS, *(["caption"] if "caption" in fields else []))
        columns += ("attributes",) if fields - {"label", "caption", "clip_id", "licence"} else ()
        for job, key, cue_filter in self._filters():
            if cue_filter not in self._selected:
                self._selected[cue_filter] = self._select(cue_filter, columns, f"{job.position}: {key}")
        self._combinations = Combinations(run, jobs, self._selected)

    def num_faulty(self) -> int:
        """The number of different pictures that cannot be rendered, as `warnings` says."""
        return sum(num for fault, num in self._distinct.items() if fault is not None)

    def warnings(self) -> list[str]:
        """Sentences about filters that select no cue, options that do not suit the model, and frequent faults."""
        of_filters = {
            f"{job.position}: {remark}"
            for job, key, cue_filter in self._filters()
            if (remark := remark_on(cue_filter, self._selected[cue_filter], self._labels, key))
        }
        return (
            self._advice
            + sorted(of_filters)
            + [
                f"{num:,} of the pictures cannot be rendered: {fault}"
                for fault, num in sorted(self._distinct.items(), key=lambda item: (-item[1], item[0] or ""))
                if fault is not None
            ][:_MAX_FAULTS]
        )

    def counts(self, retry_rejects: bool = False) -> tuple[int, int, int]:
        """The numbers of pictures, of those still to be rendered, and of those that were rejected.

        Of many pictures only those are expanded whose seeds have been rendered before.

        Raises:
            BadConfig: as for `pending`.
            Transient: the store failed.
        """
        query, total = self._combined, sum(self._distinct.values())
        if total <= _EXPANDED_FOR_PLANS or query.number("SELECT count(*) FROM rejects"):
            pending = self.pending(retry_rejects)
            return pending.total, pending.num, pending.rejected
        rendered = set(query.table("SELECT DISTINCT seed FROM renders")["seed"].to_pylist())
        asked = pa.schema([_PICTURE.field("render_id")])
        query.fill("asked", asked)
        for pictures in self._pictures(rendered) if rendered else ():
            query.fill("asked", asked, pictures.select(["render_id"]))
        num = query.number("SELECT count(*) FROM renders r SEMI JOIN asked a ON r.render_id = a.render_id")
        return total, total - num, 0

    def num_candidates(self, num_new: int) -> int:
        """The number of pictures that the model renders for so many new ones, candidates that are not kept included.

        Raises:
            BadConfig, Transient: as for `counts`.
        """
        if all(job.candidates == 1 for job in self._jobs):
            return num_new
        if "_expanded" in self.__dict__:
            return self._expanded.number(_CANDIDATES)
        by_job = Counter[int]()
        for block in self._combinations.blocks():
            by_job[block.job.candidates] += self._combinations.num_of(block) * _length(self._seeds_of(block.job))
        return round(num_new * sum(num * times for num, times in by_job.items()) / max(1, by_job.total()))

    def mean_candidates(self) -> float:
        """The mean number of candidates of the pictures that are there; 1 without any.

        Raises:
            Transient: the store failed.
        """
        sql = "SELECT coalesce(avg(coalesce(len(candidate_seeds), 1)), 1) AS mean FROM renders"
        return float(self._combined.table(sql)["mean"][0].as_py())

    def pending(self, retry_rejects: bool = False) -> Pending:
        """Count the pictures; rows are streamed once they are iterated over.

        Raises:
            BadConfig: a job's photos or masks do not exist, it is unclear which they are, or there are too many
                pictures.
            Transient: the store failed.
        """
        query = self._expanded
        query.renew("renders", "rejects")
        total = sum(self._distinct.values())
        query.keep("rejected", _REJECTED)
        rejected = query.number(
            "SELECT count(DISTINCT render_id) FROM pictures p SEMI JOIN rejected r ON p.render_id = r.id"
        )
        excluded = "" if retry_rejects else "ANTI JOIN rejected x ON p.render_id = x.id"
        num = query.keep("pending", _PENDING.format(rejected=excluded))
        return Pending(total, num, 0 if retry_rejects else rejected, self._rows() if num else ())

    def forgotten(self) -> pa.Table:
        """Ids of rejected pictures that the same job files asked for before, and no longer do.

        Raises:
            BadConfig, Transient: as for `pending`.
        """
        query = self._combined
        query.keep_ids("job_files", sorted({job.file for job in self._jobs}))
        rejects = "SELECT id FROM rejects WHERE job_file IS NULL OR job_file IN (SELECT id FROM job_files)"
        if not query.number(f"SELECT count(*) FROM ({rejects})"):
            return pa.table({"id": pa.array([], pa.string())})
        query = self._expanded
        return query.table(f"SELECT DISTINCT r.id FROM ({rejects}) r ANTI JOIN pictures p ON r.id = p.render_id")

    @cached_property
    def _combined(self) -> Query:
        """A connection with the tables `blocks` and `combinations`."""
        self._check_number()
        query = self._run.query({"rejects": self._run.recipe("renders")})
        weakref.finalize(self, query.close)
        for name, schema, tables in (("blocks", BLOCK, self._blocks()), ("combinations", _STORED, self._stored())):
            query.fill(name, schema)
            for table in _gathered(tables, COMBINATIONS_AT_ONCE):
                query.fill(name, schema, table)
        return query

    def _blocks(self) -> Iterator[pa.Table]:
        for number, block in enumerate(self._combinations.blocks()):
            yield pa.Table.from_pylist([{"block": number} | block.shared()], BLOCK)

    def _stored(self) -> Iterator[pa.Table]:
        """Rows of the table `combinations`."""
        num = num_pictures = 0
        for number, block in enumerate(self._combinations.blocks()):
            seeds, size = self._seeds_of(block.job), self._combinations.num_of(block)
            # Pictures from one source and seed come together, otherwise those of one combination.
            stride, step = (1, size) if block.job.has_source else (_length(seeds), 1)
            first = num_pictures
            for combinations in self._combinations.of(block):
                rows = combinations.num_rows
                end = first + rows * stride
                yield pa.table(
                    [
                        np.arange(num, num + rows),
                        np.full(rows, number),
                        *combinations.columns,
                        np.full(rows, self._number_of(seeds)),
                        np.arange(first, end, stride),
                        np.full(rows, step),
                    ],
                    schema=_STORED,
                )
                num, first = num + rows, end
            num_pictures += size * _length(seeds)

    @cached_property
    def _distinct(self) -> dict[str | None, int]:
        """The number of different pictures by their fault; of most pictures it is None."""
        counts = Counter[str | None]()
        lengths: dict[tuple[int, ...], int] = {}
        combined, every = self._combined, list(self._seed_lists)
        sql = _DISTINCT.format(seeds=_ONE_LIST if len(self._seed_lists) == 1 else _LISTS)
        for row in combined.table(sql).to_pylist():
            key = tuple(row["seeds"])
            if key not in lengths:
                lengths[key] = self._num_different([every[number] for number in key])
            counts[row["fault"]] += row["num"] * lengths[key]
        return counts

    @cached_property
    def _expanded(self) -> Query:
        """A connection with the tables `combinations` and `pictures`."""
        query = self._combined
        query.fill("pictures", _PICTURE)
        for pictures in self._pictures():
            query.fill("pictures", _PICTURE, pictures)
        return query

    def _pictures(self, some: Set[int] | None = None) -> Iterator[pa.Table]:
        """All pictures, or those with some seeds, numbered among these, in chunks."""
        query, every = self._combined, list(self._seed_lists)
        for first in range(0, query.number("SELECT count(*) FROM combinations"), COMBINATIONS_AT_ONCE):
            rows = query.table(
                "SELECT combination, address, seeds, first, step FROM combinations "
                f"WHERE combination BETWEEN {first} AND {first + COMBINATIONS_AT_ONCE - 1} ORDER BY combination"
            )
            for number in rows["seeds"].unique().to_pylist():
                yield from _pictures(rows.filter(pc.field("seeds") == number), self._listed(every[number], some))

    def _listed(self, seeds: Seeds, some: Set[int] | None = None) -> list[int]:
        """A list of seeds, or some of them."""
        if not (listed := self._seed_lists[seeds]):
            listed = list(seeds) if isinstance(seeds, tuple) else seeds_under(self._run.config.seed, seeds)
            self._seed_lists[seeds] = listed
        return listed if some is None else [seed for seed in listed if seed in some]

    def _num_different(self, lists: Sequence[Seeds]) -> int:
        """The number of different seeds in some lists."""
        if all(isinstance(seeds, int) for seeds in lists):
            return max(_length(seeds) for seeds in lists)  # each is the start of the same list
        return len({seed for seeds in lists for seed in self._listed(seeds)})

    def _seeds_of(self, job: Job) -> Seeds:
        return (0,) if job.is_seedless else job.seeds

    def _number_of(self, seeds: Seeds) -> int:
        self._seed_lists.setdefault(seeds, [])
        return list(self._seed_lists).index(seeds)

    def _check_number(self) -> None:
        """Check that there are not too many pictures, before any is expanded.

        Raises:
            BadConfig: there are; `key` names the job with most of them.
        """
        nums: Counter[str] = Counter()
        for block in self._combinations.blocks():
            nums[block.job.position] += self._combinations.num_of(block) * _length(self._seeds_of(block.job))
        if (num := nums.total()) > (limit := self._run.config.run.max_pictures):
            raise BadConfig(
                f"the jobs ask for {num:,} pictures, more than {limit:,}, and this one for most of them: lower its "
                "seeds or its limit, select fewer cues, or raise run.max_pictures",
                key=nums.most_common(1)[0][0],
            )

    def _rows(self) -> Iterator[pa.Table]:
        """Rows of the pending pictures.

        Generated pictures come in the order of the cues' files, so that the cues are read once and never held together;
        within a batch, and in all if they have sources, they come in the order of the jobs.
        """
        query = self._expanded
        longest = query.number("SELECT max(len(clip_ids)) FROM pending JOIN combinations USING (combination)")
        query.keep(
            "wanted",
            "SELECT p.*, c.* EXCLUDE (combination, address, seeds, first, step) "
            "FROM pending p JOIN combinations c USING (combination)",
        )
        others = "".join(
            f" LEFT JOIN (SELECT clip_id, vector FROM cues SEMI JOIN (SELECT clip_ids[{n}] AS clip_id FROM wanted) "
            f"USING (clip_id)) c{n} ON w.clip_ids[{n}] = c{n}.clip_id"
            for n in range(2, longest + 1)
        )
        vectors = ", ".join(["c.vector", *(f"c{n}.vector" for n in range(2, longest + 1))])
        columns = "w.*, b.* EXCLUDE (block), c.num_tokens, c.dim, c.method"
        columns += f", list_filter([{vectors}], lambda v: v IS NOT NULL) AS vectors"
        streamed = "b.edit IS NULL AND len(w.clip_ids) > 0"
        for sql in (
            f"SELECT {columns} FROM cues c JOIN wanted w ON c.clip_id = w.clip_ids[1] {others} "
            f"JOIN blocks b ON w.block = b.block WHERE {streamed}",
            f"SELECT {columns} FROM wanted w LEFT JOIN (SELECT * FROM cues SEMI JOIN (SELECT clip_ids[1] AS clip_id "
            f"FROM wanted) USING (clip_id)) c ON c.clip_id = w.clip_ids[1] {others} "
            f"JOIN blocks b ON w.block = b.block WHERE NOT ({streamed}) ORDER BY w.number",
        ):
            for rows in query.batches(sql, _BATCH_ROWS):
                yield rows.sort_by("number").drop_columns(["number", "combination", "block"])

    def _filters(self) -> Iterator[tuple[Job, str, CueFilter]]:
        """Each selection of cues, with the key under which the job has it."""
        for job in self._jobs:
            for prompt in job.prompts:
                for key, cue_filter in job.filters_of(prompt).items():
                    yield job, key, cue_filter

    def _select(self, cue_filter: CueFilter, columns: Sequence[str], key: str) -> pa.Table:
        """The cues that a filter selects, with some columns of their clips, in the order of their ids."""
        run = self._run
        with run.query() as query:
            if not query.number("SELECT count(*) FROM (SELECT clip_id FROM cues LIMIT 1)"):
                raise BadConfig(
                    f"{run.workspace.uri} has no cues of this configuration: run `aai build` with it first",
                    key="workspace",
                )
            selected = select_cues(query, cue_filter, columns, key, run.config.run.filter_s)
            if not self._labels and (not selected.num_rows or without_match(cue_filter, selected)):
                self._labels = labels_of(query)
        return selected


def _pictures(combinations: pa.Table, seeds: Sequence[int]) -> Iterator[pa.Table]:
    """The pictures of some combinations with these seeds, in chunks."""
    for part in range(0, len(seeds), _PICTURES_AT_ONCE):
        some = np.asarray(seeds[part : part + _PICTURES_AT_ONCE])
        texts = [b"%d" % seed for seed in some.tolist()]
        size = max(1, _PICTURES_AT_ONCE // len(some))
        for rows in (combinations.slice(first, size) for first in range(0, combinations.num_rows, size)):
            addresses = [text.encode() for text in rows["address"].to_pylist()]
            first, step = (rows[name].to_numpy()[:, None] for name in ("first", "step"))
            columns = [
                [blake2b(text + seed, digest_size=_ID_BYTES).hexdigest() for text in addresses for seed in texts],
                np.tile(some, len(addresses)),
                np.repeat(rows["combination"].to_numpy(), len(some)),
                (first + step * np.arange(part, part + len(some))).ravel(),
            ]
            yield pa.table(columns, schema=_PICTURE)


def _gathered(tables: Iterable[pa.Table], num_rows: int) -> Iterator[pa.Table]:
    """Tables of at least so many rows, except the last: an insertion takes a millisecond, however few rows it has."""
    gathered: list[pa.Table] = []
    for table in tables:
        gathered.append(table)
        if sum(each.num_rows for each in gathered) >= num_rows:
            yield pa.concat_tables(gathered)
            gathered = []
    if gathered:
        yield pa.concat_tables(gathered)


def _length(seeds: Seeds) -> int:
    return seeds if isinstance(seeds, int) else len(seeds)
