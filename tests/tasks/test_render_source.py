"""Jobs become pictures with ids of their own: each once, in the order in which they are best rendered."""

import json
import tracemalloc
from itertools import repeat

import pyarrow as pa
import pytest

from aai.errors import BadConfig
from aai.identity import content_id
from tasks.render_source import RenderSource
from tasks.runtime.run import Run
from tests.bank import CLIPS, DIM, LABELS, add_cues, append, jobs_of, rows_of, run_on

RAIN = sorted(clip for clip, label in zip(CLIPS, LABELS, strict=True) if label == "rain")
LABELLED = sorted(clip for clip, label in zip(CLIPS, LABELS, strict=True) if label)


@pytest.fixture
def run(tmp_path) -> Run:
    return add_cues(run_on(tmp_path / "bank"))


def source_rows(run: Run, *jobs) -> list[dict]:
    """All rows that workers get, in their order."""
    rows = list(RenderSource(run, jobs_of(run, *jobs)).pending().rows)
    return pa.concat_tables(rows).to_pylist() if rows else []


def ids_of(run: Run, *jobs) -> set[str]:
    return {row["render_id"] for row in source_rows(run, *jobs)}


def finish(run: Run, render_ids, seeds=None) -> None:
    """Rows of `renders`, as if the pictures were rendered."""
    location = {"shard": "shards/renders/a.tar", "key": "a", "offset": 512, "num_bytes": 9, "checksum": "ab"}
    rows = [
        {"render_id": id, "clip_ids": CLIPS[:1], "seed": seed}
        for id, seed in zip(render_ids, seeds or repeat(0), strict=False)
    ]
    append(run, "renders", [row | location for row in rows])


def test_a_row_has_all_that_a_worker_needs(run):
    [row] = source_rows(
        run, {"name": "rain", "cues": {"clip_ids": CLIPS[1]}, "seeds": [7], "negative_prompt": "fog", "guidance": 2}
    )
    cue = next(cue for cue in rows_of(run, "cues") if cue["clip_id"] == CLIPS[1])
    assert (row["job"], row["mode"], row["prompt"], row["negative_prompt"]) == (
        "rain",
        "generate",
        "a photo of *",
        "fog",
    )
    assert (row["clip_ids"], row["labels"], row["licences"], row["seed"]) == ([CLIPS[1]], ["fire"], ["CC0"], 7)
    assert (row["vectors"], row["num_tokens"], row["dim"], row["method"]) == ([cue["vector"]], 2, DIM, "mapper")
    assert row["fault"] is row["edit"] is row["blend"] is row["image_id"] is None
    assert json.loads(row["options"])["steps"] == 2 and row["uri"] == "/sounds/1.flac"


def test_the_id_of_a_picture_of_one_cue_never_changes(run):
    """Byte for byte: with another one, every upgrade would render all pictures again."""
    [row] = source_rows(run, {"cues": {"clip_ids": CLIPS[1]}, "seeds": [7], "negative_prompt": "fog", "guidance": 2})
    options = '{"format": "png", "guidance": 2.0, "height": null, "scheduler": null, "steps": 2, "width": null}'
    model = "@".join(run.revision("diffusion"))
    request = [run.recipe("cues"), model, [CLIPS[1]], "a photo of *", "fog", options]
    assert row["render_id"] == content_id(json.dumps(request).encode() + b"7")
    assert content_id(b'["cues", "model", ["clip"], "a photo of *", "", "{}"]7') == "b163796d9e038f9ad63507074ca9fbf5"


@pytest.mark.parametrize(
    "change",
    [{"prompt": "a * city"}, {"negative_prompt": "fog"}, {"seeds": [1]}, {"steps": 3}, {"guidance": 2},
     {"scheduler": "euler"}, {"width": 72}, {"format": "jpg"}, {"format": "jpg", "quality": 50}],
    ids=str,
)  # fmt: skip
def test_a_change_of_the_request_makes_another_picture(run, change):
    before, after = ids_of(run, {"guidance": 4}), ids_of(run, {"guidance": 4} | change)
    assert len(before) == len(after) == len(CLIPS) and not before & after


