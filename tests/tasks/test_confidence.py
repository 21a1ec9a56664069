"""Confidence: copies of a clip that are heard alike, and find its images, make it sure."""

import numpy as np
import pytest

from aai.align.confidence import LOW, confidence_of
from aai.jobs.selection import CueFilter, select_cues
from aai.media.altered import altered
from flows.app.doctor import examine
from tasks.runtime.run import Run
from tasks.stages import CONFIDENCES
from tasks.views.confidence import low_confidences
from tasks.views.plan import plan
from tests.bank import append, rows_of
from tests.collection import NUM_CLIPS, build, run_on

RATE_HZ = 8_000
EAST, NORTH = np.eye(2, dtype=np.float32)
MANY = np.tile(NORTH, (9, 1))


def test_a_clip_whose_copies_are_heard_alike_and_find_its_images_is_sure():
    sure = confidence_of(EAST, np.tile(EAST, (4, 1)), EAST[None], MANY)
    assert sure == (1, 1, 1)


def test_copies_that_are_heard_as_something_else_make_it_unsure():
    half = confidence_of(EAST, np.stack([EAST, NORTH, EAST, NORTH]), EAST[None], MANY)
    assert half.margin == 0.5 and half.agreement == pytest.approx(0.4)  # four of ten pairs
    assert half.confidence == half.agreement * half.margin < LOW
    assert confidence_of(EAST, np.tile(NORTH, (4, 1)), EAST[None], MANY).confidence == 0


def test_images_that_other_clips_match_better_make_it_unsure():
    own, copies = NORTH * 0.8 + EAST * 0.6, np.tile(NORTH * 0.8 + EAST * 0.6, (3, 1))
    alone = confidence_of(own, copies, EAST[None], MANY)
    beside = confidence_of(own, copies, EAST[None], np.vstack([MANY, np.tile(EAST, (4, 1))]))
    assert alone.margin == pytest.approx(1) and beside.margin == pytest.approx(0.6)
    assert confidence_of(own, copies, EAST[None], np.empty((0, 2), np.float32)).margin == pytest.approx(1)


def test_silence_beside_a_sound_makes_no_copy():
    noise = np.random.default_rng(0).standard_normal(RATE_HZ).astype(np.float32)
    assert [len(copy) for copy in altered(noise, RATE_HZ)] == [4_000, 4_000, 8_000, 8_000]
    padded = np.concatenate([noise, np.zeros_like(noise)])
    copies = altered(padded, RATE_HZ)
    assert [len(copy) for copy in copies] == [8_000, 16_000, 16_000]
    np.testing.assert_array_equal(copies[0], noise)
    np.testing.assert_array_equal(copies[1], padded[::-1])
    assert np.abs(copies[2]).max() == pytest.approx(np.abs(noise).max() / 4)


@pytest.fixture(scope="module")
def measured(shared_collection) -> Run:
    run = run_on(shared_collection, confidence={"method": "copies", "num_others": 3})
    build(run)
    assert run.do(CONFIDENCES).new == NUM_CLIPS
    return run


def test_every_clip_of_the_tiny_world_is_sure(measured):
    rows = rows_of(measured, "confidences")
    assert len(rows) == NUM_CLIPS and all(row["confidence"] > 0.6 for row in rows)
    assert {row["num_others"] for row in rows} == {2, 3}, "a clip is not compared with itself"
    assert measured.do(CONFIDENCES).new == 0 and low_confidences(measured) == ""


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
    run = run_on(shared_collection, confidence={"method": "copies", "num_others": 2})
    rows = rows_of(measured, "confidences")
    append(run, "confidences", [row | {"confidence": 0.1 + 0.3 * number} for number, row in enumerate(rows)])
    sentence = "2 of 4 clips have a confidence below 0.5"
    assert any(note.startswith(f"{sentence}: look at their images") for note in plan(run).notes)
    [found] = [finding for finding in examine(run) if "a confidence below" in finding.text]
    assert found.text.startswith(sentence) and not found.is_wrong
