"""Artifacts are seen whole or not at all, on disk and in a bucket."""

from pathlib import Path

import pytest

from aai.errors import Transient
from aai.workspace import Workspace
from aai.workspace.artifacts import leftovers
from tests.workspace.rows import NEW, OLD


@pytest.fixture
def workspace(tmp_path) -> Workspace:
    return Workspace(tmp_path / "bank")


def write_index(folder: Path, text: str) -> None:
    (folder / "parts").mkdir()
    (folder / "parts" / "0.faiss").write_text(text)
    (folder / "index.json").write_text("{}")


@pytest.fixture(params=["folder", "bucket"])
def store(request, tmp_path) -> Workspace:
    return Workspace(tmp_path / "bank" if request.param == "folder" else f"memory://{tmp_path.name}")


def test_an_artifact_is_seen_whole_or_not_at_all(store, tmp_path):
    index = store.artifact("index", OLD)
    with pytest.raises(RuntimeError, match="died"), index.publish() as folder:
        write_index(folder, "half")
        raise RuntimeError("died")
    assert not index.exists() and store.artifacts() == []
    with pytest.raises(FileNotFoundError, match="index of ab12 is not published"):
        index.fetch(tmp_path / "copy")
    with index.publish() as folder:
        write_index(folder, "whole")
        assert not index.exists()
    assert index.exists() and index.uri.startswith(store.uri)
    assert (index.fetch(tmp_path / "copy") / "parts" / "0.faiss").read_text() == "whole"
    assert leftovers(store.store, store.store.files("artifacts")) == []


def test_an_upload_that_breaks_off_publishes_nothing(tmp_path, monkeypatch):
    bucket = Workspace(f"memory://{tmp_path.name}")
    index, files = bucket.artifact("index", OLD), bucket.store.filesystem

    def full(path, data, **_):
        raise OSError("full")

    monkeypatch.setattr(files, "pipe_file", full)  # the marker's way, last of all
    with pytest.raises(Transient, match="publishing memory://"), index.publish() as folder:
        write_index(folder, "half")
    monkeypatch.undo()
    assert not index.exists() and bucket.artifacts() == []
    left = leftovers(bucket.store, bucket.store.files("artifacts"))
    assert [path.split("/")[-1] for path in left] == ["index.json", "0.faiss"]
    with index.publish() as folder:
        write_index(folder, "whole")
    assert leftovers(bucket.store, bucket.store.files("artifacts")) == left


def test_artifacts_are_listed_with_their_versions(store):
    for name, recipe, version in [("index", NEW, 2), ("mapper", OLD, 1), ("index", NEW, 10), ("index", OLD, 1)]:
        with store.artifact(name, recipe, version).publish() as folder:
            write_index(folder, name)
    found = [(artifact.name, artifact.recipe, artifact.version) for artifact in store.artifacts()]
    assert found == [("index", OLD, 1), ("index", NEW, 2), ("index", NEW, 10), ("mapper", OLD, 1)]


def test_two_who_publish_at_a_time_do_not_mix(store, tmp_path):
    index = store.artifact("index", OLD)
    with index.publish() as one, index.publish() as other:
        write_index(other, "other")
        write_index(one, "one")
        (one / "one").touch(), (other / "other").touch()
    folder = index.fetch(tmp_path / "copy")
    said = (folder / "parts" / "0.faiss").read_text()
    assert sorted(path.name for path in folder.iterdir()) == sorted([said, "index.json", "parts"])


@pytest.mark.parametrize("name", ["../up", "", "a/b", ".hidden"])
def test_names_lead_nowhere_else(workspace, name):
    with pytest.raises(ValueError, match="cannot name a file"):
        workspace.artifact(name, OLD)
    with pytest.raises(ValueError, match="cannot name a file"):
        workspace.shard_path("renders", OLD, name)
    with pytest.raises(ValueError, match="is not a recipe"):
        workspace.artifact("index", name)
