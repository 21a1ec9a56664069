"""Recipes follow from the configuration alone: a changed option names anew what hangs on it, and nothing else."""

import json
import subprocess
import sys

import pytest

from aai.errors import BadConfig
from tasks.runtime.config import make_config
from tasks.runtime.run import PLANS, open_run


def recipes_of(tmp_path, **keys) -> dict[str, str]:
    run = open_run(make_config(workspace=str(tmp_path / "bank"), **keys))
    return {name: run.recipe(name) for name in PLANS}


@pytest.mark.parametrize(
    ("keys", "changed"),
    [
        ({}, set()),
        ({"fit": {"steps": 3}}, {"cues", "renders", "scores"}),
        ({"fit": {"clips_at_once": 3}, "embed": {"batch_size": 2}, "pool": {"num_workers": 0}}, set()),
        ({"retrieve": {"num_neighbours": 3}}, {"neighbours", "cues", "renders", "scores"}),
        ({"seed": 1}, {"mapper", "cues", "renders", "scores"}),
        ({"ingest": {"images": {"max_pixels": 1000}}},
         {"images", "image_vectors", "index", "neighbours", "cues", "renders", "scores"}),
        ({"models": {"audio": "someone/clap@" + "a" * 40}},
         {"audio_vectors", "aligned_vectors", "neighbours", "cues", "renders", "scores"}),
    ],
)  # fmt: skip
def test_a_change_redoes_what_hangs_on_it_and_nothing_else(tmp_path, keys, changed):
    before, after = recipes_of(tmp_path), recipes_of(tmp_path, **keys)
    assert {name for name in PLANS if before[name] != after[name]} == changed


def test_what_a_recipe_stands_for_is_written_down_once(tmp_path):
    run = open_run(make_config(workspace=str(tmp_path / "bank"), fit={"steps": 3}))
    run.register("cues")
    run.register("cues")
    [row] = run.workspace.table("recipes").read().to_pylist()
    assert (row["stage"], row["recipe"], json.loads(row["options"])["steps"]) == ("fit", run.recipe("cues"), 3)
    assert json.loads(row["upstream"]) == {name: run.recipe(name) for name in ("neighbours", "mapper")}


def test_an_artifact_is_made_once(tmp_path):
    run = open_run(make_config(workspace=str(tmp_path / "bank")))

    def make(folder):
        (folder / "numbers").write_text("1 2 3")
        return 3

    first, second = (run.make_artifact("index", 1, make) for _ in range(2))
    assert (first.new, second.new, second.done) == (3, 0, 1)
    assert [row["new"] for row in run.workspace.table("runs").read().to_pylist()] == [3]


def test_a_model_that_is_not_named_rightly_is_named(tmp_path):
    with pytest.raises(BadConfig, match="models.diffusion: nowhere: no folder"):
        recipes_of(tmp_path, models={"diffusion": "nowhere"})
    with pytest.raises(BadConfig, match="models.mapper: none is named"):
        recipes_of(tmp_path, models={"mapper": None})


def test_planning_loads_no_model_library():
    modules = "import sys, tasks.runtime.run"
    probe = f"{modules}; print(*sorted({{'torch', 'ray', 'prefect', 'transformers'}} & sys.modules.keys()))"
    ran = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True)
    assert ran.stdout.split() == []
