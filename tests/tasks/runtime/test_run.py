"""Recipes follow from the configuration alone: a changed option renames what depends on it, and nothing else."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from aai.errors import BadConfig
from aai.profiles import PROFILES
from tasks.runtime.run import Run
from tasks.stages import STAGES, make_config, open_run

LISTINGS = {"image_listing", "audio_listing", "image_members", "audio_members"}
ALL = {table for stage in STAGES for table in (stage.table, *stage.also)}
AFTER_RETRIEVAL = {"neighbours", "confidences", "mapper", "cues", "renders", "scores"}
ENCODED = {"image_vectors", "audio_vectors", "index", *AFTER_RETRIEVAL}


def run_on(tmp_path, **keys) -> Run:
    keys = {"train_mapper": {"method": "learned"}} | keys
    return open_run(make_config(workspace=str(tmp_path / "bank"), **keys))


def recipes_of(tmp_path, **keys) -> dict[str, str]:
    return {name: recipe.name for name, recipe in run_on(tmp_path, **keys).recipes.items()}


@pytest.mark.parametrize(
    ("keys", "changed"),
    [
        ({}, set()),
        ({"fit": {"steps": 3}}, {"cues", "renders", "scores"}),
        ({"fit": {"max_rows": 3}, "train_mapper": {"method": "learned", "max_rows": 3}}, set()),
        ({"embed": {"batch_size": 2}, "pool": {"num_workers": 0}, "pools": {"fit": {"slice_size": 3}}}, set()),
        ({"run": {"commit_s": 9}, "render": {"steps": 9, "batch_size": 3}, "score": {"batch_size": 1}}, set()),
        ({"metadata": ["labels.csv"], "audio": ["more"]}, set()),
        ({"retrieve": {"num_neighbours": 3}}, AFTER_RETRIEVAL),
        ({"train_mapper": {"method": "learned", "steps": 3}}, {"mapper", "cues", "renders", "scores"}),
        ({"seed": 1}, {"index", *AFTER_RETRIEVAL}),
        ({"ingest": {"images": {"max_pixels": 1000}}},
         {"images", "image_files", "image_vectors", "index", *AFTER_RETRIEVAL}),
        ({"models": {"audio": "someone/clap@" + "a" * 40}},
         {"audio_vectors", "aligned_vectors", "index", *AFTER_RETRIEVAL}),
        ({"models": {"dtype": "bfloat16"}}, {"aligned_vectors", "measures", *ENCODED}),
        ({"score": {"num_others": 3}}, {"scores"}),
    ],
)  # fmt: skip
def test_a_change_renames_what_depends_on_it_and_nothing_else(tmp_path, keys, changed):
    before, after = recipes_of(tmp_path), recipes_of(tmp_path, **keys)
    assert before.keys() == after.keys() == ALL
    assert {name for name in ALL if before[name] != after[name]} == changed


def test_the_numeric_type_is_part_of_the_recipes_of_the_models_that_compute_in_it(tmp_path):
    run = run_on(tmp_path, models={"dtype": "bfloat16"})
    assert run.recipes["image_vectors"].models["image_text"].endswith("/bfloat16")
    assert run.recipes["cues"].models["diffusion"].endswith("/bfloat16")
    assert "bfloat16" not in run.recipes["aligned_vectors"].models["aligner"]


def test_a_stage_that_a_configuration_does_not_need_has_no_recipe_and_does_nothing(tmp_path):
    run = run_on(tmp_path, train_mapper={"method": "shipped"})
    assert "mapper" not in run.recipes and run.recipes["cues"].models.keys() == {"diffusion", "mapper"}
    summary = run.do(run.stage_of("mapper"))
    assert (summary.stage, summary.new, summary.done) == ("train_mapper", 0, 0)
    assert run.workspace.table("runs").read().num_rows == 0


def test_a_recipe_is_stored_once(tmp_path):
    run = run_on(tmp_path, fit={"steps": 3})
    run.register("cues")
    run.register("cues")
    [row] = run.workspace.table("recipes").read().to_pylist()
    assert (row["stage"], row["recipe"], json.loads(row["options"])["steps"]) == ("fit", run.recipe("cues"), 3)
    upstream = {name: run.recipe(name) for name in ("neighbours", "aligned_vectors", "mapper")}
    assert json.loads(row["upstream"]) == upstream


def test_an_artifact_is_made_once(tmp_path):
    run = run_on(tmp_path)

    def make(folder, beat):
        (folder / "numbers").write_text("1 2 3")
        return 3

    first, second = (run.make_artifact("index", 1, make) for _ in range(2))
    assert (first.new, second.new, second.done) == (3, 0, 1)
    assert [row["new"] for row in run.workspace.table("runs").read().to_pylist()] == [3]


def test_an_artifact_that_could_not_be_made_is_made_by_the_next_run(tmp_path):
    run = run_on(tmp_path)

    def fail(folder, beat):
        (folder / "half").write_text("1 2")
        raise BadConfig("no images", key="images")

    with pytest.raises(BadConfig, match="no images"):
        run.make_artifact("index", 1, fail)
    assert run.make_artifact("index", 1, lambda folder, beat: (folder / "all").write_text("1 2 3")).new == 5


@pytest.mark.parametrize(("role", "model"), [("diffusion", "nowhere"), ("aligner", None)])
def test_the_error_names_the_model_that_cannot_be_found(tmp_path, role, model):
    with pytest.raises(BadConfig) as error:
        recipes_of(tmp_path, models={role: model})
    assert error.value.key == f"models.{role}"


def test_workers_get_all_recipes_and_the_revisions_of_the_models_in_use(tmp_path):
    run = run_on(tmp_path)
    context = run.context()
    assert context.recipes == recipes_of(tmp_path)
    assert context.revisions.keys() == {"audio", "image_text", "aligner", "diffusion", "judge"}
    assert context.revisions["diffusion"] == run.revision("diffusion")


def test_planning_loads_no_model_library():
    modules = "import sys, tasks.stages, tasks.views.plan"
    probe = f"{modules}; print(*sorted({{'torch', 'ray', 'prefect', 'transformers'}} & sys.modules.keys()))"
    ran = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True)
    assert ran.stdout.split() == []


def test_a_damaged_model_is_a_sentence_before_any_work(tmp_path):
    mapper = Path(shutil.copytree(PROFILES["tiny"]["models"]["mapper"], tmp_path / "mapper"))
    weights = load_file(mapper / "model.safetensors")
    save_file({name: np.full_like(values, np.nan) for name, values in weights.items()}, mapper / "model.safetensors")
    run = open_run(make_config(workspace=str(tmp_path / "bank"), models={"mapper": str(mapper)}))
    for act in (lambda: run.do(run.stages[0]), run.check_models):
        with pytest.raises(BadConfig, match="is not finite") as error:
            act()
        assert (error.value.key, error.value.uri) == ("models.mapper", str(mapper / "model.safetensors"))
    assert not (tmp_path / "bank").exists()
