"""The stage `score` on pictures whose truth is known: scenes of the tiny world, read by its own encoder and judge."""

import numpy as np
import pytest
import torch

from aai.metrics import METRICS, Agreement
from aai.tiny.scenes import Scene, render
from aai.tiny.world import WEIGHTS
from tasks.runtime.run import Run
from tasks.runtime.work import WorkerRunner
from tasks.score import SCORES, Scorer, score
from tasks.views.results import generations, results
from tests.bank import append, relabel, rows_of, run_on
from tests.gallery import JOBS, SOUNDS, add_clips, add_cues, add_renders, add_vectors

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


def clips_of(run: Run) -> list[dict]:
    with run.query() as query:
        return query.table("SELECT * FROM known_clips").to_pylist()


def values(run: Run, metric: str, job: str) -> list[float | None]:
    """A metric of a job's pictures, in the order of the sounds; none where it is not measured."""
    clips = {row["clip_id"]: row["uri"] for row in clips_of(run)}
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


def test_every_metric_is_measured(scored):
    measured = set(scored.workspace.table("scores").read()["metric"].to_pylist())
    judged = {name for name, metric in METRICS.items() if metric.role == "judge"}
    assert measured == judged | {"clip_score", "ais_cosine", "ais_rank"}


def test_the_judge_reads_true_pictures_correctly(scored):
    for job in JOBS:
        assert values(scored, "judge_phenomenon", job) == [1, 1, 1, 1, 1, None]
    assert values(scored, "judge_background", "noun") == [None] * 6
    assert values(scored, "judge_background", "verb") == [1] * 6
    assert values(scored, "judge_intensity", "noun") == pytest.approx([level for _, level in TRUE], abs=0.15)


def test_a_clip_without_a_label_has_no_caption_and_no_clip_score(scored):
    found = values(scored, "clip_score", "noun")
    assert found[-1] is None and all(0 <= each <= 2.5 for each in found[:-1])


def test_true_pictures_score_higher_than_pictures_of_other_phenomena(scored, tmp_path):
    wrong = bank(tmp_path, [("snow", 0.5)] * 3 + [("waves", 0.5)] * 3)
    score(wrong)
    assert set(values(wrong, "judge_phenomenon", "noun")) == {0, None}
    for metric in ("ais_cosine", "clip_score"):
        right, off = values(scored, metric, "noun"), values(wrong, metric, "noun")
        assert all(a > b for a, b in zip(right, off, strict=True) if a is not None), metric
    assert np.mean(values(scored, "ais_rank", "noun")) > 0.75


def test_pictures_of_relabelled_clips_are_measured_again_and_no_others(tmp_path):
    run = bank(tmp_path)
    score(run)
    before = run.workspace.table("scores").read().to_pylist()
    relabel(run, "audio", {str(tmp_path / "sounds" / "rain.flac"): "fire"})
    assert run.pending(SCORES).num == len(JOBS)
    assert (score(run).new, score(run).new) == (len(JOBS), 0)
    after = run.workspace.table("scores").read().to_pylist()
    [clip] = [row["clip_id"] for row in clips_of(run) if row["uri"].endswith("/rain.flac")]
    own = {row["render_id"] for row in rows_of(run) if row["clip_ids"] == [clip]}
    assert values(run, "judge_phenomenon", "noun") == [1, 0, 1, 1, 1, None]
    assert {tuple(row["labels"]) for row in after if row["render_id"] in own} == {("fire",)}
    others = [[row for row in rows if row["render_id"] not in own] for rows in (before, after)]
    assert sorted(map(str, others[0])) == sorted(map(str, others[1])) and len(after) == len(before)


def test_a_caption_that_was_too_long_has_no_reject_once_it_is_shorter(tmp_path):
    run = bank(tmp_path)
    uri = str(tmp_path / "sounds" / "rain.flac")
    relabel(run, "audio", {uri: "very " * 40 + "rain"})
    assert score(run).rejected == len(JOBS)
    relabel(run, "audio", {uri: "rain"})
    assert (score(run).new, run.workspace.table("rejects").read().num_rows) == (len(JOBS), 0)


def test_scores_do_not_depend_on_the_batch(scored, tmp_path):
    alone = bank(tmp_path, score={"batch_size": 1}, pool={"num_workers": 0, "slice_size": 5})
    score(alone)
    for metric in METRICS:
        expected = values(scored, metric, "verb")
        assert values(alone, metric, "verb") == [
            each if each is None else pytest.approx(each, abs=1e-4) for each in expected
        ]


def test_ranks_are_among_the_configured_number_of_other_clips(tmp_path):
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
    assert noun.intensity == Agreement()


