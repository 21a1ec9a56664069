"""Scores are aggregated per generation and job, the current generation first."""

import json
import math
from datetime import UTC, datetime

import pytest

from tasks.runtime.driver import StageSummary
from tasks.runtime.run import Run
from tasks.views.results import generations, intensity_of, results
from tests.bank import append, rows_of, run_on
from tests.gallery import JOBS, SOUNDS, add_clips, add_cues, add_renders, add_scores

TRUE = [(sound.phenomenon, sound.intensity) for sound in SOUNDS]


def run_with_pictures(folder, **keys) -> Run:
    run = run_on(folder / "bank", **keys)
    clip_ids = [row["clip_id"] for row in rows_of(run, "clips")] or add_clips(run, folder / "sounds")
    add_cues(run, clip_ids)
    add_renders(run, clip_ids, TRUE)
    return run


def judge(run: Run, values: dict[str, float], metric: str = "judge_intensity") -> None:
    """Degrees that the judge read off the pictures of clips."""
    rows = [
        {"render_id": row["render_id"], "metric": metric, "value": values[row["clip_ids"][0]]}
        for row in rows_of(run)
        if row["clip_ids"][0] in values
    ]
    append(run, "scores", rows)


def test_without_pictures_there_is_no_generation(tmp_path):
    run = run_on(tmp_path)
    assert generations(run) == [] and results(run, []) == []


def test_a_generation_has_the_method_and_recipes_of_its_pictures(tmp_path):
    run = run_with_pictures(tmp_path)
    [generation] = generations(run)
    assert (generation.name, generation.method, generation.is_current) == ("mapper", "mapper", True)
    assert (generation.renders, generation.cues) == (run.recipe("renders"), run.recipe("cues"))
    assert generation.scores is None and results(run, [generation]) == []
    add_scores(run)
    assert generations(run)[0].scores == run.recipe("scores")


def test_the_current_generation_comes_first_and_equal_methods_are_told_apart(tmp_path):
    for keys in ({"method": "mapper"}, {"method": "adapter", "steps": 1}, {"method": "adapter", "steps": 2}):
        run = run_with_pictures(tmp_path, fit=keys)
    found = generations(run)
    assert [generation.is_current for generation in found] == [True, False, False]
    assert found[0].name == f"adapter ({run.recipe('renders')})"
    assert [generation.method for generation in found] == ["adapter", "adapter", "mapper"]
    assert len({generation.name for generation in found}) == 3


def test_equal_methods_have_the_names_of_their_configuration_files(tmp_path):
    for steps, file in ((1, "/x/a.yaml"), (2, "/x/b.yaml"), (3, None)):
        run = run_with_pictures(tmp_path, fit={"method": "adapter", "steps": steps})
        run.file = file
        run.record(datetime.now(UTC), StageSummary("render", run.recipe("renders"), 0, 1, 0, 1.0))
    names = {generation.name for generation in generations(run)}
    assert names == {"adapter (a.yaml)", "adapter (b.yaml)", f"adapter ({run.recipe('renders')})"}


def test_scores_of_another_configuration_count_where_the_current_one_has_none(tmp_path):
    run = run_with_pictures(tmp_path)
    add_scores(run)
    other = run_on(tmp_path / "bank", score={"num_others": 3})
    assert other.recipe("scores") != run.recipe("scores")
    assert generations(other)[0].scores == run.recipe("scores")
    append(other, "scores", [{"render_id": rows_of(run)[0]["render_id"], "metric": "ais_rank", "value": 0.5}])
    assert generations(other)[0].scores == other.recipe("scores")


def test_means_are_per_job_and_over_all_pictures(tmp_path):
    run = run_with_pictures(tmp_path)
    add_scores(run)
    found = {result.job: result for result in results(run, generations(run))}
    assert list(found) == [None, *sorted(JOBS)]
    assert (found[None].num_pictures, found[None].scores.num) == (len(SOUNDS) * len(JOBS), len(SOUNDS) * len(JOBS))
    ranks = {row["render_id"]: row["value"] for row in rows_of(run, "scores") if row["metric"] == "ais_rank"}
    own = [ranks[row["render_id"]] for row in rows_of(run) if row["job"] == "noun"]
    assert found["noun"].scores.means["ais_rank"] == pytest.approx(sum(own) / len(own))
    assert found[None].scores.means["ais_rank"] == pytest.approx(sum(ranks.values()) / len(ranks))


