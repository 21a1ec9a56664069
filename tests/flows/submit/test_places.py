"""Folders that only this machine sees are refused where several nodes work together."""

from types import SimpleNamespace

import psutil
import pytest

from aai.errors import BadConfig
from flows.submit.places import check_places, file_system_of
from tests.flows.submit.submissions import submission


@pytest.fixture
def mounts(monkeypatch):
    found = [
        ("/", "ext4"),
        ("/home", "nfs4"),
        ("/scratch", "lustre"),
        ("/scratch/local", "xfs"),
        ("/j", "fuse.juicefs"),
    ]
    partitions = [SimpleNamespace(mountpoint=point, fstype=kind) for point, kind in found]
    monkeypatch.setattr(psutil, "disk_partitions", lambda all: partitions)


@pytest.mark.parametrize(
    "path, kind",
    [("/var/x", "ext4"), ("/home/me/bank", "nfs4"), ("/scratch/bank", "lustre"), ("/scratch/local/x", "xfs")],
)
def test_a_path_is_on_the_innermost_mount(mounts, path, kind):
    assert file_system_of(path) == kind


@pytest.mark.parametrize("path", ["/home/bank", "/scratch/bank", "/j/bank", "s3://bucket/bank"])
def test_buckets_and_network_file_systems_are_accepted(mounts, tmp_path, path):
    check_places(submission(tmp_path, workspace=path).config)


@pytest.mark.parametrize("key", ["workspace", "audio", "images", "metadata"])
def test_a_local_disk_is_refused_with_its_key(mounts, tmp_path, key):
    with pytest.raises(BadConfig, match=r"/scratch/local/x is on a disk of this machine \(xfs\)") as error:
        check_places(submission(tmp_path, **{key: "/scratch/local/x"}).config)
    assert error.value.key == key


@pytest.mark.parametrize("said", [{"shared_disk": True}, {"volumes": {"claim": "/data"}}])
def test_the_user_knows_better(mounts, tmp_path, said):
    check_places(submission(tmp_path, workspace="/var/bank", submit=said).config)
