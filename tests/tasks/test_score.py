"""The stage `score` on pictures whose truth is known: scenes of the tiny world, read by its own encoder and judge."""

import numpy as np
import pytest

from aai.metrics import MEANINGS
from aai.tiny.scenes import Scene, render
from aai.tiny.world import WEIGHTS
from tasks.runtime.run import Run
from tasks.score import score
from tasks.views.results import generations, results
from tests.gallery import JOBS, SOUNDS, add_clips, add_cues, add_renders, add_vectors, append, run_on

TRUE = [(sound.phenomenon, sound.intensity) for sound in SOUNDS]


def vectors_of_sounds() -> np.ndarray:
    """An ideal aligner's: where the encoder sees other pictures of what is heard."""
    from aai.models.clip import ImageTextEncoder

    scenes = [Scene("noun", name, None, level, 500 + number) for number, (name, level) in enumerate(TRUE)]
    return ImageTextEncoder(WEIGHTS / "clip").embed_images(render(scenes).pixels).numpy()


def bank(folder, shown=TRUE, **keys) -> Run:
    run = run_on(folder / "bank", **keys)
    clip_ids = add_clips(run, folder / "sounds")
    add_vectors(run, clip_ids, vectors_of_sounds())
    add_cues(run, clip_ids)
    add_renders(run, clip_ids, shown)
    return run


def values(run: Run, metric: str, job: str) -> list[float | None]:
    """A metric of a job's pictures, in the order of the sounds; none where it is not measured."""
    clips = {row["clip_id"]: row["uri"] for row in run.workspace.table("clips").read().to_pylist()}
    found = {
        row["render_id"]: row["value"]
        for row in run.workspace.table("scores").read(recipe=run.recipe("scores")).to_pylist()
        if row["metric"] == metric
    }
    renders = [row for row in run.workspace.table("renders").read().to_pylist() if row["job"] == job]
    by_name = {clips[row["clip_ids"][0]].rsplit("/", 1)[-1]: found.get(row["render_id"]) for row in renders}
    return [by_name[sound.name] for sound in SOUNDS]


@pytest.fixture(scope="module")
def scored(tmp_path_factory) -> Run:
    run = bank(tmp_path_factory.mktemp("scored"))
    done = score(run)
    assert (done.new, done.rejected) == (len(SOUNDS) * len(JOBS), 0)
    return run


def test_a_second_scoring_does_nothing(scored):
    assert (score(scored).new, score(scored).done) == (0, len(SOUNDS) * len(JOBS))


def test_what_is_measured_is_explained(scored):
    measured = set(scored.workspace.table("scores").read()["metric"].to_pylist())
    assert measured == set(MEANINGS)


def test_true_pictures_are_judged_right_and_as_strong_as_they_are(scored):
    for job in JOBS:
        assert values(scored, "judge_phenomenon", job) == [1, 1, 1, 1, 1, None]
    assert values(scored, "judge_background", "noun") == [None] * 6
    assert values(scored, "judge_background", "verb") == [1] * 6
    assert values(scored, "judge_intensity", "noun") == pytest.approx([level for _, level in TRUE], abs=0.15)


def test_a_clip_without_a_label_has_no_caption_to_compare_with(scored):
    found = values(scored, "clip_score", "noun")
    assert found[-1] is None and all(0 <= each <= 2.5 for each in found[:-1])


def test_pictures_of_what_is_heard_suit_their_clips_better_than_pictures_of_other_things(scored, tmp_path):
    wrong = bank(tmp_path, [("snow", 0.5)] * 3 + [("waves", 0.5)] * 3)
    score(wrong)
    assert set(values(wrong, "judge_phenomenon", "noun")) == {0, None}
    for metric in ("ais_cosine", "clip_score"):
        right, off = values(scored, metric, "noun"), values(wrong, metric, "noun")
        assert all(a > b for a, b in zip(right, off, strict=True) if a is not None), metric
    assert np.mean(values(scored, "ais_rank", "noun")) > 0.75


