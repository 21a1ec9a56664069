"""Cost grows as the bank does: twice the rows make each stage read twice the bytes and open twice the files, no more.

Bytes are counted by the kernel (`rchar`), opened data files by inotify; neither depends on how busy the machine is.
"""

import ctypes
import os
import struct
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from aai.identity import content_id
from tasks.render_source import RenderSource
from tasks.runtime.run import Run
from tasks.runtime.stage import Source, Stage
from tasks.stages import STAGES
from tests.bank import append, jobs_of, run_on, unit_vectors

NUM, ROWS_PER_FILE, DIM = 1_000, 250, 64
NUM_TARS, NUM_NEIGHBOURS = 4, 5
MAX_GROWTH = 2.2
READING = [stage.name for stage in STAGES if stage.rows]

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs /proc and inotify")

_IN_ACCESS, _IN_CLOSE_NOWRITE, _IN_OPEN, _IN_Q_OVERFLOW = 0x1, 0x10, 0x20, 0x4000
_EVENT = struct.Struct("iIII")


@dataclass(frozen=True)
class Cost:
    """What a piece of work read."""

    num_bytes: int
    num_opened: int
    num_rows: int


class OpenedFiles:
    """Counts the data files below a folder that are opened, by whatever library."""

    def __init__(self, folder: Path) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._descriptor = self._libc.inotify_init1(os.O_NONBLOCK)
        assert self._descriptor >= 0, os.strerror(ctypes.get_errno())
        for path in folder.glob("*/recipe=*"):
            # The kernel merges equal events in a row; with those of reading in between, each opening stays.
            watch = self._libc.inotify_add_watch(
                self._descriptor, bytes(path), _IN_OPEN | _IN_ACCESS | _IN_CLOSE_NOWRITE
            )
            assert watch >= 0, os.strerror(ctypes.get_errno())

    def count(self) -> int:
        """How many different ones were opened since the last call; the kernel merges equal events in a row."""
        opened = set()
        while data := self._read():
            first = 0
            while first < len(data):
                folder, mask, _, length = _EVENT.unpack_from(data, first)
                name = data[first + _EVENT.size : first + _EVENT.size + length]
                assert not mask & _IN_Q_OVERFLOW, "more events than the kernel keeps"
                if mask & _IN_OPEN and b".parquet" in name:
                    opened.add((folder, name))
                first += _EVENT.size + length
        return len(opened)

    def close(self) -> None:
        """Stop counting."""
        os.close(self._descriptor)

    def _read(self) -> bytes:
        try:
            return os.read(self._descriptor, 2**20)
        except BlockingIOError:
            return b""


def bytes_read() -> int:
    """All bytes that this process has read so far."""
    [line] = [line for line in Path("/proc/self/io").read_text().splitlines() if line.startswith("rchar")]
    return int(line.split()[1])


def ids(kind: str, num: int) -> list[str]:
    return [content_id(f"{kind}{number}".encode()) for number in range(num)]