def test_pictures_without_scores_are_counted_apart(tmp_path):
    run = run_with_pictures(tmp_path)
    [first, *_] = [row for row in rows_of(run) if row["job"] == "noun"]
    append(run, "scores", [{"render_id": first["render_id"], "metric": "ais_rank", "value": 0.25}])
    [noun] = [result for result in results(run, generations(run)) if result.job == "noun"]
    assert (noun.num_pictures, noun.scores.num, noun.scores.means) == (len(SOUNDS), 1, {"ais_rank": 0.25})


def test_the_correlation_of_intensities_is_within_labels(tmp_path):
    """Two clips of fire are too few to count, and so is the one without a label."""
    run = run_with_pictures(tmp_path)
    with run.query() as query:
        clips = query.table("SELECT clip_id, label, attributes FROM known_clips").to_pylist()
    signs = {row["clip_id"]: 1 if row["label"] == "rain" else -1 for row in clips}
    truth = {row["clip_id"]: intensity_of(row["attributes"]) for row in clips}
    judge(run, {clip_id: signs[clip_id] * value for clip_id, value in truth.items()})
    found = {result.job: result.scores.intensity.rank for result in results(run, generations(run))}
    assert found["noun"] == found[None] == pytest.approx(1)
    other = run_with_pictures(tmp_path, seed=1)
    judge(other, {clip_id: -signs[clip_id] * value for clip_id, value in truth.items()})
    [whole, *_] = results(other, generations(other)[:1])
    assert whole.scores.intensity.rank == pytest.approx(-1)


@pytest.mark.parametrize("attributes", [None, "{}", '{"intensity": null}', '{"intensity": "x"}', '{"intensity": [1]}'])
def test_an_intensity_that_is_no_number_is_nan(attributes):
    assert math.isnan(intensity_of(attributes))


@pytest.mark.parametrize("value", ["0.5", '"0.5"'])
def test_an_intensity_may_be_a_number_or_text(value):
    assert intensity_of(f'{{"intensity": {value}}}') == 0.5


def test_pictures_without_a_cue_are_counted_by_themselves(tmp_path):
    run = run_with_pictures(tmp_path)
    plain = [row | {"render_id": f"plain {n}", "job": "noun", "prompt": "a photo of fire"} for n, row in
             enumerate(rows_of(run)[:2])]  # fmt: skip
    append(run, "renders", [{name: value for name, value in row.items() if name != "recipe"} for row in plain])
    add_scores(run)
    found = results(run, generations(run))
    num = len(rows_of(run)) - 2
    assert [(each.job, each.has_cue, each.num_pictures) for each in found] == [
        (None, True, num), ("adjective", True, num / 3), ("noun", False, 2), ("noun", True, num / 3),
        ("verb", True, num / 3),
    ]  # fmt: skip
    assert sum(each.scores.num for each in found if each.job) == num + 2


def test_the_tone_has_a_correlation_of_its_own(tmp_path):
    run = run_with_pictures(tmp_path)
    with run.query() as query:
        clips = query.table("SELECT clip_id, attributes FROM known_clips").to_pylist()
    judge(run, {row["clip_id"]: intensity_of(row["attributes"]) for row in clips})
    assert {result.scores.tone.rank for result in results(run, generations(run))} == {None}
    other = run_with_pictures(tmp_path, seed=1)
    judge(other, {row["clip_id"]: json.loads(row["attributes"])["tone"] for row in clips}, "judge_tone")
    [whole, *_] = results(other, generations(other)[:1])
    assert whole.scores.tone.rank == pytest.approx(1) and whole.scores.intensity.rank is None
