"""A build with a joint encoder: clips and images in one space, then cues and a picture, and CLIP as the judge."""

from pathlib import Path

import numpy as np
import pytest

from aai import metrics
from aai.jobs.jobfile import make_jobs
from aai.models.joint import load_joint
from aai.models.revisions import resolve_revision
from tasks.render import RenderSectionOptions, render
from tasks.runtime.run import Run
from tasks.score import score
from tasks.stages import CONFIDENCES
from tests.collection import NUM_CLIPS, NUM_IMAGES, build, num_new, run_on, write_collection
from tests.models.joint_encoders import HAS_TIMM, write_gemma, write_pe_av

KINDS = [write_gemma, pytest.param(write_pe_av, marks=pytest.mark.skipif(not HAS_TIMM, reason="timm: make joint"))]
TRAINED = {"train_mapper": {"method": "learned", "steps": 1, "num_clips": 1}}


@pytest.fixture(scope="module", params=KINDS)
def built(request, tmp_path_factory, models_stay) -> Run:
    """A bank of a joint encoder, with its cues."""
    folder = write_collection(tmp_path_factory.mktemp("collection"))
    joint = request.param(folder / "joint")
    run = joint_run(folder, joint)
    assert {name: done.rejected for name, done in build(run).items() if done.rejected} == {}
    return run


def joint_run(folder: Path, joint: Path, **keys) -> Run:
    quick = {"render": {"guidance": 1}}
    return run_on(folder, models={"joint": str(joint)}, align={"method": "joint"}, **quick, **TRAINED, **keys)


def column(run: Run, table: str, name: str) -> list:
    with run.query() as query:
        return query.table(f"SELECT {name} FROM {table} ORDER BY ALL")[name].to_pylist()


def test_sounds_and_images_are_in_the_space_of_the_joint_encoder(built):
    folder = Path(built.config.models.joint.name)
    dim, (name, revision) = load_joint(folder).images.dim, resolve_revision(folder, None)
    for table, num in (("audio_vectors", NUM_CLIPS), ("image_vectors", NUM_IMAGES)):
        vectors = np.array(column(built, table, "vector"))
        assert vectors.shape == (num, dim)
        np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, rtol=1e-4)
        assert set(column(built, table, "model")) == {name} and set(column(built, table, "revision")) == {revision}


def test_there_is_nothing_to_align(built):
    assert column(built, "aligned_vectors", "vector") == column(built, "audio_vectors", "vector")
    assert built.recipes["aligned_vectors"].models == {}
    assert built.recipes["image_vectors"].models.keys() == built.recipes["audio_vectors"].models.keys() == {"joint"}


def test_clips_have_neighbours_and_cues_and_a_second_build_does_nothing(built):
    assert len(column(built, "neighbours", "clip_id")) == len(column(built, "cues", "clip_id")) == NUM_CLIPS
    assert num_new(built) == {}


def test_copies_of_a_clip_of_other_lengths_are_heard_by_the_joint_encoder(built):
    folder, joint = Path(built.config.audio[0]).parent, Path(built.config.models.joint.name)
    run = joint_run(folder, joint, confidence={"method": "copies"})
    done = run.do(CONFIDENCES)
    assert (done.new, done.rejected) == (NUM_CLIPS, 0)
    assert all(-1e-6 <= value <= 1 + 1e-6 for value in column(run, "confidences", "confidence"))


def test_pictures_are_scored_by_clip_against_prompts_and_by_the_joint_encoder_against_clips(built):
    options = built.config.options(RenderSectionOptions)
    jobs = make_jobs([{"prompt": "a photo of *", "steps": 1}], options.of_jobs)
    assert render(built, jobs).new == NUM_CLIPS
    assert score(built).new == NUM_CLIPS
    assert built.recipes["scores"].models.keys() == {"image_text", "joint", "judge"}
    found = dict(zip(column(built, "scores", "metric"), column(built, "scores", "value"), strict=False))
    assert {metrics.CLIP_SCORE, metrics.AIS_COSINE, metrics.AIS_RANK} <= found.keys()


def test_the_caption_bank_is_one_key_away_and_leaves_the_joint_encoder_out(built):
    keys = {"method": "labels", "audio_prompt": "*", "image_prompt": "*"}
    run = run_on(Path(built.config.audio[0]).parent, models={"joint": "/nowhere"}, align=keys)
    assert not any("joint" in recipe.models for recipe in run.recipes.values())
    assert run.recipe("audio_vectors") == run_on(Path(built.config.audio[0]).parent).recipe("audio_vectors")