def test_a_picture_of_two_clips_has_both_labels_in_its_caption_and_no_single_phenomenon(tmp_path):
    run = bank(tmp_path)
    rows = run.workspace.table("renders").read().to_pylist()[:1]
    clips = {row["label"]: row["clip_id"] for row in clips_of(run)}
    both = rows[0] | {"render_id": "0" * 32, "clip_ids": [clips["rain"], clips["fire"]], "prompt": "*rain and *fire"}
    append(run, "renders", [{name: value for name, value in both.items() if name != "recipe"}])
    score(run)
    found = [row["metric"] for row in run.workspace.table("scores").read().to_pylist() if row["render_id"] == "0" * 32]
    assert sorted(found) == ["ais_cosine", "ais_rank", "clip_score", "judge_intensity", "judge_tone"]


def test_a_caption_longer_than_the_encoders_context_is_a_reject_and_the_other_metrics_are_measured(tmp_path):
    run = bank(tmp_path)
    row = run.workspace.table("renders").read().to_pylist()[0]
    row |= {"render_id": "0" * 32, "prompt": "* beneath unforgettable, extraordinary clouds"}
    append(run, "renders", [{name: value for name, value in row.items() if name != "recipe"}])
    done = score(run)
    found = [row["metric"] for row in run.workspace.table("scores").read().to_pylist() if row["render_id"] == "0" * 32]
    assert "ais_cosine" in found and "clip_score" not in found
    [reject] = run.workspace.table("rejects").read().to_pylist()
    assert (reject["part_of"], reject["uri"], done.new) == ("0" * 32, row["shard"], len(SOUNDS) * len(JOBS) + 1)
    assert "extraordinary clouds' has" in reject["sentence"] and "shorten it" in reject["sentence"]
    assert score(run).new == 0


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


def test_results_have_accuracy_and_correlation_per_job_and_for_all(scored):
    found = {each.job: each for each in results(scored, generations(scored))}
    assert set(found) == {None, *JOBS}
    assert found[None].num_pictures == found[None].scores.num == 18
    assert found["noun"].scores.means["judge_phenomenon"] == 1
    assert found["noun"].scores.intensity.rank == pytest.approx(1)


def test_generations_of_several_methods_come_with_the_present_one_first(scored, tmp_path):
    first = bank(tmp_path)
    score(first)
    second = run_on(tmp_path / "bank", fit={"method": "inversion"})
    clip_ids = [row["clip_id"] for row in clips_of(first)]
    add_cues(second, clip_ids)
    assert [generation.method for generation in generations(second)] == ["mapper"]
    add_renders(second, clip_ids, TRUE)
    named = [(each.name, each.is_current, each.scores is not None) for each in generations(second)]
    assert named == [("inversion", True, False), ("mapper", False, True)]
    assert {each.generation.name for each in results(second, generations(second))} == {"mapper"}


def test_a_prompt_without_a_cue_is_its_own_caption_and_has_no_audio_scores(tmp_path):
    run = bank(tmp_path)
    [row, *_] = rows_of(run)
    plain = row | {"render_id": "0" * 32, "clip_ids": [], "prompt": "a photo of rain"}
    append(run, "renders", [{name: value for name, value in plain.items() if name != "recipe"}])
    score(run)
    metrics = {row["metric"] for row in rows_of(run, "scores") if row["render_id"] == "0" * 32}
    assert "clip_score" in metrics and not metrics & {"ais_cosine", "ais_rank"}


def by_metric(rows: list[dict]) -> dict[tuple[str, str], float]:
    return {(row["render_id"], row["metric"]): row["value"] for row in rows}


def test_short_memory_halves_the_batch_and_changes_no_score(scored, monkeypatch):
    runner, sizes = WorkerRunner("render_id"), []
    runner.load(lambda: Scorer(scored.context()))
    embed = runner.worker.encoder.embed_prepared

    def small(pictures):
        sizes.append(len(pictures))
        if len(pictures) > 8:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return embed(pictures)

    monkeypatch.setattr(runner.worker.encoder, "embed_prepared", small)
    again = run_on(scored.workspace.uri, score={"num_others": 999})  # with scores of its own
    [rows] = again.pending(SCORES).rows
    found = by_metric(runner.run(rows).outcome.rows.to_pylist())
    assert max(sizes) > 8 >= min(sizes)
    assert found == pytest.approx(by_metric(rows_of(scored, "scores")))


def test_pictures_of_clips_that_left_the_source_folders_are_scored(tmp_path):
    run = bank(tmp_path)
    listed = run.workspace.table("audio_listing").read().to_pylist()
    for row in listed:
        del row["recipe"]
    append(run, "audio_listing", [row | {"is_present": False, "listed_at": row["listed_at"] + 1} for row in listed])
    assert score(run).new == len(SOUNDS) * len(JOBS)
    assert values(run, "clip_score", "noun").count(None) == 1


def test_a_changed_label_changes_the_captions_of_a_new_scoring(tmp_path):
    run = bank(tmp_path)
    listed = run.workspace.table("audio_listing").read().to_pylist()
    changed = [{name: value for name, value in row.items() if name != "recipe"} for row in listed]
    append(run, "audio_listing", [row | {"label": "snow", "listed_at": row["listed_at"] + 1} for row in changed])
    score(run)
    assert values(run, "judge_phenomenon", "noun") == [0] * 6
