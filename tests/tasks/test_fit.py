"""Every method gives every clip a cue, or says why not; a cue's row says which images it was fitted to."""

from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch

from aai.cues import denoising
from aai.cues.fit import Fitter
from aai.cues.options import MOST_ROWS, FitOptions
from aai.errors import Transient
from aai.models import row_memory
from tasks.fit import CUES, FittingWorker
from tasks.runtime import latents
from tasks.runtime.arrow import to_array
from tasks.runtime.run import Run
from tasks.runtime.work import WorkerRunner
from tasks.stages import make_config
from tasks.train_mapper import MAPPER
from tests.bank import rows_of
from tests.collection import NUM_CLIPS, build, run_on

QUICK = {"steps": 2, "eval_every": 1, "rows_per_step": 1, "eval_rows": 2}


@pytest.mark.parametrize("method", ["adapter", "inversion"])
def test_every_clip_is_fitted_and_its_row_says_how(shared_collection, method):
    run = run_on(shared_collection, fit=QUICK | {"method": method})
    done = run.do(CUES)
    assert (done.new, done.rejected) == (NUM_CLIPS, 0)
    neighbours = {row["clip_id"]: row["image_ids"] for row in rows_of(run, "neighbours")}
    for cue in rows_of(run, "cues"):
        assert cue["method"] == method
        assert len(cue["vector"]) == cue["num_tokens"] * cue["dim"] == 2 * 128
        assert cue["loss_after"] == min(cue["loss_curve"]) and cue["loss_before"] == cue["loss_curve"][0]
        assert (cue["steps"], len(cue["loss_curve"])) == (2, 3) or cue["stop_reason"] == "steady"
        assert cue["image_ids"] == neighbours[cue["clip_id"]] and cue["took_s"] > 0
        assert (cue["base_model"], cue["base_revision"]) == run.revision("diffusion")
    assert run.do(CUES).new == 0


def test_the_adapter_starts_as_the_mapper_and_inversion_ignores_audio(shared_collection):
    cues = {}
    for method in ("adapter", "mapper", "inversion"):
        run = run_on(shared_collection, fit=QUICK | {"method": method, "steps": 0})
        run.do(CUES)
        cues[method] = np.array([cue["vector"] for cue in rows_of(run, "cues")])
    np.testing.assert_allclose(cues["adapter"], cues["mapper"], atol=1e-5)
    assert np.ptp(cues["inversion"], axis=0).max() < 1e-6 < np.ptp(cues["mapper"], axis=0).max()


def test_the_mappers_cue_has_no_losses_and_no_images(shared_collection):
    run = run_on(shared_collection, fit={"method": "mapper"})
    run.do(CUES)
    for cue in rows_of(run, "cues"):
        assert (cue["loss_before"], cue["loss_curve"], cue["steps"], cue["stop_reason"], cue["image_ids"]) == (
            None, None, 0, None, [],
        )  # fmt: skip


def image_paths(run: Run) -> dict[str, str]:
    with run.query() as query:
        rows = query.table("SELECT image_id, uri FROM known_images").to_pylist()
    return {row["image_id"]: row["uri"] for row in rows}


def test_a_clip_whose_images_are_partly_unreadable_is_fitted_to_the_others(built, collection):
    run = run_on(collection, fit=QUICK | {"method": "adapter"})
    paths, neighbours = image_paths(run), rows_of(run, "neighbours")
    lost = neighbours[0]
    partial = next(row for row in neighbours if not set(row["image_ids"]) & set(lost["image_ids"]))
    gone = {*lost["image_ids"], partial["image_ids"][0]}
    for image_id in gone:
        with open(paths[image_id], "ab") as file:
            file.write(b"damage")
    without = {row["clip_id"] for row in neighbours if set(row["image_ids"]) <= gone}
    parts = [(row["clip_id"], id) for row in neighbours for id in row["image_ids"] if id in gone]
    parts = [(clip_id, image_id) for clip_id, image_id in parts if clip_id not in without]
    done = run.do(CUES)
    assert (done.new, done.rejected) == (NUM_CLIPS - len(without), len(without) + len(parts))
    [cue] = [cue for cue in rows_of(run, "cues") if cue["clip_id"] == partial["clip_id"]]
    assert cue["image_ids"] == partial["image_ids"][1:], "the images it was fitted to"
    rejects = run.workspace.table("rejects").read(recipe=run.recipe("cues")).to_pylist()
    assert {(row["part_of"], row["id"]) for row in rejects if row["part_of"]} == set(parts)
    [part] = [row for row in rejects if row["part_of"] == partial["clip_id"]]
    assert part["uri"] == paths[part["id"]] and "changed" in part["sentence"]
    whole = {row["id"]: row["sentence"] for row in rejects if not row["part_of"]}
    assert whole.keys() == without and all("none of its 2 images can be read" in text for text in whole.values())
    assert run.do(CUES).new == 0


def test_an_image_that_left_the_source_folders_is_a_rejected_part(built, collection):
    run = run_on(collection, fit=QUICK | {"method": "adapter"})
    [first, *_] = rows_of(run, "neighbours")
    paths = image_paths(run)
    Path(paths[first["image_ids"][0]]).unlink()
    run.do(run.stage_of("image_listing"))
    assert run.do(CUES).new == NUM_CLIPS
    [cue] = [cue for cue in rows_of(run, "cues") if cue["clip_id"] == first["clip_id"]]
    assert cue["image_ids"] == first["image_ids"][1:]
    rejects = run.workspace.table("rejects").read(recipe=run.recipe("cues")).to_pylist()
    assert (first["clip_id"], first["image_ids"][0]) in {(row["part_of"], row["id"]) for row in rejects}
    assert "no longer in the source folders" in rejects[0]["sentence"]