def test_the_name_of_a_job_its_position_and_a_png_quality_change_no_picture(run):
    assert ids_of(run, {}) == ids_of(run, {"name": "other", "quality": 7, "cues": {"clip_ids": CLIPS}})


def test_pictures_of_equal_options_and_prompts_come_one_after_the_other(run):
    sizes = [{"name": f"{size} {kind}", "width": size, "prompt": f"{kind} *"} for size in (72, 64) for kind in "ab"]
    rows = source_rows(run, *sizes, {"width": 72, "prompt": ["a *", "c *"]})
    assert len(rows) == 5 * len(CLIPS)
    order = [(json.loads(row["options"])["width"], row["prompt"]) for row in rows]
    assert order == sorted(order)


def test_a_picture_that_several_jobs_ask_for_comes_once(run):
    pending = RenderSource(run, jobs_of(run, {"name": "a"}, {"name": "b", "cues": {"labels": "rain"}})).pending()
    assert pending.total == pending.num == len(CLIPS)
    rows = pa.concat_tables(pending.rows)
    assert rows.num_rows == len(CLIPS) and set(rows["job"].to_pylist()) == {"a"}


def test_finished_and_rejected_pictures_are_not_pending(run):
    first, second, *_ = [row["render_id"] for row in source_rows(run, {})]
    finish(run, [first])
    append(run, "rejects", [{"id": second, "stage": "render", "sentence": "the prompt is too long"}], of="renders")
    source = RenderSource(run, jobs_of(run, {}))
    pending, again = source.pending(), source.pending(retry_rejects=True)
    assert (pending.total, pending.num, pending.rejected) == (5, 3, 1)
    assert (again.total, again.num, again.rejected) == (5, 4, 0)
    finish(run, [second])
    assert RenderSource(run, jobs_of(run, {})).pending().rejected == 0


def test_only_the_rows_of_pending_pictures_are_streamed(run):
    job = {"seeds": 3, "prompt": ["a *", "the *"]}
    ids = [row["render_id"] for row in source_rows(run, job)]
    finish(run, ids[:-4])
    rows = source_rows(run, job)
    assert [row["render_id"] for row in rows] == ids[-4:]
    assert {row["num_tokens"] for row in rows} == {2} and {len(row["vectors"][0]) for row in rows} == {2 * DIM}


def test_cues_of_several_names_come_together_in_turn(run):
    job = {"prompt": "a *fire, * and *rain", "cues": "label is not null", "named": {"fire": {"clip_ids": CLIPS}}}
    rows, every = source_rows(run, job), sorted(CLIPS)
    expected = [[every[i], LABELLED[i % 4], RAIN[i % 2]] for i in range(5)]
    assert sorted(row["clip_ids"] for row in rows) == sorted(expected)
    assert all(row["labels"] == [LABELS[CLIPS.index(clip)] for clip in row["clip_ids"]] for row in rows)
    cues = {row["clip_id"]: row["vector"] for row in rows_of(run, "cues")}
    assert all(row["vectors"] == [cues[clip] for clip in row["clip_ids"]] for row in rows)
    limited = [row["clip_ids"] for row in source_rows(run, job | {"limit": 2})]
    assert sorted(limited) == sorted(expected[:2])


def test_a_cue_may_be_in_a_prompt_twice(run):
    [row] = source_rows(run, {"prompt": "a *fire of *fire", "limit": 1})
    assert row["clip_ids"] == [CLIPS[1]] and len(row["vectors"]) == 1


def test_a_blend_has_a_picture_for_each_position(run):
    blend = {"from": {"labels": "fire"}, "to": {"labels": "snow"}, "steps": 3}
    rows = source_rows(run, {"blend": blend, "seeds": 2})
    assert sorted((row["blend"], row["seed"]) for row in rows) == sorted(
        (position, seed) for position in (0.0, 0.5, 1.0) for seed in {row["seed"] for row in rows}
    )
    assert {tuple(row["clip_ids"]) for row in rows} == {(CLIPS[1], CLIPS[3])}
    assert len({row["render_id"] for row in rows}) == 6


