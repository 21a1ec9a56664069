"""Shards: whole or not there, and every member found again."""

import errno
import shutil
import tarfile
from pathlib import Path

import pytest
from botocore.exceptions import ConnectionClosedError

from aai.errors import BadItem, Transient
from aai.workspace import Workspace
from aai.workspace.maintenance import remove_garbage
from aai.workspace.shards import MemberLocation, ShardWriter, read_next, read_picture

RECIPE = "ab12"
PICTURES = {f"{number:032x}": bytes([number]) * (300 + 400 * number) for number in range(5)}


def write(workspace: Workspace) -> list[MemberLocation]:
    with ShardWriter(workspace, "renders", RECIPE, "png") as shard:
        placed = []
        for key, data in PICTURES.items():
            placed.append(shard.add(key, "png", data))
            shard.add(key, "json", b"{}")
    return placed


@pytest.fixture(params=["local", "bucket"])
def workspace(request, tmp_path) -> Workspace:
    return Workspace(tmp_path / "bank" if request.param == "local" else f"memory://{tmp_path.name}")


def test_every_picture_is_found_by_its_row_and_by_its_name(workspace):
    locations = write(workspace)
    with (
        workspace.store.filesystem.open(workspace.store.path(locations[0].shard)) as file,
        tarfile.open(fileobj=file) as archive,
    ):
        members = {entry.name: archive.extractfile(entry).read() for entry in archive}
    for location in locations:
        assert read_picture(workspace, vars(location)) == PICTURES[location.key]
        assert members[f"{location.key}.png"] == PICTURES[location.key]
        assert members[f"{location.key}.json"] == b"{}"


def test_the_member_after_a_picture_is_found_by_its_suffix(workspace):
    with ShardWriter(workspace, "renders", RECIPE, "masked-png") as shard:
        location = vars(shard.add("0", "png", b"p" * 600))
        shard.add("0", "mask.png", b"m" * 700)
        other = vars(shard.add("1", "png", b"p" * 512))
        shard.add("1", "json", b"{}")
    assert read_next(workspace, location, "mask.png") == b"m" * 700
    assert read_next(workspace, other, "mask.png") is None
    with pytest.raises(BadItem) as error:
        read_next(workspace, location | {"shard": "shards/gone.tar"}, "mask.png")
    assert error.value.uri.endswith("gone.tar")
    with pytest.raises(BadItem, match="damaged"):
        read_next(workspace, location | {"offset": location["offset"] + 512}, "mask.png")


def test_two_shards_never_have_the_same_name(workspace):
    assert write(workspace)[0].shard != write(workspace)[0].shard
    assert len(workspace.store.files("shards")) == 2


def test_of_a_shard_that_failed_nothing_is_left(workspace):
    with pytest.raises(RuntimeError), ShardWriter(workspace, "renders", RECIPE, "png") as shard:
        shard.add("a", "png", b"half")
        raise RuntimeError("the model broke")
    assert workspace.store.files("shards") == []


def test_a_shard_without_a_member_is_not_written(workspace):
    with ShardWriter(workspace, "renders", RECIPE, "png"):
        pass
    assert workspace.store.files("shards") == []


def test_a_shard_that_no_row_names_is_an_orphan(tmp_path):
    workspace = Workspace(tmp_path / "bank")
    shard = write(workspace)[0].shard
    assert workspace.health().orphan_shards == [shard]


def test_a_picture_that_is_damaged_or_missing_is_a_bad_item(tmp_path):
    workspace = Workspace(tmp_path / "bank")
    location = write(workspace)[1]
    path = Path(workspace.store.path(location.shard))
    with tarfile.open(path) as archive:
        assert archive.getmember(f"{location.key}.png").offset_data == location.offset
    whole = path.read_bytes()
    flipped = bytearray(whole)
    flipped[location.offset] ^= 1
    for data in (flipped, whole[: location.offset + 5], b""):
        path.write_bytes(data)
        with pytest.raises(BadItem, match=f"{location.key} is damaged: copy the shard again") as error:
            read_picture(workspace, vars(location))
        assert error.value.uri == workspace.store.uri(location.shard)
    path.unlink()
    with pytest.raises(BadItem, match="the shard is not there") as error:
        read_picture(workspace, vars(location))
    assert error.value.uri == workspace.store.uri(location.shard)


def test_a_full_disk_is_said_and_leaves_no_part_of_a_shard(tmp_path, monkeypatch):
    workspace = Workspace(tmp_path / "bank")

    def full(source, target):
        target.write(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(shutil, "copyfileobj", full)
    with pytest.raises(Transient, match=f"writing {tmp_path}.* failed: no space left on the disk: make room"):
        write(workspace)
    assert workspace.store.files() == []


def test_a_part_that_a_killed_process_left_is_found_and_pruned(tmp_path):
    workspace = Workspace(tmp_path / "bank")
    part = write(workspace)[0].shard + ".part"
    Path(workspace.store.path(part)).touch()
    assert part in workspace.health().orphan_shards
    assert part in remove_garbage(workspace, 0.0).shards and workspace.store.files("shards") == []


def test_a_bucket_whose_connection_breaks_is_transient(tmp_path, monkeypatch):
    workspace = Workspace(f"memory://{tmp_path.name}")
    row = vars(write(workspace)[0])

    def lost(*args, **options):
        raise ConnectionClosedError(endpoint_url="http://s3")

    for name in ("open", "cat_file"):
        monkeypatch.setattr(workspace.store.filesystem, name, lost)
    with pytest.raises(Transient, match=r"writing memory://.* failed \(ConnectionClosedError\)"):
        write(workspace)
    with pytest.raises(Transient, match="reading memory://"):
        read_picture(workspace, row)