def test_a_transient_failure_of_a_neighbours_read_costs_no_fitted_cue(shared_collection, monkeypatch):
    read, fit, reads, fitted = latents.read_content, Fitter.fit, [], []

    def fail_once(uri, *others):
        reads.append(uri)
        if len(reads) == 3:
            raise Transient("the store failed", uri=uri)
        return read(uri, *others)

    def count(fitter, clips):
        for cue in fit(fitter, clips):
            fitted.append(cue.clip_id)
            yield cue

    monkeypatch.setattr(latents, "read_content", fail_once)
    monkeypatch.setattr(Fitter, "fit", count)
    pool = {"num_workers": 0, "backoff_s": 0, "slice_size": NUM_CLIPS}
    run = run_on(shared_collection, fit=QUICK | {"method": "adapter", "learning_rate": 1e-3}, pool=pool)
    assert run.do(CUES).new == NUM_CLIPS
    assert len(reads) > 3 and sorted(fitted) == sorted(set(fitted)) and len(fitted) == NUM_CLIPS


def fitted_with(run: Run, num_halvings: int = 0) -> np.ndarray:
    """The cues of all pending clips, fitted in this process."""
    runner = WorkerRunner("clip_id")
    runner.load(partial(FittingWorker, run.context()))
    done = runner.run(pa.concat_tables(run.pending(CUES).rows))
    assert done.num_halvings == num_halvings
    return to_array(done.outcome.rows.sort_by("clip_id")["vector"])


def test_short_memory_halves_the_micro_batch_and_changes_no_cue(shared_collection, monkeypatch):
    fit = QUICK | {"method": "adapter", "max_rows": 16, "prior_weight": 0.2}
    run, losses_of = run_on(shared_collection, fit=fit), denoising._micro_batch_losses
    expected = fitted_with(run)

    def small(model, cues, rows, max_rows):
        if max_rows > 4:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return losses_of(model, cues, rows, max_rows)

    monkeypatch.setattr(denoising, "_micro_batch_losses", small)
    np.testing.assert_allclose(fitted_with(run, num_halvings=2), expected, atol=1e-5)


def test_cues_without_a_mapper_depend_on_no_option_of_its_training(shared_collection):
    recipes = {
        (method, steps): run_on(
            shared_collection, train_mapper={"method": "learned", "steps": steps}, fit={"method": method}
        ).recipe("cues")
        for method in ("inversion", "adapter")
        for steps in (1, 2)
    }
    assert recipes["inversion", 1] == recipes["inversion", 2]
    assert recipes["adapter", 1] != recipes["adapter", 2]


@pytest.mark.parametrize("model", ["sd15_folder", "sdxl_folder"])
def test_shrunk_models_of_the_real_shapes_train_and_fit(shared_collection, model, request):
    run = run_on(
        shared_collection,
        models={"diffusion": str(request.getfixturevalue(model))},
        train_mapper={"method": "learned", "steps": 1, "batch_size": 2},
        fit=QUICK | {"method": "adapter"},
    )
    assert (run.do(MAPPER).new, run.do(CUES).new) == (NUM_CLIPS, NUM_CLIPS)
    dim = {"sd15_folder": 32, "sdxl_folder": 32 + 48}[model]
    assert {(cue["num_tokens"], cue["dim"]) for cue in rows_of(run, "cues")} == {(2, dim)}


@pytest.mark.parametrize("fit", [{}, {"rows_per_step": 1}, {"max_rows": 512}])
def test_a_slice_holds_twice_the_clips_of_the_largest_pass(fit):
    """So that a clip that stops early is replaced."""
    config = make_config(fit=fit)
    options = config.options(FitOptions)
    assert CUES.default_slice_size(config) >= 2 * ((options.max_rows or MOST_ROWS) // options.rows_per_step) >= 64


def test_rows_follow_from_free_memory_without_a_failure(shared_collection, monkeypatch):
    expected = fitted_with(run_on(shared_collection, fit=QUICK | {"method": "adapter", "learning_rate": 2e-3}))
    run, seen = run_on(shared_collection, fit=QUICK | {"method": "adapter", "learning_rate": 2e-3}), []
    micro_batches = denoising._micro_batch_losses

    def count(model, cues, rows, max_rows):
        seen.append(max_rows)
        return micro_batches(model, cues, rows, max_rows)

    monkeypatch.setattr(denoising, "_micro_batch_losses", count)
    monkeypatch.setattr(row_memory, "free_bytes", lambda device, share: share * 60 * 2**20)
    np.testing.assert_allclose(fitted_with(run), expected, atol=1e-5)
    assert set(seen) <= set(range(1, 8)), "a row of the tiny model takes 10 MiB or so"


def test_inversion_under_a_model_in_half_precision_gives_cues_in_float32(shared_collection, sd15_folder):
    models = {"diffusion": str(sd15_folder), "dtype": "bfloat16"}
    steps = {"steps": 4, "eval_every": 4, "rows_per_step": 8, "eval_rows": 8}
    run = run_on(shared_collection, models=models, fit=steps | {"method": "inversion"})
    done = build(run)
    assert (done["fit"].new, done["fit"].rejected) == (NUM_CLIPS, 0)
    cues = np.array([cue["vector"] for cue in rows_of(run, "cues")])
    assert np.isfinite(cues).all()
    assert not np.array_equal(cues, torch.from_numpy(cues).bfloat16().float().numpy()), "not rounded to bfloat16"
