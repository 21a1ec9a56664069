"""What reading costs at scale: synthetic banks go through every stage's query, with workers that do nothing.

    python bench/scale.py bank [--clips 1000000] [--images 1000000] [--dim 768] [--folder DIR]
    python bench/scale.py plan [--clips 10000000] [--folder DIR]
    python bench/scale.py index [--images 5000000] [--dim 256]
    python bench/scale.py jobs [--pictures 1000000]

`bank` writes the tables as a build would leave them, then streams the rows of each stage and prints seconds, rows per
second and the peak memory of a process of its own. `plan` times `aai plan`. `index` builds an index artifact, and
`jobs` expands a job file. Goals: 3 minutes and 2 GB a stage; a plan of 1 / 10 million clips in 5 / 60 s and 4 GB; an
index in less than 1.5 times its size; a million pictures in 15 s.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from hashlib import blake2b
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from deltalake import DeltaTable

from tasks.runtime.run import Run
from tasks.runtime.source import QuerySource
from tasks.stages import make_config, open_run

ROWS_PER_FILE = 50_000
NUM_TARS = 100
_GIB = 2**30


def ids(kind: str, first: int, last: int) -> list[str]:
    """Ids as digests have them: random, and the same in each call."""
    return [blake2b(b"%s%d" % (kind.encode(), number), digest_size=16).hexdigest() for number in range(first, last)]


def vectors(num: int, dim: int, seed: int) -> pa.ListArray:
    """Random unit vectors."""
    values = np.random.default_rng(seed).standard_normal((num, dim), dtype=np.float32)
    values /= np.linalg.norm(values, axis=1, keepdims=True)
    offsets = pa.array(np.arange(0, num * dim + 1, dim, dtype=np.int32))
    return pa.ListArray.from_arrays(offsets, pa.array(values.ravel()))


class Filler:
    """Writes tables piece by piece, as files that one commit makes visible.

    Appending as the driver does would compare the keys of each commit with all before; here they are known to differ.
    """

    def __init__(self, run: Run) -> None:
        self.run = run

    def write(self, name: str, pieces: Iterator[dict[str, object]]) -> None:
        """Write a table from pieces of columns; what a piece leaves out is null, or a small constant."""
        table, recipe = self.run.workspace.table(name), self.run.recipe(name)
        first = next(pieces)
        table.append(recipe, _filled(table.schema.columns, first))
        folder = Path(table.uri) / f"recipe={recipe}"
        actions = []
        for number, piece in enumerate(pieces):
            path = folder / f"piece-{number:05}.parquet"
            rows = _filled(table.schema.columns, piece)
            pq.write_table(rows, path, compression="ZSTD", compression_level=1)
            actions.append(_action(path, recipe, rows.num_rows))
        handle = DeltaTable(table.uri)
        if actions:
            handle.create_write_transaction(actions, "append", handle.schema(), ["recipe"])


def _action(path: Path, recipe: str, num_rows: int) -> object:
    from deltalake.transaction import AddAction

    stats = json.dumps({"numRecords": num_rows})
    name, size = f"recipe={recipe}/{path.name}", path.stat().st_size
    return AddAction(name, size, {"recipe": recipe}, int(time.time() * 1000), True, stats)


def _filled(schema: pa.Schema, given: dict[str, object]) -> pa.Table:
    num = len(next(iter(given.values())))  # type: ignore[arg-type]
    columns = []
    for field in schema:
        if field.name in given:
            columns.append(pa.array(given[field.name], field.type))
        elif field.nullable:
            columns.append(pa.nulls(num, field.type))
        else:
            blank = [] if pa.types.is_list(field.type) else "1"
            columns.append(pa.array([blank] * num).cast(field.type) if blank == [] else
                           pa.repeat(pa.scalar("1").cast(field.type), num))  # fmt: skip
    return pa.table(columns, schema=schema)


def pieces_of(num: int) -> Iterator[tuple[int, int]]:
    """Ranges of items, a file each."""
    for first in range(0, num, ROWS_PER_FILE):
        yield first, min(first + ROWS_PER_FILE, num)


def fill(run: Run, num_clips: int, num_images: int, dim: int, vectors_too: bool) -> None:
    """Tables of a bank whose recordings and images lie in tars."""
    filler = Filler(run)
    for kind, items, num in (("audio", "clips", num_clips), ("image", "images", num_images)):
        tars = ids(f"{kind}-tar", 0, NUM_TARS)
        uris = [f"/data/{kind}/{number:05}.tar" for number in range(NUM_TARS)]
        listing = {"file_id": tars, "uri": uris, "is_tar": [True] * NUM_TARS, "is_present": [True] * NUM_TARS}
        filler.write(f"{kind}_listing", iter([listing]))
        filler.write(f"{kind}_members", (_members(kind, tars, *piece) for piece in pieces_of(num)))
        filler.write(f"{kind}_files", (_files(kind, items, *piece) for piece in pieces_of(num)))
        key = "clip_id" if items == "clips" else "image_id"
        own = "content_id" if items == "clips" else key
        filler.write(items, ({key: ids(items, *p)} | {own: ids(items, *p)} for p in pieces_of(num)))
        if vectors_too:
            filler.write(f"{kind}_vectors", (_vectors(items, dim, *piece) for piece in pieces_of(num)))
    if vectors_too:
        filler.write("aligned_vectors", (_vectors("clips", dim, *piece) for piece in pieces_of(num_clips)))
        filler.write("neighbours", (_neighbours(num_images, *piece) for piece in pieces_of(num_clips)))
        filler.write("cues", (_cues(dim, *piece) for piece in pieces_of(num_clips)))
        filler.write("renders", (_renders(*piece) for piece in pieces_of(num_clips)))


def _vectors(items: str, dim: int, first: int, last: int) -> dict[str, object]:
    key = "clip_id" if items == "clips" else "image_id"
    return {key: ids(items, first, last), "vector": vectors(last - first, dim, first)}


def _members(kind: str, tars: list[str], first: int, last: int) -> dict[str, object]:
    numbers = range(first, last)
    return {
        "tar_id": [tars[first // ROWS_PER_FILE % NUM_TARS]] * len(numbers),
        "file_id": ids(f"{kind}-member", first, last),
        "name": [f"{number:08}.flac" for number in numbers],
        "offset": [number * 1024 for number in numbers],
        "num_bytes": [1000] * len(numbers),
        "label": ["rain"] * len(numbers),
        "licence": ["CC0-1.0"] * len(numbers),
    }


def _files(kind: str, items: str, first: int, last: int) -> dict[str, object]:
    return {"file_id": ids(f"{kind}-member", first, last), "content_id": ids(items, first, last)}


def _neighbours(num_images: int, first: int, last: int) -> dict[str, object]:
    chosen = np.random.default_rng(first).integers(num_images, size=(last - first, 5))
    return {
        "clip_id": ids("clips", first, last),
        "image_ids": [[ids("images", n, n + 1)[0] for n in row] for row in chosen.tolist()],
        "similarities": [[0.5] * 5] * (last - first),
    }


def _cues(dim: int, first: int, last: int) -> dict[str, object]:
    num = last - first
    return {
        "clip_id": ids("clips", first, last),
        "vector": vectors(num, 2 * dim, first + 3),
        "num_tokens": [2] * num,
        "dim": [dim] * num,
        "method": ["mapper"] * num,
        "image_ids": [["0" * 32]] * num,
    }


def _renders(first: int, last: int) -> dict[str, object]:
    num = last - first
    return {
        "render_id": ids("renders", first, last),
        "clip_ids": [[clip] for clip in ids("clips", first, last)],
        "prompt": ["a photo of *"] * num,
        "job": ["noun"] * num,
    }


STAGES = ("embed_images", "embed_audio", "align", "retrieve", "fit", "score")
"""Their own tables are empty in what is measured, so all rows are pending."""


def open_bank(folder: str, **changes: object) -> Run:
    """The run on a bench bank."""
    return open_run(make_config(workspace=folder, audio=["/data/audio"], images=["/data/image"], **changes))


def measure_stage(folder: str, name: str) -> str:
    """Stream all rows of a stage, as its driver does."""
    run = open_bank(folder)
    stage = next(stage for stage in run.stages if stage.name == name)
    hidden = {stage.table: run.workspace.schemas[stage.table].columns.empty_table()}
    start_s = time.perf_counter()
    pending = QuerySource(run, stage, hidden).pending()
    counted_s, first_s, num = time.perf_counter() - start_s, 0.0, 0
    for rows in pending.rows:
        first_s = first_s or time.perf_counter() - start_s
        num += rows.num_rows
    took_s = time.perf_counter() - start_s
    assert num == pending.num
    times = f"{took_s:7.1f} s, counted after {counted_s:5.1f} s, first rows after {first_s:5.1f} s"
    return f"{name:13} {num:>11,} rows {times}"


def measure_index(folder: str) -> str:
    """Build the index artifact from all image vectors."""
    run = open_bank(folder)
    start_s = time.perf_counter()
    run.do(run.stage_of("index"))
    took_s = time.perf_counter() - start_s
    newest = run.workspace.newest_artifact("index", run.recipe("index"))
    assert newest
    size = sum(path.stat().st_size for path in Path(newest.uri).iterdir())
    return f"index         built in {took_s:7.1f} s, {size / _GIB:.2f} GiB on disk"


def measure_plan(folder: str) -> str:
    """Plan a build whose source folders are as they were listed."""
    from tasks import list_files
    from tasks.views import plan

    run = open_bank(folder)
    start_s = time.perf_counter()
    list_files.look = _as_listed  # the folders do not exist
    planned = plan.plan(run)
    took_s = time.perf_counter() - start_s
    new = ", ".join(f"{stage.stage} {stage.new:,}" for stage in planned.stages if stage.new)
    return f"plan          {took_s:7.1f} s: {new}"


def _as_listed(run: Run, table: str, images: object = None) -> object:
    from tasks.list_files import Listing

    with run.query() as query:
        rows = query.table(f"SELECT * FROM known_{table}")
    return Listing(rows, rows.slice(0, 0), 0, 0, 0, [], [])


def measure_jobs(folder: str, num_pictures: int) -> str:
    """Expand a job of so many pictures over the cues of a bank."""
    from aai.jobs.jobfile import make_jobs
    from aai.models.options import RenderOptions
    from tasks.render_source import RenderSource

    run = open_bank(folder)
    num_cues = sum(run.workspace.table("cues").recipes().values())
    jobs = [{"prompt": "a photo of *", "seeds": max(1, num_pictures // num_cues)}]
    start_s = time.perf_counter()
    pending = RenderSource(run, make_jobs(jobs, RenderOptions())).pending()
    counted_s = time.perf_counter() - start_s
    next(iter(pending.rows))
    first_s = time.perf_counter() - start_s
    times = f"counted in {counted_s:.1f} s, first rows after {first_s:.1f} s"
    return f"jobs          {pending.num:,} pictures of {num_cues:,} cues: {times}"


def peak_gib() -> float:
    """The most memory that this program held; `getrusage` would count what its parent held when it forked."""
    [line] = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")]
    return int(line.split()[1]) / 2**20


def in_own_process(*arguments: str) -> None:
    """Print a measurement of a process of its own, with the most memory that it held."""
    ran = subprocess.run([sys.executable, __file__, "--measure", *arguments], capture_output=True, text=True)
    print(ran.stdout.strip() or ran.stderr.strip(), flush=True)


def measure(what: str, folder: str, *rest: str) -> None:
    """Print one measurement, with the most memory that this process held."""
    if what == "stage":
        line = measure_stage(folder, rest[0])
    elif what == "jobs":
        line = measure_jobs(folder, int(rest[0]))
    else:
        line = {"index": measure_index, "plan": measure_plan}[what](folder)
    print(f"{line}; peak {peak_gib():.2f} GiB")


def main() -> None:
    """Write a bank, and measure in processes of their own."""
    if sys.argv[1:2] == ["--measure"]:
        measure(*sys.argv[2:])
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["bank", "plan", "index", "jobs"])
    parser.add_argument("--clips", type=int, default=1_000_000)
    parser.add_argument("--images", type=int, default=1_000_000)
    parser.add_argument("--dim", type=int, default=768)
    parser.add_argument("--pictures", type=int, default=1_000_000)
    parser.add_argument("--folder", help="where the bank is or will be; by default a temporary folder")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.folder or temporary
        run = open_bank(folder)
        if not run.workspace.table("clips").recipes():
            start_s = time.perf_counter()
            fill(run, options.clips, options.images, options.dim, options.what != "plan")
            size = f"{options.clips:,} clips and {options.images:,} images x {options.dim}"
            print(f"bank of {size} written in {time.perf_counter() - start_s:.0f} s", flush=True)
        for name in STAGES if options.what == "bank" else ():
            in_own_process("stage", folder, name)
        for what, of in (("jobs", ["jobs"]), ("index", ["bank", "index"]), ("plan", ["bank", "plan"])):
            if options.what in of:
                in_own_process(what, folder, *([str(options.pictures)] if what == "jobs" else []))


if __name__ == "__main__":
    main()
