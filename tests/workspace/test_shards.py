"""Shards: whole or not there, and every member found again."""

import tarfile
from pathlib import Path

import pytest

from aai.errors import BadItem
from aai.workspace import Workspace
from aai.workspace.shards import Placed, ShardWriter, read_member, read_picture

RECIPE = "ab12"
PICTURES = {f"{number:032x}": bytes([number]) * (300 + 400 * number) for number in range(5)}


def write(workspace: Workspace) -> list[Placed]:
    with ShardWriter(workspace, "renders", RECIPE) as shard:
        placed = []
        for key, data in PICTURES.items():
            placed.append(shard.add(key, "png", data))
            shard.add(key, "json", b"{}")
    return placed


@pytest.fixture(params=["local", "bucket"])
def workspace(request, tmp_path) -> Workspace:
    return Workspace(tmp_path / "bank" if request.param == "local" else f"memory://{tmp_path.name}")


def test_every_picture_is_found_by_its_row_and_by_its_name(workspace):
    for place in write(workspace):
        assert read_picture(workspace, vars(place)) == PICTURES[place.key]
        assert read_member(workspace, place.shard, place.key, "png") == PICTURES[place.key]
        assert read_member(workspace, place.shard, place.key, "json") == b"{}"


def test_two_shards_never_have_the_same_name(workspace):
    assert write(workspace)[0].shard != write(workspace)[0].shard
    assert len(workspace.store.files("shards")) == 2


def test_of_a_shard_that_failed_nothing_is_left(workspace):
    with pytest.raises(RuntimeError), ShardWriter(workspace, "renders", RECIPE) as shard:
        shard.add("a", "png", b"half")
        raise RuntimeError("the model broke")
    assert workspace.store.files("shards") == []


def test_a_shard_without_a_member_is_not_written(workspace):
    with ShardWriter(workspace, "renders", RECIPE):
        pass
    assert workspace.store.files("shards") == []


def test_a_shard_that_no_row_names_is_an_orphan(tmp_path):
    workspace = Workspace(tmp_path / "bank")
    shard = write(workspace)[0].shard
    assert workspace.health().orphan_shards == [shard]


def test_what_is_missing_or_damaged_is_said(tmp_path):
    workspace = Workspace(tmp_path / "bank")
    place = write(workspace)[1]
    with pytest.raises(BadItem, match="no member other.png"):
        read_member(workspace, place.shard, "other", "png")
    path = Path(workspace.store.path(place.shard))
    with tarfile.open(path) as archive:
        assert archive.getmember(f"{place.key}.png").offset_data == place.offset
    data = bytearray(path.read_bytes())
    data[place.offset] ^= 1
    path.write_bytes(data)
    with pytest.raises(BadItem, match="is damaged"):
        read_picture(workspace, vars(place))
    path.write_bytes(b"no tar" * 400)
    with pytest.raises(BadItem, match="damaged or cut short"):
        read_member(workspace, place.shard, place.key, "png")
    path.unlink()
    for read in (lambda: read_picture(workspace, vars(place)), lambda: read_member(workspace, place.shard, "a", "png")):
        with pytest.raises(BadItem, match="the shard is not there"):
            read()
