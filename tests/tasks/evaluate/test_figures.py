"""Figures of a comparison whose truth is known, and the tables that show them."""

import json
import math
import re
from dataclasses import replace

import numpy as np
import pytest

from tasks.evaluate.figures import MEAN, Figure, Sample, figures_of, matrix, undefined
from tasks.evaluate.options import ComparisonOptions
from tasks.evaluate.output import Results, stored
from tasks.evaluate.page import plots_of
from tasks.evaluate.tables import lines_of, markdown
from tasks.stages import make_config, open_run
from tasks.views.independence import dependent_metrics
from tests.tasks.evaluate.comparison import write_comparison

CLIPS = [f"clip {number}" for number in range(12)]
LABELS = ["rain"] * 6 + ["fire"] * 6
TRUTH = np.tile(np.linspace(0, 1, 6), 2)
METHODS = ["good", "weak", "plain"]


def rows(prompts=("a *",)) -> list[dict]:
    """`good` shows all phenomena and intensities, `weak` half of the intensity, `plain` the same for all clips."""
    shown = {"good": lambda x: x, "weak": lambda x: 0.2 + 0.5 * x, "plain": lambda x: 0.5}
    return [
        {
            "clip_id": clip,
            "method": method,
            "prompt": prompt,
            "judge_phenomenon": float(method != "plain" or number % 2),
            "judge_intensity": shown[method](TRUTH[number]),
        }
        for number, clip in enumerate(CLIPS)
        for method in METHODS
        for prompt in prompts
    ]


def sample(prompts=("a *",), **changes) -> Sample:
    rng = np.random.default_rng(1)
    vectors = {(method, prompts[0]): (rng.normal(size=(12, 8)), np.arange(12)) for method in METHODS}
    given = {"clip_ids": CLIPS, "labels": LABELS, "truths": {"intensity": TRUTH}, "methods": METHODS}
    given |= {"reference": "good", "prompts": list(prompts), "rows": rows(prompts), "vectors": vectors}
    return Sample(**given | {"images": rng.normal(size=(30, 8)), "dependent": frozenset({"kid"})} | changes)


def by_key(figures: list[Figure], method: str, prompt: str | None = None) -> dict[tuple[str, str], Figure]:
    return {(f.metric, f.part): f for f in figures if (f.method, f.prompt) == (method, prompt)}


def test_figures_say_what_each_method_shows():
    found = figures_of(sample())
    good, weak, plain = (by_key(found, method) for method in METHODS)
    intensity = "judge_intensity"
    assert [good[intensity, part].value for part in ("rank", "bias", "slope")] == pytest.approx([1, 0, 1])
    assert [weak[intensity, part].value for part in ("rank", "bias", "slope")] == pytest.approx([1, -0.05, 0.5])
    assert [plain[intensity, part].value for part in ("rank", "slope")] == pytest.approx([0, 0])
    phenomenon = plain["judge_phenomenon", "mean"]
    assert (phenomenon.value, phenomenon.difference, phenomenon.num) == pytest.approx((0.5, -0.5, 12))
    assert phenomenon.is_significant and -1 <= phenomenon.difference_low < phenomenon.difference_high < 0
    assert good["judge_phenomenon", "mean"].difference is None
    assert {f.is_independent for f in found if f.metric == "kid"} == {False} and good["cmmd", "mean"].is_independent


def test_figures_are_the_same_each_time_and_without_nan_in_json():
    first, again = figures_of(sample()), figures_of(sample())
    assert [f.as_json() for f in first] == [f.as_json() for f in again]
    hollow = Figure("kid", "mean", None, "good", 1.0, math.nan, math.nan, 1)
    assert (hollow.as_json()["low"], hollow.as_json()["value"]) == (None, 1.0)


def test_prompts_count_alike_and_each_has_its_own_figures():
    prompts = ("a *", "a * city")
    some = [row for row in rows(prompts) if row["prompt"] == "a *" or row["clip_id"] != "clip 0"]
    found = figures_of(sample(prompts, rows=some))
    assert {f.prompt for f in found} >= {None, *prompts}
    assert by_key(found, "good", "a * city")["judge_phenomenon", "mean"].num == 11
    assert by_key(found, "good")["judge_phenomenon", "mean"].num == 12