def test_scores_do_not_depend_on_the_batch(scored, tmp_path):
    alone = bank(tmp_path, score={"batch_size": 1}, pool={"num_workers": 0, "slice_size": 5})
    score(alone)
    for metric in MEANINGS:
        expected = values(scored, metric, "verb")
        assert values(alone, metric, "verb") == [
            each if each is None else pytest.approx(each, abs=1e-4) for each in expected
        ]


def test_ranks_are_taken_among_as_many_others_as_asked(tmp_path):
    run = bank(tmp_path, score={"num_others": 2})
    score(run)
    assert set(values(run, "ais_rank", "noun")) <= {0, 0.5, 1}


def test_a_bank_of_one_clip_has_no_ranks(tmp_path):
    run = run_on(tmp_path / "bank")
    clip_ids = add_clips(run, tmp_path / "sounds", SOUNDS[:1])
    add_vectors(run, clip_ids, vectors_of_sounds()[:1])
    add_renders(run, clip_ids, TRUE[:1])
    score(run)
    assert "ais_rank" not in run.workspace.table("scores").read()["metric"].to_pylist()


def test_without_a_judge_nothing_is_judged(tmp_path):
    run = bank(tmp_path, models={"judge": None})
    score(run)
    measured = set(run.workspace.table("scores").read()["metric"].to_pylist())
    assert measured == {"clip_score", "ais_cosine", "ais_rank"}
    [(_, noun)] = [(each.job, each.scores) for each in results(run, generations(run)) if each.job == "noun"]
    assert noun.intensity is None


def test_a_picture_of_two_clips_is_described_by_both_and_is_of_no_one_phenomenon(tmp_path):
    run = bank(tmp_path)
    rows = run.workspace.table("renders").read().to_pylist()[:1]
    clips = {row["label"]: row["clip_id"] for row in run.workspace.table("clips").read().to_pylist()}
    both = rows[0] | {"render_id": "0" * 32, "clip_ids": [clips["rain"], clips["fire"]], "prompt": "*rain and *fire"}
    append(run, "renders", 1, **{name: [value] for name, value in both.items() if name != "recipe"})
    score(run)
    found = [row["metric"] for row in run.workspace.table("scores").read().to_pylist() if row["render_id"] == "0" * 32]
    assert sorted(found) == ["ais_cosine", "ais_rank", "clip_score", "judge_intensity"]


def test_a_damaged_picture_is_a_reject_and_the_others_are_scored(tmp_path):
    run = bank(tmp_path)
    row = run.workspace.table("renders").read().to_pylist()[0]
    path = run.workspace.store.path(row["shard"])
    with open(path, "r+b") as stream:
        stream.seek(row["offset"] + 40)
        stream.write(b"damage")
    done = score(run)
    assert (done.new, done.rejected) == (len(SOUNDS) * len(JOBS) - 1, 1)
    [reject] = run.workspace.table("rejects").read().to_pylist()
    assert reject["id"] == row["render_id"] and "damaged" in reject["sentence"]


def test_results_say_accuracy_and_correlation_per_job_and_in_all(scored):
    found = {each.job: each for each in results(scored, generations(scored))}
    assert set(found) == {None, *JOBS}
    assert found[None].num_pictures == found[None].scores.num == 18
    assert found["noun"].scores.means["judge_phenomenon"] == 1
    assert found["noun"].scores.intensity == pytest.approx(1)


def test_generations_of_several_methods_stand_side_by_side_the_present_one_first(scored, tmp_path):
    first = bank(tmp_path)
    score(first)
    second = run_on(tmp_path / "bank", fit={"method": "text"})
    clip_ids = [row["clip_id"] for row in first.workspace.table("clips").read().to_pylist()]
    add_cues(second, clip_ids)
    assert [each.method for each in generations(second)] == ["mapper"]
    add_renders(second, clip_ids, TRUE)
    named = [(each.name, each.is_current, each.scores is not None) for each in generations(second)]
    assert named == [("text", True, False), ("mapper", False, True)]
    assert {each.generation.name for each in results(second, generations(second))} == {"mapper"}