def fill(run: Run, num: int) -> Run:
    """Tables as a build and a rendering leave them, with a data file for each 250 rows; source files are in tars."""
    clips, images = ids("clip", num), ids("image", num)
    vectors, cues = unit_vectors(num, DIM), unit_vectors(num, 2 * DIM, seed=1)
    for kind, table, items in (("audio", "clips", clips), ("image", "images", images)):
        tars, contents = ids(f"{kind}-tar", NUM_TARS), ids(f"{kind}-content", num) if kind == "audio" else items
        append(run, f"{kind}_listing", [{"file_id": tar, "uri": f"/{tar}.tar", "is_tar": True} for tar in tars])
        members = ids(f"{kind}-member", num)
        rows = {
            f"{kind}_members": [
                {"tar_id": tars[number * NUM_TARS // num], "file_id": member, "name": f"{number}.wav"}
                for number, member in enumerate(members)
            ],
            f"{kind}_files": [
                {"file_id": file_id, "content_id": data} for file_id, data in zip(members, contents, strict=True)
            ],
            table: [
                {"clip_id": item, "content_id": data} if kind == "audio" else {"image_id": item}
                for item, data in zip(items, contents, strict=True)
            ],
            f"{kind}_vectors": with_vectors("clip_id" if kind == "audio" else "image_id", items, vectors),
        }
        for name, own in rows.items():
            append_in_files(run, name, own)
    near = np.random.default_rng(2).integers(num, size=(num, NUM_NEIGHBOURS))
    append_in_files(run, "aligned_vectors", with_vectors("clip_id", clips, vectors))
    neighbours = [
        {"clip_id": clip, "image_ids": [images[number] for number in numbers], "similarities": [0.5] * NUM_NEIGHBOURS}
        for clip, numbers in zip(clips, near, strict=True)
    ]
    append_in_files(run, "neighbours", neighbours)
    sure = {"confidence": 1.0, "agreement": 1.0, "margin": 1.0, "num_others": 1}
    append_in_files(run, "confidences", [{"clip_id": clip} | sure for clip in clips])
    append_in_files(run, "cues", [row | {"dim": DIM, "seed": 0} for row in with_vectors("clip_id", clips, cues)])
    shard = {"shard": "shards/renders/a.tar", "key": "a", "offset": 512, "num_bytes": 9, "checksum": "0"}
    renders = [{"render_id": content_id(clip.encode()), "clip_ids": [clip]} | shard for clip in clips]
    append_in_files(run, "renders", renders)
    return run


def with_vectors(key: str, items: list[str], vectors: np.ndarray) -> list[dict]:
    return [{key: item, "vector": vector} for item, vector in zip(items, vectors, strict=True)]


def append_in_files(run: Run, name: str, rows: list[dict]) -> None:
    for first in range(0, len(rows), ROWS_PER_FILE):
        append(run, name, rows[first : first + ROWS_PER_FILE])


@pytest.fixture(scope="module")
def banks(tmp_path_factory) -> list[Run]:
    """A bank, and another one of twice the size."""
    return [fill(run_on(tmp_path_factory.mktemp("growth") / "bank"), num) for num in (NUM, 2 * NUM)]


@contextmanager
def nothing_done(run: Run, stage: Stage) -> Iterator[None]:
    """All items of the stage are pending: it has a new recipe, and the stages above it keep theirs."""
    before = run.recipes[stage.table]
    run.recipes[stage.table] = replace(before, code_version=before.code_version + 1)
    try:
        yield
    finally:
        run.recipes[stage.table] = before


def cost_of(run: Run, source: Source | None, stage: Stage) -> Cost:
    """What finding the pending items and reading all their rows costs."""
    opened = OpenedFiles(Path(run.workspace.uri))
    before, num_rows = bytes_read(), 0
    try:
        pending = source.pending() if source else run.pending(stage)
        for rows in pending.rows:
            assert isinstance(rows, pa.Table)
            num_rows += rows.num_rows
        return Cost(bytes_read() - before, opened.count(), num_rows)
    finally:
        opened.close()


def costs(banks: list[Run], stage: Stage, done: bool) -> list[Cost]:
    """The costs of a stage in both banks: the smaller one of two tries, as the first one may import modules."""
    found = []
    for run in banks:
        with nullcontext() if done else nothing_done(run, stage):
            found.append(min((cost_of(run, None, stage) for _ in range(2)), key=lambda cost: cost.num_opened))
    return found


def check(small: Cost, large: Cost) -> None:
    assert small.num_bytes > 0 and large.num_bytes <= MAX_GROWTH * small.num_bytes, (small, large)
    assert small.num_opened > 0 and large.num_opened <= MAX_GROWTH * small.num_opened, (small, large)


@pytest.mark.parametrize("name", READING)
def test_reading_all_rows_of_a_stage_costs_twice_for_twice_the_rows(banks, name):
    [stage] = [stage for stage in STAGES if stage.name == name]
    small, large = costs(banks, stage, done=False)
    is_of_tars = name.startswith("read_")
    expected = [NUM_TARS] * 2 if is_of_tars else [NUM, 2 * NUM]
    assert [small.num_rows, large.num_rows] == expected
    check(small, large)


@pytest.mark.parametrize("name", [name for name in READING if name != "score"])  # no picture has scores
def test_finding_nothing_to_do_costs_twice_for_twice_the_rows(banks, name):
    [stage] = [stage for stage in STAGES if stage.name == name]
    small, large = costs(banks, stage, done=True)
    assert small.num_rows == large.num_rows == 0
    check(small, large)


def pictures_of(run: Run) -> RenderSource:
    return RenderSource(run, jobs_of(run, {"seeds": 2}))


def test_jobs_cost_twice_for_twice_the_cues(banks):
    [stage] = [stage for stage in STAGES if stage.name == "render"]
    small, large = (
        min((cost_of(run, pictures_of(run), stage) for _ in range(2)), key=lambda cost: cost.num_opened)
        for run in banks
    )
    assert [small.num_rows, large.num_rows] == [2 * NUM, 4 * NUM]
    check(small, large)