def test_a_method_that_lacks_a_prompt_has_no_figures_of_all_prompts():
    prompts = ("a *", "a * city")
    some = [row for row in rows(prompts) if (row["prompt"], row["method"]) != ("a * city", "plain")]
    rng = np.random.default_rng(2)
    every = {(method, prompt): (rng.normal(size=(12, 8)), np.arange(12)) for method in METHODS for prompt in prompts}
    del every["plain", "a * city"]
    found = figures_of(sample(prompts, rows=some, vectors=every))
    assert by_key(found, "plain") == {} and ("kid", "mean") in by_key(found, "weak")
    assert {"judge_phenomenon", "kid"} <= {metric for metric, _ in by_key(found, "plain", "a *")}


def test_differences_are_of_the_clips_that_both_methods_have():
    """`plain` is right for odd clips; without the even ones it is no worse than the reference on the same clips."""
    odd = [row for row in rows() if row["method"] != "plain" or int(row["clip_id"].split()[1]) % 2]
    few = [row | {"judge_phenomenon": 0.0} if row["clip_id"] == "clip 0" else row for row in odd]
    weak, plain = (by_key(figures_of(sample(rows=few)), method) for method in METHODS[1:])
    phenomenon = plain["judge_phenomenon", "mean"]
    assert (phenomenon.value, phenomenon.num, phenomenon.difference) == pytest.approx((1, 6, 0))
    assert not phenomenon.is_significant and phenomenon.difference_low == phenomenon.difference_high == 0
    assert weak["judge_phenomenon", "mean"].value == pytest.approx(11 / 12)
    bias = plain["judge_intensity", "bias"]
    assert bias.difference == pytest.approx(float(np.mean(0.5 - TRUTH[1::2])))
    assert weak["judge_intensity", "slope"].difference == pytest.approx(-0.5)


def test_differences_of_sets_are_of_the_clips_that_both_methods_have():
    given = sample().vectors
    few = {**given, ("plain", "a *"): (given["good", "a *"][0][:8], np.arange(8))}
    plain = by_key(figures_of(sample(vectors=few)), "plain")
    for metric in ("kid", "cmmd"):
        found = plain[metric, "mean"]
        assert (found.num, found.difference) == (8, pytest.approx(0, abs=1e-12)), "the pictures are the same"
    none = {**given, ("plain", "a *"): (given["plain", "a *"][0][:4], np.arange(20, 24))}
    assert math.isnan(by_key(figures_of(sample(vectors=none)), "plain")["cmmd", "mean"].difference)


def test_seeds_of_a_clip_are_averaged_first_and_what_is_missing_is_nan():
    two = rows() + [row | {"judge_phenomenon": 0.0} for row in rows() if row["clip_id"] == "clip 0"]
    values = matrix(sample(rows=two), "judge_phenomenon", None)
    assert values is not None and values[0].tolist() == [0.5, 0.5, 0.0] and values[1].tolist() == [1, 1, 1]
    assert matrix(sample(), "aic", None) is None


def test_without_truth_there_are_no_degrees():
    unknown = {"intensity": np.full(12, math.nan)}
    assert {f.metric for f in figures_of(sample(truths=unknown))} == {"judge_phenomenon", "kid", "cmmd"}


def test_tables_have_a_line_per_figure_and_say_what_is_not_independent():
    found = figures_of(sample())
    lines = {line.title: line for line in lines_of(found, METHODS)}
    assert list(lines)[:4] == ["phenomenon ↑", "intensity rank", "intensity bias", "intensity slope"]
    assert not lines["KID ↓"].is_independent and lines["CMMD ↓"].is_independent
    text = markdown(found, METHODS, "good", ["a *"], ["a clip is missing"])
    assert "| KID ↓ † |" in text and "not independent" in text and "- a clip is missing" in text
    assert "**-0.500 (" in text  # the difference of the plain method in phenomena


def test_what_is_undefined_for_all_methods_is_said():
    assert undefined(figures_of(sample())) == []
    figures = figures_of(sample(truths={"intensity": np.full(12, 0.1)}))
    rank, slope = undefined(figures)
    assert rank.startswith("intensity: there is no rank correlation, which needs three clips of one label")
    assert slope.startswith("intensity: there is no slope, which needs two clips of one label")
    titles = [line.title for line in lines_of(figures, METHODS)]
    assert "intensity bias" in titles and not {"intensity rank", "intensity slope"} & set(titles)


def test_resamples_of_equal_degrees_have_no_slope():
    """Their mean differs from them by rounding: .3 three times over, say."""
    truth = np.array([0.3, 0.3, 0.9] * 4)
    figures = figures_of(sample(labels=[name for name in "abcd" for _ in range(3)], truths={"intensity": truth}))
    [slope] = [own for own in figures if (own.metric, own.part, own.method) == ("judge_intensity", "slope", "weak")]
    assert abs(slope.low) < 10 and abs(slope.high) < 10


