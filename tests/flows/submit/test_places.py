"""Folders that only this machine sees are refused where several nodes work together."""

from types import SimpleNamespace

import psutil
import pytest
import yaml

from aai.errors import BadConfig
from flows.submit.places import file_system_of, missing_faults, place_faults, pod_faults
from flows.submit.submission import Submission, make_training_submission
from tests.flows.submit.submissions import ON_BUCKETS, submission


def first(made: Submission) -> None:
    """Raise the first fault of the places of a submission.

    Raises:
        BadConfig: there is one.
    """
    for fault in place_faults(made):
        raise fault


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
    first(submission(tmp_path, workspace=path))


@pytest.mark.parametrize("key", ["workspace", "audio", "images", "metadata"])
def test_a_local_disk_is_refused_with_its_key(mounts, tmp_path, key):
    with pytest.raises(BadConfig, match=r"/scratch/local/x is on a disk of this machine \(xfs\)") as error:
        first(submission(tmp_path, **{key: "/scratch/local/x"}))
    assert error.value.key == key


def test_a_training_is_refused_with_its_own_keys(mounts, tmp_path):
    """Its workspace is in its output, and its sounds and images are its pairs; a bank's file has `submit`."""
    (tmp_path / "bank.yaml").write_text(yaml.safe_dump(ON_BUCKETS | {"workspace": "/home/me/bank"}))
    keys = {"config": "bank.yaml", "output": "/home/me/trained", "pairs": {"folder": "/home/me/pairs"}}
    for key, change in (("output", {"output": "/var/trained"}), ("pairs.folder", {"pairs": {"folder": "/var/pairs"}})):
        (tmp_path / "pairs.yaml").write_text(yaml.safe_dump(keys | change))
        with pytest.raises(BadConfig, match="set submit.shared_disk in the file that its key `config` names") as error:
            first(make_training_submission(("align", "train"), tmp_path / "pairs.yaml", {}))
        assert (error.value.key, error.value.uri) == (key, str(tmp_path / "pairs.yaml"))
        assert ("a bucket URL" in error.value.sentence) == (key != "output"), "a training is written to a disk"
    (tmp_path / "pairs.yaml").write_text(yaml.safe_dump(keys))
    first(make_training_submission(("align", "train"), tmp_path / "pairs.yaml", {}))
    (tmp_path / "bank.yaml").write_text(yaml.safe_dump(ON_BUCKETS | {"workspace": "/var/bank"}))
    with pytest.raises(BadConfig) as error:
        first(make_training_submission(("align", "train"), tmp_path / "pairs.yaml", {}))
    assert (error.value.key, error.value.uri) == ("workspace", str(tmp_path / "bank.yaml"))


def test_the_user_knows_better(mounts, tmp_path):
    first(submission(tmp_path, workspace="/var/bank", submit={"shared_disk": True}))


def test_a_volume_of_pods_does_not_make_a_local_disk_shared(mounts, tmp_path):
    with pytest.raises(BadConfig, match="/var/bank is on a disk of this machine") as error:
        first(submission(tmp_path, workspace="/var/bank", submit={"volumes": {"claim": "/var"}}))
    assert error.value.key == "workspace"


@pytest.mark.parametrize("path", ["/var/bank", "/home/me/bank"])
def test_pods_see_buckets_and_their_volumes_alone(mounts, tmp_path, path):
    """Not the network file systems of this machine either, whatever `submit.shared_disk` says."""
    assert list(pod_faults(submission(tmp_path, models={"aligner": "/in/the/image"}))) == []
    assert (
        list(pod_faults(submission(tmp_path, workspace=path, submit={"volumes": {"a": "/var", "b": "/home/me"}}))) == []
    )
    wrong = {"volumes": {"models": "/models"}, "shared_disk": True}
    [fault] = pod_faults(submission(tmp_path, workspace=path, submit=wrong))
    assert fault.key == "workspace" and f"{path} is in no volume that pods mount" in fault.sentence
    [fault] = pod_faults(submission(tmp_path, workspace="bogus://bank"))
    assert fault.key == "workspace"


def test_a_local_disk_by_its_url_is_local_and_an_unknown_scheme_is_named(mounts, tmp_path):
    with pytest.raises(BadConfig, match="/var/bank is on a disk of this machine"):
        first(submission(tmp_path, workspace="file:///var/bank"))
    with pytest.raises(BadConfig, match="bogus:// is no kind of place that is known") as error:
        first(submission(tmp_path, workspace="bogus://bank"))
    assert error.value.key == "workspace"


def test_models_and_photos_on_a_local_disk_are_refused(mounts, tmp_path):
    (tmp_path / "model").mkdir()
    with pytest.raises(BadConfig, match="model is on a disk of this machine") as error:
        first(submission(tmp_path, models={"aligner": str(tmp_path / "model")}))
    assert error.value.key == "models.aligner"
    for key, value in (("audio", "./model"), ("judge", {"kind": "tiny", "folder": "model"})):
        with pytest.raises(BadConfig, match="model is on a disk of this machine") as error:
            first(submission(tmp_path, models={key: value}))
        assert error.value.key == f"models.{key}"
    elsewhere = submission(tmp_path, models={"aligner": "/models/aligner"})
    first(elsewhere)  # the image may have it
    assert [fault.key for fault in missing_faults(elsewhere)] == ["models.aligner"], "with Slurm it is missing"
    jobs = [
        {
            "prompt": "a * city",
            "mode": "edit",
            "source_images": [str(tmp_path / "photo.png")],
            "source_prompt": "a city",
        }
    ]
    (tmp_path / "jobs.yaml").write_text(yaml.safe_dump(jobs))
    with pytest.raises(BadConfig, match="photo.png is on a disk of this machine") as error:
        first(submission(tmp_path, ("render", "jobs.yaml", "-c", "aai.yaml")))
    assert (error.value.key, error.value.uri) == ("source_images", str(tmp_path / "jobs.yaml"))


def test_every_location_is_looked_at(mounts, tmp_path):
    faults = place_faults(submission(tmp_path, workspace="/var/bank", audio=["/var/a", "s3://b/a", "/var/b"]))
    assert [(fault.key, fault.sentence.split()[0]) for fault in faults] == [
        ("workspace", "/var/bank"), ("audio", "/var/a"), ("audio", "/var/b"),
    ]  # fmt: skip


def test_what_is_read_and_does_not_exist_is_named_where_nodes_see_this_disk(tmp_path):
    (tmp_path / "sounds").mkdir()
    (tmp_path / "sounds" / "rain.wav").touch()
    locations = {"audio": ["sounds", "sounds/*.wav", "sound", "sounds/*.flac"], "images": "s3://bucket/images"}
    faults = list(missing_faults(submission(tmp_path, workspace="new", metadata="said.csv", **locations)))
    names = ["sound", "sounds/*.flac", "said.csv"]
    assert [fault.key for fault in faults] == ["audio", "audio", "metadata"]
    assert [fault.sentence.split(" does not exist")[0] for fault in faults] == [str(tmp_path / name) for name in names]
