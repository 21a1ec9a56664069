"""Confidence: copies of a clip that are heard alike, and find its images, make it sure."""

import shutil

import numpy as np
import pytest

from aai.align.confidence import LOW, ImageSpace, confidence_of
from aai.jobs.selection import CueFilter, select_cues
from aai.media.altered import altered
from flows.app.doctor import examine
from tasks.runtime.run import Run
from tasks.stages import CONFIDENCES
from tasks.views.confidence import doubts
from tasks.views.plan import plan
from tests.bank import append, rows_of
from tests.collection import NUM_CLIPS, build, run_on

RATE_HZ = 8_000
SURE = pytest.approx(0.982, abs=1e-3)
EAST, NORTH, UP = np.eye(3, dtype=np.float32)
IMAGES = np.stack([EAST, NORTH, -EAST, -NORTH])
SPACE = ImageSpace.of(IMAGES)


def test_a_clip_whose_copies_are_heard_alike_is_sure():
    sure = confidence_of(EAST, np.tile(EAST, (4, 1)), EAST[None], SPACE)
    assert sure == (SURE, 1, 1)
    assert confidence_of(EAST, np.tile(EAST, (4, 1)), np.empty((0, 3), np.float32), SPACE) == (SURE, 1, 0)


def test_copies_that_are_heard_as_something_else_make_it_unsure():
    half = confidence_of(EAST, np.stack([EAST, NORTH, EAST, NORTH]), EAST[None], SPACE)
    assert half.margin == 0.5 and half.agreement == pytest.approx(np.cos(np.radians(54)))  # six of ten pairs
    assert half.confidence < 0.2
    angle = np.radians(np.float32(40))
    even = np.cos(angle) * EAST + np.sin(angle) * NORTH
    assert confidence_of(EAST, even[None], EAST[None], SPACE).confidence == pytest.approx(LOW, abs=1e-5)


def test_what_images_have_in_common_and_what_sets_sounds_apart_from_them_does_not_count():
    """Encoders' vectors crowd into a cone, and those of sounds beside those of images; neither makes copies alike."""
    common, gap = 5 * UP, 2 * UP
    copies = np.stack([EAST, NORTH, EAST, NORTH])
    shifted = confidence_of(
        EAST + common + gap, copies + common + gap, EAST[None] + common, ImageSpace.of(IMAGES + common)
    )
    assert shifted == pytest.approx(confidence_of(EAST, copies, EAST[None], SPACE), abs=1e-5)


def test_images_that_do_not_differ_leave_the_whole_space():
    space = ImageSpace.of(np.tile(UP, (3, 1)))
    assert confidence_of(EAST, EAST[None], UP[None], space).agreement == 1
    assert confidence_of(EAST, NORTH[None], UP[None], space).agreement == pytest.approx(0)


def test_silence_beside_a_sound_makes_no_copy():
    noise = np.random.default_rng(0).standard_normal(RATE_HZ).astype(np.float32)
    assert [len(copy) for copy in altered(noise, RATE_HZ)] == [2_667, 2_667, 2_666, 8_000, 8_960, 7_120]
    padded = np.concatenate([noise, np.zeros_like(noise)])
    copies = altered(padded, RATE_HZ)
    assert [len(copy) for copy in copies] == [5_334, 5_333, 16_000, 17_920, 14_240]
    np.testing.assert_array_equal(copies[0], noise[:5_334])
    np.testing.assert_array_equal(copies[2], padded[::-1])


@pytest.fixture(scope="module")
def measured(shared_collection) -> Run:
    run = run_on(shared_collection, confidence={"method": "copies", "num_images": 11})
    build(run)
    assert run.do(CONFIDENCES).new == NUM_CLIPS
    return run


def test_every_clip_of_the_tiny_world_is_sure(measured):
    rows = rows_of(measured, "confidences")
    assert len(rows) == NUM_CLIPS and all(row["confidence"] > 0.6 for row in rows)
    assert {row["num_others"] for row in rows} == {11}
    assert measured.do(CONFIDENCES).new == 0
    few = "confidences were measured with 11 images; with fewer than 20 they say little"
    assert doubts(measured) == [few] and few in [finding.text for finding in examine(measured)]


def test_it_does_not_depend_on_which_clips_were_there_before(measured, shared_collection, tmp_path):
    """Rain on the first day, fire on the second: compared with rain alone, no rain stands out."""
    for name in ("images", "said.csv"):
        (tmp_path / name).symlink_to(shared_collection / name)
    (tmp_path / "sounds").mkdir()
    for phenomenon in ("rain", "fire"):
        for path in (shared_collection / "sounds").glob(f"{phenomenon}*"):
            shutil.copy(path, tmp_path / "sounds")
        run = run_on(tmp_path, confidence={"method": "copies", "num_images": 11})
        assert build(run, until="confidence")["confidence"].new == NUM_CLIPS / 2
    found, expected = rows_of(run, "confidences"), rows_of(measured, "confidences")
    assert [row["clip_id"] for row in found] == [row["clip_id"] for row in expected]
    assert [row["confidence"] for row in found] == pytest.approx([row["confidence"] for row in expected], abs=1e-5)


def test_a_clip_has_the_same_confidence_alone_as_among_others(measured):
    worker, rows = CONFIDENCES.worker(measured.context()), measured.pending(CONFIDENCES)
    assert rows.num == 0
    with measured.query() as query:
        pending = query.table(CONFIDENCES.rows)
    together = {row["clip_id"]: row["confidence"] for row in worker(pending).rows.to_pylist()}
    assert worker.halve_batch()
    for number in range(NUM_CLIPS):
        [row] = worker(pending.slice(number, 1)).rows.to_pylist()
        assert row["confidence"] == pytest.approx(together[row["clip_id"]], abs=1e-5)


def test_jobs_select_by_confidence(measured):
    with measured.query() as query:
        chosen = select_cues(query, CueFilter(where="confidence > 0.5"), ["clip_id", "confidence"], "cues")
        assert chosen.num_rows == NUM_CLIPS
        assert select_cues(query, CueFilter(where="confidence > 1"), ["clip_id"], "cues").num_rows == 0


def test_without_measuring_the_confidence_of_a_cue_is_unknown(measured, shared_collection):
    with run_on(shared_collection).query() as query:
        assert select_cues(query, CueFilter(where="confidence IS NULL"), ["clip_id"], "cues").num_rows == NUM_CLIPS


def test_plan_and_doctor_count_clips_of_which_it_is_not_sure(measured, shared_collection):
    run = run_on(shared_collection, confidence={"method": "copies", "num_images": 2})
    rows = rows_of(measured, "confidences")
    append(run, "confidences", [row | {"confidence": 0.1 + 0.3 * number} for number, row in enumerate(rows)])
    sentence = "2 of 4 clips have a confidence below 0.5"
    assert any(note.startswith(f"{sentence}: look at their images") for note in plan(run).notes)
    [found] = [finding for finding in examine(run) if "a confidence below" in finding.text]
    assert found.text.startswith(sentence) and not found.is_wrong