def test_names_do_not_break_the_tables():
    names = {"plain": "a | b <i>`c`_d"}
    found = [replace(figure, method=names.get(figure.method, figure.method)) for figure in figures_of(sample())]
    methods = [names.get(method, method) for method in METHODS]
    text = markdown(found, methods, "a | b <i>`c`_d", ["a `*`\n| <b>"], ["a <b>\nclip"])
    tables = [line for line in text.splitlines() if line.startswith("|")]
    assert {re.sub(r"\\.", "", line).count("|") for line in tables} == {len(methods) + 2, len(methods) + 1}
    assert r"a \| b \<i\>\`c\`\_d" in text and "<i" not in text.replace(r"\<i", "")
    assert "## `` a `*` | <b> ``" in text and "- a &lt;b> clip" in text


def test_a_value_and_its_interval_have_as_many_decimals():
    small = Figure("kid", MEAN, None, "plain", 0.00148, -0.000123, 0.00188, 12, 0.00012, -0.00003, 0.0003)
    large = Figure("ais_z", MEAN, None, "plain", 1.5, 0.004, 3.2, 12, -0.5, -0.504, 0.0004)
    text = markdown([small, large], ["good", "plain"], "good", ["a *"], [])
    assert "| 0.00148 (-0.000123 to 0.00188) |" in text and "| +0.00012 (-3e-05 to 0.0003) |" in text
    assert "| 1.500 (0.004 to 3.200) |" in text and "| -0.500 (-0.504 to 0.000) |" in text


@pytest.mark.parametrize("changed", [{}, {"figures": [3]}, {"figures": [{"metrics": "kid"}]}, {"methods": "mapper"}])
def test_results_that_somebody_changed_are_written_anew(tmp_path, changed):
    write_comparison(tmp_path)
    for name in ("results.md", "index.html"):
        (tmp_path / name).write_text("whole")
    whole = {"mark": "m", "figures": [], "methods": [], "reference": "mapper", "notes": [], "num_clips": 4}
    (tmp_path / "results.json").write_text(json.dumps(whole))
    assert stored(tmp_path, "m") and stored(tmp_path, "n") is None
    (tmp_path / "results.json").write_text(json.dumps(whole | changed if changed else {"mark": "m"}))
    assert stored(tmp_path, "m") is None


def test_metrics_by_the_encoder_that_retrieved_are_dependent(tmp_path):
    tiny = open_run(make_config(workspace=str(tmp_path)))
    assert dependent_metrics(tiny) >= {"ais_rank", "ais_cosine", "ais_z", "clip_score", "aic", "kid"}
    assert not dependent_metrics(tiny) & {"judge_phenomenon", "judge_intensity", "image_reward", "kept_psnr"}
    heard_twice = {"models": {"audio_judge": "another/encoder@" + "0" * 40}}
    assert "ais_rank" not in dependent_metrics(open_run(make_config(workspace=str(tmp_path), **heard_twice)))
    joint = open_run(make_config(profile="sd15", workspace=str(tmp_path)))
    assert {"ais_rank", "kid"} <= dependent_metrics(joint) and "clip_score" not in dependent_metrics(joint)
    same = {"models": {"audio_judge": "facebook/pe-av-base@1c4c329b78d80a18d860ebfb05daebff4bc44518"}}
    assert "ais_rank" in dependent_metrics(open_run(make_config(profile="sd15", workspace=str(tmp_path), **same)))
    for name in ("one", "copy"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text("{}")
    copies = {"models": {"joint": str(tmp_path / "one"), "audio_judge": str(tmp_path / "copy")}}
    assert "ais_rank" in dependent_metrics(open_run(make_config(profile="sd15", workspace=str(tmp_path), **copies)))


def test_plots_show_ranks_degrees_and_quality_against_time():
    results = Results(
        ComparisonOptions(methods=[{"name": name} for name in METHODS]),
        sample(),
        figures_of(sample()),
        {name: dict.fromkeys(CLIPS, seconds) for name, seconds in zip(METHODS, (6.0, 0.003, 0.0), strict=True)},
        [],
    )
    ranks, seen, quality = plots_of(results)
    assert [own.name for own in seen.series] == METHODS and len(seen.series[0].points) == len(CLIPS)
    (_, left), (_, right) = seen.series[2].line
    assert left == pytest.approx(right, abs=0.2)  # the plain method's line is level
    assert len(ranks.series) == 3 and [len(own.points) for own in quality.series] == [1, 1, 1]
    assert results.mean_seconds == pytest.approx({"good": 6, "weak": 0.003, "plain": 0})