def test_a_prompt_without_a_cue_is_one_picture_of_the_plain_model_per_seed(run):
    rows = source_rows(run, {"prompt": "a photo of rain", "seeds": 2})
    assert [(row["clip_ids"], row["vectors"], row["num_tokens"], row["uri"]) for row in rows] == [
        ([], [], None, None)
    ] * 2


def test_a_prompt_with_metadata_and_no_cue_is_a_picture_of_the_plain_model_per_clip(run):
    rows = source_rows(run, {"prompt": "a photo of {label}"})
    found = [(row["prompt"], row["fault"] is None) for row in rows]
    assert {prompt for prompt, is_good in found if is_good} == {f"a photo of {label}" for label in LABELS if label}
    assert [prompt for prompt, is_good in found if not is_good] == ["a photo of {label}"], "one clip has no label"


def test_a_prompt_that_takes_nothing_from_a_clip_is_named_for_a_star_may_be_forgotten(run):
    prompts = ["a photo of *", "a photo of a", "a photo of {label}"]
    source = RenderSource(run, jobs_of(run, {"prompt": prompts, "name": "x"}))
    assert source.warnings() == [
        "jobs: job 1 (x): 'a photo of a' has no * for a sound: the plain model renders it",
        "1 of the pictures cannot be rendered: the clip has no label, which the prompt 'a photo of {label}' asks for: "
        "add it to the metadata",
    ]


def test_prompts_are_filled_with_the_metadata_of_the_first_clip(tmp_path):
    attributes = ['{"place": "Oslo"}', "{}", None, "{}", "{}"]
    run = add_cues(run_on(tmp_path / "bank"), attributes=attributes)
    rows = source_rows(run, {"prompt": "a * in {place}", "cues": {"labels": "rain"}})
    found = {row["clip_ids"][0]: (row["prompt"], row["fault"]) for row in rows}
    assert found[CLIPS[0]] == ("a * in Oslo", None)
    assert "has no place" in found[CLIPS[2]][1]


def test_pictures_that_cannot_be_rendered_are_announced(run):
    source = RenderSource(run, jobs_of(run, {"prompt": "a * in {plcae}", "cues": {"labels": "rain"}, "seeds": 2}))
    num = source.pending().num
    assert num and source.warnings() == [
        f"{num} of the pictures cannot be rendered: the clip has no plcae, which the prompt "
        "'a * in {plcae}' asks for: add it to the metadata"
    ]


def test_a_filter_that_selects_no_cue_is_named(run):
    jobs = jobs_of(
        run,
        {"prompt": ["a *rain and *hail", "a *rain"], "named": {"rain": {"labels": "fire"}}},
        {"prompt": "a *", "blend": {"from": {"labels": "hail"}, "to": "true"}},
        {"name": "none", "cues": {"labels": "hail"}},
    )
    source = RenderSource(run, jobs)
    assert source.pending().num == 1 and source.warnings() == [
        "jobs: job 1: no cue passes the filter of named.hail; the labels are rain (2), fire (1), snow (1)",
        "jobs: job 2: no cue passes the filter of blend.from; the labels are rain (2), fire (1), snow (1)",
        "jobs: job 3 (none): no cue passes its filter; the labels are rain (2), fire (1), snow (1)",
    ]


def test_labels_and_ids_that_select_nothing_beside_others_are_named(run):
    jobs = jobs_of(run, {"cues": {"labels": ["fire", "hail"]}}, {"cues": {"clip_ids": [CLIPS[0], "abc"]}})
    assert RenderSource(run, jobs).warnings() == [
        "jobs: job 1: no cue that passes its filter has: label hail; the labels are rain (2), fire (1), snow (1)",
        "jobs: job 2: no cue that passes its filter has: id 'abc'; the labels are rain (2), fire (1), snow (1)",
    ]


def test_a_condition_that_is_wrong_is_named_with_its_key(run):
    with pytest.raises(BadConfig, match="'lable = 1' cannot be used") as error:
        RenderSource(run, jobs_of(run, {"prompt": "a *b", "named": {"b": "lable = 1"}}))
    assert error.value.key == "jobs: job 1: named.b.where"


