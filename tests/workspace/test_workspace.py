"""The workspace as one object: sent to workers, and light to import."""

import pickle
import subprocess
import sys

import pytest

from aai.workspace import Workspace
from tests.workspace.rows import OLD, rows_of


@pytest.fixture
def workspace(tmp_path) -> Workspace:
    return Workspace(tmp_path / "bank")


def test_a_workspace_can_be_sent_to_workers(workspace):
    workspace.table("clips").append(OLD, rows_of("clips", ["a"]))
    workspace.health()
    assert pickle.loads(pickle.dumps(workspace)).table("clips").ids(OLD).to_pylist() == ["a"]


def test_importing_the_workspace_pulls_in_nothing_heavy():
    probe = "import sys, aai.workspace; sys.exit(bool({'torch', 'ray', 'prefect'} & sys.modules.keys()))"
    assert subprocess.run([sys.executable, "-c", probe]).returncode == 0


def test_a_table_or_recipe_that_cannot_be_is_refused(workspace):
    with pytest.raises(ValueError, match="no table 'colours': choose one of recipes, runs, audio_listing"):
        workspace.table("colours")
    for recipe in ("", "../up", "AB"):
        with pytest.raises(ValueError, match="is not a recipe"):
            workspace.table("clips").append(recipe, rows_of("clips", ["a"]))
