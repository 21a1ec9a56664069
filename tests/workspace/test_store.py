"""Where a workspace can be, and what is never shown of it."""

import pytest

from aai.errors import BadConfig
from aai.workspace import RECIPE, Workspace
from tests.workspace.rows import HEALTHY, OLD, rows_of


@pytest.fixture
def workspace(tmp_path) -> Workspace:
    return Workspace(tmp_path / "bank")


@pytest.mark.parametrize("folder", ["my bank=1 é", "recipe=zz", "50% #1?", "a::b", 'it\'s "mine"', "{a,b}*"])
def test_a_folder_may_have_an_odd_name(tmp_path, folder):
    workspace = Workspace(tmp_path / folder)
    workspace.table("clips").append(OLD, rows_of("clips", ["a"]))
    assert workspace.table("clips").read(["clip_id", RECIPE]).to_pylist() == [{"clip_id": "a", RECIPE: OLD}]
    with workspace.query({"clips": OLD}) as query:
        query.keep_ids("pending", ["a"])
        query.narrow("pending", "clip_id", "SELECT clip_id FROM clips")
        assert query.table("SELECT clip_id FROM clips")["clip_id"].to_pylist() == ["a"]
    assert workspace.health() == HEALTHY


@pytest.mark.parametrize(
    ("folder", "sentence"),
    [
        ("file", "is not a folder that can be read"),
        ("a%20b", "Delta cannot handle '%20' in a path: choose another folder"),
        ("sounds [v2]", "Delta cannot handle '[' in a path"),
        ("a|b", "Delta cannot handle '|' in a path"),
        ("a\nb", r"Delta cannot handle '\n' in a path"),
    ],
)
def test_a_path_that_cannot_hold_a_workspace_is_refused(tmp_path, folder, sentence):
    (tmp_path / "file").touch()
    with pytest.raises(BadConfig) as error:
        Workspace(tmp_path / folder)
    assert (error.value.key, error.value.uri) == ("workspace", str(tmp_path / folder))
    assert sentence in error.value.sentence


def test_a_url_that_fsspec_cannot_open_is_refused():
    with pytest.raises(BadConfig, match="fsspec cannot open it") as error:
        Workspace("nowhere://bank")
    assert (error.value.key, error.value.uri) == ("workspace", "nowhere://bank")


def test_secrets_are_not_shown():
    with pytest.raises(BadConfig) as failure:
        Workspace("s3://key:hunter2@bucket/bank?token=hunter2")
    workspace = Workspace("memory://bank", {"AWS_SECRET_ACCESS_KEY": "hunter2"}, {"secret": "hunter2"})
    shown = [failure.value, workspace, workspace.store, workspace.table("cues"), workspace.artifact("index", OLD)]
    assert "hunter2" not in "".join(map(repr, shown))