def test_a_workspace_without_cues_comes_with_the_remedy(tmp_path):
    run = run_on(tmp_path / "bank")
    with pytest.raises(BadConfig, match="has no cues of this configuration: run `aai build`") as error:
        RenderSource(run, jobs_of(run, {}))
    assert error.value.key == "workspace"


def test_cues_of_another_configuration_are_not_rendered(run):
    other = run_on(run.workspace.uri, fit={"method": "inversion"})
    with pytest.raises(BadConfig):
        RenderSource(other, jobs_of(other, {}))


def test_many_pictures_are_never_a_list(run, monkeypatch):
    """Counting 40,000 pictures and streaming the first rows takes less than a Python object for each would."""
    monkeypatch.setattr("tasks.render_source._PICTURES_AT_ONCE", 1_000)
    source = RenderSource(run, jobs_of(run, {"prompt": [f"a * {number}" for number in range(40)], "seeds": 200}))
    tracemalloc.start()
    try:
        pending = source.pending()
        assert pending.num == 40_000 and next(iter(pending.rows)).num_rows
        assert tracemalloc.get_traced_memory()[1] < 10e6
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("mode", [{}, {"mode": "edit", "source_prompt": "a city"}], ids=["generate", "edit"])
def test_a_million_seeds_are_planned_without_expanding_them(run, mode, monkeypatch):
    monkeypatch.setattr("tasks.render_source._pictures", None)
    source = RenderSource(run, jobs_of(run, {"name": "a", "seeds": 1_000_000} | mode, {"name": "b", "seeds": 7} | mode))
    assert source.counts() == (5_000_000, 5_000_000, 0) and source.warnings() == []


def test_plans_of_many_pictures_count_as_those_of_few(run, monkeypatch):
    """Lists of seeds overlap, jobs ask for the same pictures, some are rendered, and some cannot be."""
    jobs = jobs_of(
        run,
        {"name": "a", "seeds": 3},
        {"name": "b", "seeds": 5, "cues": {"labels": "rain"}},
        {"name": "c", "seeds": [run.config.seed, 7, *jobs_of(run, {"seeds": 9})[0].seeds_under(0)[2:]]},
        {"name": "d", "prompt": "a * in {label}", "seeds": 4},
        {
            "name": "e",
            "mode": "edit",
            "source_prompt": "a city",
            "prompt": ["a * city", "a city of *"],
            "seeds": [1, 7],
        },
    )
    rows = pa.concat_tables(RenderSource(run, jobs).pending().rows).to_pylist()
    done = {row["render_id"]: row["seed"] for row in rows[::3]} | {"of another job": 7}
    finish(run, done, done.values())
    few = RenderSource(run, jobs)
    expected = (len(rows), len(rows) - len(rows[::3]), 0)
    assert len({row["render_id"] for row in rows}) == len(rows) and few.counts() == expected
    warnings = few.warnings()
    monkeypatch.setattr("tasks.render_source._EXPANDED_FOR_PLANS", 0)
    monkeypatch.setattr("tasks.render_source._PICTURES_AT_ONCE", 7)
    many = RenderSource(run, jobs)
    assert many.counts() == expected and many.warnings() == warnings
    assert many.pending().num == expected[1]
    assert "4 of the pictures cannot be rendered: the clip has no label" in many.warnings()[0]


def test_edits_from_one_source_and_seed_come_together(run):
    job = {
        "mode": "edit",
        "source_prompt": "a city",
        "prompt": ["a * city", "a city of *"],
        "seeds": [5, 3],
        "limit": 2,
    }
    rows = source_rows(run, job)
    assert [(row["seed"], row["prompt"]) for row in rows] == [
        (seed, prompt) for seed in (5, 3) for prompt in ("a * city", "a city of *") for _ in range(2)
    ]


def test_too_many_pictures_are_refused_before_any_is_expanded(tmp_path):
    run = add_cues(run_on(tmp_path / "bank", run={"max_pictures": 100}))
    source = RenderSource(run, jobs_of(run, {"name": "a"}, {"name": "b", "seeds": 20}))
    for count in (source.counts, source.pending, source.warnings):
        with pytest.raises(BadConfig, match="the jobs ask for 105 pictures, more than 100") as error:
            count()
        assert error.value.key == "jobs: job 2 (b)"
