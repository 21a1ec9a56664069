"""The stages learn and fit on a small bank: every method gives every clip a cue, or says why not."""

from pathlib import Path

import numpy as np
import pytest

from tasks.align import align
from tasks.embed import embed_audio, embed_images
from tasks.fit import fit
from tasks.index import build as index
from tasks.ingest import ingest_audio, ingest_images
from tasks.retrieve import retrieve_images
from tasks.runtime.config import make_config
from tasks.runtime.run import Run, open_run
from tasks.train_mapper import learn, load_mapper
from tests.collection import NUM_CLIPS, write_collection

QUICK = {"steps": 2, "check_every": 1, "rows_per_step": 1, "held_out_rows": 2}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return write_collection(tmp_path_factory.mktemp("collection"))


@pytest.fixture(scope="module")
def retrieved(folder) -> Run:
    """A bank in which every clip has its images."""
    run = run_on(folder)
    for stage in (ingest_images, ingest_audio, embed_images, embed_audio, index, align, retrieve_images):
        stage(run)
    return run


def run_on(folder: Path, bank: str = "bank", **keys) -> Run:
    keys = {"pool": {"num_workers": 0}, "retrieve": {"num_neighbours": 2}} | keys
    places = {"audio": str(folder / "sounds"), "images": str(folder / "images"), "workspace": str(folder / bank)}
    return open_run(make_config(metadata=str(folder / "said.csv"), **places, **keys))


def cues_of(run: Run) -> list[dict]:
    return run.workspace.table("cues").read(recipe=run.recipe("cues")).sort_by("clip_id").to_pylist()


@pytest.mark.parametrize("method", ["adapter", "inversion"])
def test_every_clip_is_fitted_and_its_row_says_how(folder, retrieved, method):
    run = run_on(folder, fit=QUICK | {"method": method})
    done = fit(run)
    assert (done.new, done.rejected) == (NUM_CLIPS, 0)
    for cue in cues_of(run):
        assert cue["method"] == method
        assert len(cue["vector"]) == cue["num_tokens"] * cue["dim"] == 2 * 128
        assert cue["loss_after"] == min(cue["loss_curve"]) and cue["loss_before"] == cue["loss_curve"][0]
        assert (cue["steps"], len(cue["loss_curve"])) == (2, 3) or cue["stop_reason"] == "steady"
        assert len(cue["image_ids"]) == 2 and cue["took_s"] > 0
    assert fit(run).new == 0


def test_the_adapter_starts_as_the_mapper_and_inversion_hears_nothing(folder, retrieved):
    cues = {}
    for method in ("adapter", "mapper", "inversion"):
        run = run_on(folder, fit=QUICK | {"method": method, "steps": 0})
        fit(run)
        cues[method] = np.array([cue["vector"] for cue in cues_of(run)])
    np.testing.assert_allclose(cues["adapter"], cues["mapper"], atol=1e-5)
    assert np.ptp(cues["inversion"], axis=0).max() < 1e-6 < np.ptp(cues["mapper"], axis=0).max()


def test_a_clip_whose_images_are_gone_is_rejected_and_the_others_are_fitted(tmp_path):
    run = run_on(write_collection(tmp_path / "mine"), fit=QUICK | {"method": "adapter"})
    for stage in (ingest_images, ingest_audio, embed_images, embed_audio, index, align, retrieve_images):
        stage(run)
    neighbours = run.workspace.table("neighbours").read(recipe=run.recipe("neighbours")).to_pylist()
    lost = neighbours[0]
    images = run.workspace.table("images").read(recipe=run.recipe("images")).to_pylist()
    for image in images:
        if image["image_id"] in lost["image_ids"]:
            Path(image["uri"].removeprefix("file://")).unlink()
    without = [row["clip_id"] for row in neighbours if set(row["image_ids"]) <= set(lost["image_ids"])]
    done = fit(run)
    assert (done.rejected, done.new) == (len(without), NUM_CLIPS - len(without))
    reject = run.workspace.table("rejects").read(recipe=run.recipe("cues")).to_pylist()[0]
    assert "none of its 2 images can be read any more" in reject["sentence"]


def test_a_bank_learns_its_own_mapper_once(folder, retrieved):
    learnt = {"method": "learned", "steps": 2, "batch_size": 2, "num_clips": 3}
    run = run_on(folder, learn=learnt, fit={"method": "mapper"})
    assert learn(run).new == 3
    assert (learn(run).new, learn(run).done) == (0, 1)
    assert load_mapper(run).num_rows == 2
    assert fit(run).new == NUM_CLIPS
    shipped = run_on(folder, fit={"method": "mapper"})
    assert shipped.recipe("cues") != run.recipe("cues")
    assert learn(shipped).new == 0


def test_what_has_no_mapper_does_not_hang_on_how_one_is_learned(folder):
    recipes = {
        (method, steps): run_on(folder, learn={"method": "learned", "steps": steps}, fit={"method": method}).recipe(
            "cues"
        )
        for method in ("text", "adapter")
        for steps in (1, 2)
    }
    assert recipes["text", 1] == recipes["text", 2]
    assert recipes["adapter", 1] != recipes["adapter", 2]


@pytest.mark.parametrize("model", ["sd15_folder", "sdxl_folder"])
def test_shrunk_models_of_the_real_shapes_learn_and_fit(folder, retrieved, model, request):
    run = run_on(
        folder,
        models={"diffusion": str(request.getfixturevalue(model))},
        learn={"method": "learned", "steps": 1, "batch_size": 2},
        fit=QUICK | {"method": "adapter"},
    )
    assert learn(run).new == NUM_CLIPS
    assert fit(run).new == NUM_CLIPS
    dim = {"sd15_folder": 32, "sdxl_folder": 32 + 48}[model]
    assert {(cue["num_tokens"], cue["dim"]) for cue in cues_of(run)} == {(2, dim)}


def test_images_by_label_alone_have_the_clips_label_whatever_is_heard(folder, retrieved):
    run = run_on(folder, retrieve={"method": "label", "num_neighbours": 3})
    done = retrieve_images(run)
    labels = {row["image_id"]: row["label"] for row in run.workspace.table("images").read().to_pylist()}
    clips = {row["clip_id"]: row["label"] for row in run.workspace.table("clips").read().to_pylist()}
    rows = run.workspace.table("neighbours").read(recipe=run.recipe("neighbours")).to_pylist()
    assert done.new == NUM_CLIPS == len(rows)
    for row in rows:
        assert len(row["image_ids"]) == 3
        assert {labels[image_id] for image_id in row["image_ids"]} == {clips[row["clip_id"]]}
    assert len({tuple(row["image_ids"]) for row in rows}) > 2  # another clip, other images


def test_a_clip_whose_label_no_image_has_is_rejected(tmp_path):
    folder = write_collection(tmp_path / "mine")
    said = folder / "said.csv"
    said.write_text(said.read_text().replace("rain-0.2.flac,rain", "rain-0.2.flac,drizzle"))
    run = run_on(folder, retrieve={"method": "label"})
    for stage in (ingest_images, ingest_audio, embed_images, embed_audio, index, align):
        stage(run)
    assert (retrieve_images(run).new, retrieve_images(run).new) == (NUM_CLIPS - 1, 0)
    [reject] = run.workspace.table("rejects").read(recipe=run.recipe("neighbours")).to_pylist()
    assert "no image has its label 'drizzle'" in reject["sentence"]
