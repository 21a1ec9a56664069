"""Pictures are encoded in threads behind the model, a bounded number of them, and written in their order."""

import json
import tarfile
from threading import Barrier, Event, Thread

import numpy as np
import pytest

from aai.edit.options import EditOptions
from aai.media.images import RENDERED, decode
from aai.models.options import RenderOptions
from aai.workspace.shards import ShardWriter
from tasks.combinations import PLAIN
from tasks.pictures import PictureWriter, Renders
from tasks.runtime.run import Run
from tests.bank import run_on

RENDERS = Renders(("model", "sha256:1"), "DDIMScheduler", "renders0000")
WAIT_S = 60.0


@pytest.fixture
def run(tmp_path) -> Run:
    return run_on(tmp_path / "bank")


def row_of(number: int, **options) -> dict:
    row = {"render_id": f"{number:032x}", "clip_ids": [], "prompt": "a city", "negative_prompt": "", "seed": number}
    row |= {"job": "job 1", "labels": [], "licences": [], "method": None, "image_uri": None}
    return PLAIN | row | {"options": RenderOptions(**options).model_dump_json()}


def grey(number: int) -> np.ndarray:
    return np.full((8, 8, 3), number, np.uint8)


class HalfEdited:
    """A picture whose right half is an edit."""

    def __call__(self) -> np.ndarray:
        return grey(0)

    def alpha(self) -> np.ndarray:
        return np.repeat(np.float32([[0, 0, 1, 1]]), 4, axis=0)


def shard_of(run: Run) -> ShardWriter:
    return ShardWriter(run.workspace, "renders", "renders0000", "png")


def members(run: Run) -> dict[str, bytes]:
    [path] = run.workspace.store.files("shards")
    with tarfile.open(run.workspace.store.path(path)) as tar:
        return {entry.name: tar.extractfile(entry).read() for entry in tar}


def test_pictures_are_finished_in_several_threads_and_written_in_order(run):
    together, last_first = Barrier(3), [Event() for _ in range(3)]
    last_first[2].set()

    def finished(number: int) -> np.ndarray:
        together.wait(WAIT_S)
        assert last_first[number].wait(WAIT_S)
        last_first[number - 1].set()
        return grey(number)

    with shard_of(run) as shard, PictureWriter(shard, RENDERS, 3) as writer:
        writer.add([row_of(number) for number in range(3)], [lambda n=number: finished(n) for number in range(3)])
    ids = [row_of(number)["render_id"] for number in range(3)]
    assert [row["render_id"] for row in writer.rows] == ids
    assert list(members(run)) == [f"{id}.{suffix}" for id in ids for suffix in ("png", "json")]
    assert [row["offset"] for row in writer.rows] == sorted(row["offset"] for row in writer.rows)


@pytest.mark.parametrize(("num_bytes", "num"), [(0, 2), (2**30, 1)])
def test_the_model_waits_while_two_batches_or_many_bytes_are_not_written(run, num_bytes, num):
    go_on, added = Event(), []

    def blocked() -> np.ndarray:
        assert go_on.wait(WAIT_S)
        return grey(0)

    def model(writer: PictureWriter) -> None:
        for number in range(4):
            writer.add([row_of(number)], [blocked], num_bytes)
            added.append(number)

    with shard_of(run) as shard, PictureWriter(shard, RENDERS, 2) as writer:
        thread = Thread(target=model, args=(writer,))
        thread.start()
        thread.join(0.5)
        assert thread.is_alive() and added == [0, 1][:num]
        go_on.set()
        thread.join(WAIT_S)
    assert added == [0, 1, 2, 3] and len(writer.rows) == 4


def test_a_picture_that_cannot_be_finished_ends_the_shard(run):
    def broken() -> np.ndarray:
        raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"), shard_of(run) as shard, PictureWriter(shard, RENDERS) as writer:
        writer.add([row_of(0), row_of(1)], [lambda: grey(0), broken])
    assert run.workspace.store.files("shards") == []


def test_the_interval_of_guidance_is_told_and_empty_without_one(run):
    rows = [row_of(0), row_of(1, guidance_interval=(0.28, 5.42))]
    with shard_of(run) as shard, PictureWriter(shard, RENDERS) as writer:
        writer.add(rows, [lambda: grey(0)] * 2)
    found = members(run)
    told = [json.loads(found[f"{row['render_id']}.json"])["guidance_interval"] for row in rows]
    assert told == ["", "(0.28, 5.42]"]
    assert b"0.28, 5.42]" in found[f"{rows[1]['render_id']}.png"]


@pytest.mark.parametrize("is_asked", [True, False])
def test_the_mask_of_an_edit_is_written_beside_it_on_request_and_its_share_into_the_table(run, is_asked):
    row = row_of(0) | {"edit": EditOptions(write_mask=is_asked).text(True), "source_prompt": "a city"}
    with shard_of(run) as shard, PictureWriter(shard, RENDERS) as writer:
        writer.add([row], [HalfEdited()])
    found, key = members(run), row["render_id"]
    assert list(found) == [f"{key}.{suffix}" for suffix in ("png", *["mask.png"] * is_asked, "json")]
    assert [row["mask_share"] for row in writer.rows] == [0.5]
    if is_asked:
        mask = decode(found[f"{key}.mask.png"], "", RENDERED).pixels
        assert mask.shape == (8, 8, 3) and (mask[:, :3] == 0).all() and (mask[:, 5:] == 255).all()
