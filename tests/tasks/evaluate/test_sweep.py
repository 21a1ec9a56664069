"""A sweep is a comparison for each setting, and its figures say which value is enough."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from aai.cues.options import FitOptions
from aai.errors import BadConfig
from tasks.evaluate.output import Comparison
from tasks.evaluate.recommended import RECOMMENDED, usage
from tasks.evaluate.sweep import SweepOptions, load_sweep, open_sweep, swept
from tasks.evaluate.sweep_output import JSON, MARKDOWN, PAGE, write_sweep
from tasks.stages import load_config

NUM_CLIPS = 30


def compared(
    folder: Path, methods: dict[str, float], seconds: dict[str, float] | None = None, num_clips: int = NUM_CLIPS
) -> Comparison:
    """A comparison in which a method recognises a share of the clips, the same ones first."""
    rows = []
    for method, share in methods.items():
        for clip in range(num_clips):
            own = clip / NUM_CLIPS
            judged = own if method == list(methods)[-1] else float(np.random.default_rng(clip).random())
            row = {"clip_id": f"c{clip}", "label": "rain", "method": method, "prompt": "*", "seed": 0}
            scores = {"judge_phenomenon": float(clip < share * NUM_CLIPS), "judge_intensity": judged, "clip_score": 1.0}
            rows.append(row | scores | {"own_intensity": own})
    folder.mkdir(parents=True)
    pq.write_table(pa.Table.from_pylist(rows), folder / "cells.parquet")
    return Comparison(folder, True, list(methods), next(iter(methods)), [], seconds or {}, ["a note"])


def test_a_setting_without_effect_on_cues_is_refused_before_any_work(tmp_path):
    (tmp_path / "aai.yaml").write_text(yaml.safe_dump({"workspace": str(tmp_path / "bank")}))
    options = SweepOptions(config=str(tmp_path / "aai.yaml"), output=str(tmp_path / "o"), vary={"neighbours": (1, 2)})
    with pytest.raises(BadConfig, match="neighbours has no effect on cues"):
        open_sweep(options, {})
    learned = options.model_copy(update={"set": {"train_mapper.method": "learned"}})
    assert open_sweep(learned, {}).keys() == {"neighbours"}
    refined = options.model_copy(update={"vary": {"steps": (0, 8)}})
    assert open_sweep(refined, {}).keys() == {"steps"}


def test_what_a_sweep_was_made_with_is_said_beside_its_values(tmp_path):
    options = SweepOptions(
        config=str(tmp_path / "aai.yaml"),
        vary={"steps": (0, 8)},
        metrics=("judge_phenomenon",),
        output=str(tmp_path / "out"),
        set={"fit": {"method": "inversion"}},
    )
    found = swept(options, {"steps": compared(tmp_path / "steps", {"steps 0": 0.5, "steps 8": 0.9})})
    write_sweep(tmp_path / "out", found)
    text = (tmp_path / "out" / RECOMMENDED).read_text()
    assert "# Found with fit.method: inversion.\n" in text and "adapter" not in text
    (tmp_path / "aai.yaml").write_text("fit: {method: mapper}")
    [_, hint] = usage(options, found, load_config(tmp_path / "aai.yaml"))
    assert hint.startswith("the values were found with fit.method: inversion, which ")


@pytest.mark.parametrize("name", ["curves", "sweep"])
def test_the_documented_sweeps_can_be_read(name):
    path = Path(__file__).parents[3] / "docs" / f"{name}.yaml"
    options = load_sweep(path, {})
    assert options.vary and Path(options.config) == path.parent / "../demo/aai.yaml"


def test_one_clip_is_refused_before_any_work():
    with pytest.raises(BadConfig, match="one clip shows no difference"):
        open_sweep(SweepOptions(config="none.yaml", vary={"steps": (0, 8)}, clips={"limit": 1}), {})


@pytest.mark.parametrize(
    ("keys", "sentence"),
    [
        ({"chosen_by": "clip_score"}, "which are not varied"),
        ({"set": {"retrieve.num_neighbours": 7}}, "what `neighbours` varies"),
        ({"set": {"retrieve": {"num_neighbours": 7}}}, "what `neighbours` varies"),
    ],
)
def test_keys_without_effect_are_refused(keys, sentence):
    with pytest.raises(ValueError, match=sentence):
        SweepOptions(vary={"neighbours": (1, 2)}, **keys)


def test_a_metric_that_no_picture_has_is_named(tmp_path):
    options = SweepOptions(vary={"steps": (0, 8)}, metrics=("judge_phenomenon", "iis_rank"))
    found = swept(options, {"steps": compared(tmp_path / "a", {"steps 0": 0.5, "steps 8": 1.0})})
    assert "steps: no picture has the metric iis_rank" in found.notes
    assert {curve.metric for curve in found.curves} == {"judge_phenomenon"}


def test_only_metrics_that_have_a_curve_are_offered(tmp_path):
    """The rank correlation of a degree needs several clips of a label."""
    comparison = compared(tmp_path / "a", {"steps 0": 0.5, "steps 8": 1.0})
    rows = [row | {"label": row["clip_id"]} for row in pq.read_table(tmp_path / "a" / "cells.parquet").to_pylist()]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "a" / "cells.parquet")
    with pytest.raises(BadConfig, match=r"choose from judge_phenomenon, clip_score$"):
        swept(SweepOptions(vary={"steps": (0, 8)}, metrics=("judge_intensity",)), {"steps": comparison})


def test_settings_are_methods_of_comparisons():
    options = SweepOptions(
        vary={"steps": (8, 0), "rows": (1, 2), "candidates": (1, 4)}, set={"render.steps": 9}, chosen_by="clip_score"
    )
    steps, rows, candidates = (options.comparison(name).methods for name in options.vary)
    assert [method.name for method in steps] == ["steps 0", "steps 8"]
    assert steps[1].set == {"fit.method": "adapter", "render.steps": 9, "fit.steps": 8}
    assert rows[0].set == {"train_mapper.method": "learned", "render.steps": 9, "train_mapper.num_tokens": 1}
    assert candidates[0].job == {"candidates": 1} and candidates[0].set == {"render.steps": 9}
    assert candidates[1].job == {"candidates": 4, "chosen_by": "clip_score"}


def test_the_smallest_value_that_is_enough_for_all_qualities_is_found_and_written(tmp_path):
    methods = {"steps 0": 0.5, "steps 8": 0.9, "steps 24": 0.9}
    seconds = {"steps 0": 0.0, "steps 8": 1.0, "steps 24": 3.0}
    options = SweepOptions(vary={"steps": (0, 8, 24)}, metrics=("judge_phenomenon",), output=str(tmp_path / "out"))
    found = swept(options, {"steps": compared(tmp_path / "steps", methods, seconds)})
    assert found.enough == {"steps": 8} and found.seconds == {"steps": {0: 0.0, 8: 1.0, 24: 3.0}}
    assert found.curves[0].curve.points[0].gap.value == pytest.approx(0.4)
    every = SweepOptions(vary=options.vary, output=options.output)
    both = swept(every, {"steps": compared(tmp_path / "again", methods, seconds)})
    assert [own.metric for own in both.curves][:2] == ["judge_phenomenon", "judge_intensity"]
    assert both.enough == {"steps": 24}, "the intensity alone needs so many"
    write_sweep(tmp_path / "out", both)
    stored = json.loads((tmp_path / "out" / JSON).read_text())
    assert stored["enough"] == {"steps": 24} and stored["num_clips"] == NUM_CLIPS
    assert yaml.safe_load((tmp_path / "out" / RECOMMENDED).read_text()) == {"fit": {"steps": 24}}
    assert f"Found on {NUM_CLIPS} clips." in (tmp_path / "out" / RECOMMENDED).read_text()
    path = tmp_path / "aai.yaml"
    path.write_text("{include: out/recommended.yaml, fit: {method: adapter}}")
    assert load_config(path).options(FitOptions).steps == 24
    here = every.model_copy(update={"config": str(path)})
    assert usage(here, both, load_config(path)) == [
        f"to build with these values write `include: out/recommended.yaml` into {path}"
    ]
    path.write_text("{fit: {method: mapper, steps: 3}}")
    assert usage(here, both, load_config(path))[1:] == [
        f"fit.steps is also given in {path}, which counts more: remove it there",
        f"fit.steps counts with fit.method: adapter only, which {path} does not have",
    ]
    text = (tmp_path / "out" / MARKDOWN).read_text()
    assert "## steps: 24 is enough" in text and "| 0 | 0.500 (" in text and "- a note" in text
    page = (tmp_path / "out" / PAGE).read_text()
    assert "steps: 24 is enough" in page and page.count("<svg") == 4 and "against seconds per clip" in page


def test_candidates_judged_by_what_chose_them_are_marked(tmp_path):
    methods = {"candidates 1": 0.5, "candidates 4": 0.9}
    comparison = {"candidates": compared(tmp_path / "candidates", methods)}
    metrics = ("judge_phenomenon", "clip_score")

    def independent(**keys) -> list[bool]:
        options = SweepOptions(vary={"candidates": (1, 4)}, metrics=metrics, **keys)
        return [own.is_independent for own in swept(options, comparison).curves]

    assert independent() == [False, True] and independent(chosen_by="clip_score") == [True, False]
    found = swept(SweepOptions(vary={"candidates": (1, 4)}), comparison)
    assert [own.metric for own in found.curves if own.is_independent] == ["clip_score"]
    assert found.enough == {"candidates": 1}, "by what did not choose"
    by_judge = next(own for own in found.curves if own.metric == "judge_phenomenon").curve.per_doubling
    assert by_judge and by_judge.value == pytest.approx(0.2) and 0.1 < by_judge.low < by_judge.high < 0.3
    assert found.recommended == {}
    write_sweep(tmp_path / "out", found)
    assert yaml.safe_load((tmp_path / "out" / RECOMMENDED).read_text()) is None
    page, text = ((tmp_path / "out" / name).read_text() for name in (PAGE, MARKDOWN))
    assert "not independent" in page and "phenomenon, per doubling: +0.2000 (+0." in page
    assert "- CLIPScore, per doubling: +0.0000 (+0.0000 to +0.0000)\n" in text
    heard = swept(SweepOptions(vary={"candidates": (1, 4)}, metrics=metrics), comparison, "audio_judge")
    assert all(own.is_independent for own in heard.curves)


def test_few_clips_have_no_ranks_and_one_shows_nothing(tmp_path):
    options = SweepOptions(vary={"steps": (0, 8)})
    two = swept(options, {"steps": compared(tmp_path / "two", {"steps 0": 0.5, "steps 8": 1.0}, num_clips=2)})
    assert [own.metric for own in two.curves] == ["judge_phenomenon"]
    write_sweep(tmp_path / "out", two)
    json.loads((tmp_path / "out" / JSON).read_text(), parse_constant=pytest.fail)
    with pytest.raises(BadConfig, match="several") as error:
        swept(options, {"steps": compared(tmp_path / "one", {"steps 0": 0.5, "steps 8": 1.0}, num_clips=1)})
    assert error.value.key == "clips"


def test_what_has_no_picture_says_why(tmp_path):
    comparison = compared(tmp_path / "none", {"steps 0": 0.5, "steps 8": 1.0}, num_clips=2)
    pq.write_table(
        pq.read_table(tmp_path / "none" / "cells.parquet").select(["clip_id", "label", "method"]),
        tmp_path / "none" / "cells.parquet",
    )
    with pytest.raises(BadConfig, match="there is no picture to measure; a note"):
        swept(SweepOptions(vary={"steps": (0, 8)}), {"steps": comparison})


def test_clips_that_a_value_lacks_do_not_count(tmp_path):
    """The clips that `steps 8` lacks are those that `steps 0` gets right."""
    comparison = compared(tmp_path / "steps", {"steps 0": 0.5, "steps 8": 0.5})
    rows = pq.read_table(tmp_path / "steps" / "cells.parquet").to_pylist()
    kept = [row for row in rows if row["method"] != "steps 8" or int(row["clip_id"][1:]) >= NUM_CLIPS / 2]
    pq.write_table(pa.Table.from_pylist(kept), tmp_path / "steps" / "cells.parquet")
    options = SweepOptions(vary={"steps": (0, 8)}, metrics=("judge_phenomenon",))
    [own] = swept(options, {"steps": comparison}).curves
    assert [(point.quality.value, point.num) for point in own.curve.points] == [(0, 15), (0, 15)]


def test_a_setting_without_effect_is_noted(tmp_path):
    comparison = compared(tmp_path / "neighbours", {"neighbours 1": 0.5, "neighbours 5": 0.5})
    options = SweepOptions(vary={"neighbours": (1, 5)}, metrics=("judge_phenomenon",))
    found = swept(options, {"neighbours": comparison})
    assert found.enough == {"neighbours": 1}
    assert found.notes[-1] == "neighbours: all values give the same quality: no effect, or too few clips to show one"


def test_metrics_that_no_picture_has_are_refused(tmp_path):
    comparison = compared(tmp_path / "steps", {"steps 0": 0.5, "steps 8": 0.9})
    with pytest.raises(BadConfig, match="choose from .*judge_phenomenon") as error:
        swept(SweepOptions(vary={"steps": (0, 8)}, metrics=("aic",)), {"steps": comparison})
    assert error.value.key == "metrics"


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("{}", "vary"),
        ("vary: {steps: [8]}", "vary"),
        ("vary: {steps: [8, 8]}", "vary"),
        ("vary: {rows: [0, 2]}", "vary"),
        ("vary: {candidates: [1, 65]}", "vary"),
        ("vary: {colour: [1, 2]}", "vary.colour"),
        ("{vary: {steps: [0, 8]}, metrics: [taste]}", "metrics"),
        ("vary: {steps: [false, true]}", "vary.steps.0"),
        ("vary: [steps]", "vary"),
        ("{vary: {steps: [0, 8]}, metrics: [aic, aic]}", "metrics"),
        ("{vary: {steps: [0, 8]}, step: 1}", "step"),
        ("{vary: {steps: [0, 8]}, prompts: rain}", "prompts"),
        ("{vary: {steps: [0, 8]}, seeds: [1, 1]}", "seeds"),
    ],
)
def test_a_sweep_that_cannot_be_is_refused(tmp_path, text, key):
    path = tmp_path / "sweep.yaml"
    path.write_text(text)
    with pytest.raises(BadConfig) as error:
        load_sweep(path, {})
    assert (error.value.key, error.value.uri) == (key, str(path))


def test_paths_are_resolved_against_the_folder_of_the_file(tmp_path):
    path = tmp_path / "sweep.yaml"
    edit = "{mode: edit, source_images: photos, source_prompt: a city, prompt: a * city}"
    path.write_text(f"{{config: demo/aai.yaml, vary: {{steps: [0, 8]}}, prompts: {edit}, photos_per_clip: 2}}")
    options = load_sweep(path, {"output": "elsewhere"})
    compared = options.comparison("steps")
    assert compared.prompts[0]["source_images"] == [str(tmp_path / "photos")] and compared.photos_per_clip == 2
    assert options.config == str(tmp_path / "demo/aai.yaml") and options.output == "elsewhere"
