"""Rendering on the shipped weights: every picture that is asked for is made once, whatever dies and whoever asks."""

import gc
import io
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from PIL import Image

from aai.cues.interpolate import between
from aai.errors import BadConfig
from aai.identity import content_id
from aai.media.images import ImageOptions, decode
from aai.models.diffusion import load_diffusion
from aai.models.options import RenderOptions
from aai.workspace.shards import read_member, read_picture
from tasks.render import Renderer, plan, render
from tasks.render_source import JobSource
from tasks.runtime.run import Run
from tasks.runtime.work import Host
from tests.bank import CLIPS, DIM, GENERATED, LABELS, add_cues, jobs_of, rows_of, run_on


def pixels_of(run: Run) -> dict[str, np.ndarray]:
    found = {}
    for row in rows_of(run):
        found[row["render_id"]] = decode(read_picture(run.workspace, row), "", ImageOptions()).pixels
    return found


def assert_same_pictures(first: dict, second: dict) -> None:
    """Equal to a thousandth, which in whole numbers is one up or down, and seldom that."""
    assert first.keys() == second.keys() and first
    for render_id, pixels in first.items():
        off = np.abs(pixels.astype(int) - second[render_id])
        assert off.max() <= 1 and off.mean() < 1e-3 * 255


def shards_of(run: Run) -> list[str]:
    return run.workspace.store.files("shards")


@pytest.fixture
def run(tmp_path) -> Run:
    return add_cues(run_on(tmp_path / "bank"))


@pytest.fixture(scope="module")
def rendered(tmp_path_factory) -> Run:
    """Two prompts, three kinds of file, two seeds: to be left as it is."""
    run = add_cues(run_on(tmp_path_factory.mktemp("work") / "bank"))
    render(run, jobs_of(run, *[{"name": kind, "seeds": 2, "format": kind} for kind in ("png", "jpg", "webp")]))
    return run


def test_a_row_and_a_recipe_say_how_each_picture_was_made(rendered):
    rows = rows_of(rendered)
    assert len(rows) == len({row["render_id"] for row in rows}) == 3 * 2 * len(CLIPS)
    for row in rows:
        told = json.loads(read_member(rendered.workspace, row["shard"], row["key"], "json"))
        both = told.keys() & row.keys()
        assert {key: told[key] for key in both} == {key: "" if row[key] is None else row[key] for key in both}
        label = LABELS[CLIPS.index(row["clip_ids"][0])]
        assert (told["labels"], told["licences"], told["method"]) == ([label or ""], ["CC0"], "mapper")
        assert (told["prompt"], told["steps"], told["base_model"]) == ("a photo of *", 2, "pipeline")
        assert (told["recipe"], told["job"]) == (rendered.recipe("renders"), row["format"])
        picture = decode(read_picture(rendered.workspace, row), "", ImageOptions())
        assert picture.stored_size_px == (row["width"], row["height"]) == (64, 64)


def test_all_cues_are_rendered_from_the_same_noise(rendered):
    seeds = {clip: {row["seed"] for row in rows_of(rendered) if row["clip_ids"] == [clip]} for clip in CLIPS}
    assert len(set(map(frozenset, seeds.values()))) == 1 and len(seeds[CLIPS[0]]) == 2


def test_every_picture_says_in_itself_that_it_is_generated(rendered):
    for row in rows_of(rendered):
        xmp = Image.open(io.BytesIO(read_picture(rendered.workspace, row))).info["xmp"]
        assert GENERATED in xmp and row["clip_ids"][0].encode() in xmp and str(row["seed"]).encode() in xmp


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # webdataset leaves the files open
def test_webdataset_reads_the_shards_as_they_are(rendered):
    import webdataset

    paths = sorted(map(rendered.workspace.store.path, shards_of(rendered)))
    read = list(webdataset.WebDataset(paths, shardshuffle=False).decode("rgb8"))
    assert {each["__key__"] for each in read} == {row["key"] for row in rows_of(rendered)}
    for each in read:
        assert each[each["json"]["format"]].shape == (64, 64, 3) and each["json"]["render_id"] == each["__key__"]
    gc.collect()


def test_hugging_face_datasets_reads_the_shards_as_they_are(run, tmp_path):
    import datasets

    render(run, jobs_of(run, {}))
    paths = sorted(map(run.workspace.store.path, shards_of(run)))
    read = datasets.load_dataset("webdataset", data_files=paths, split="train", cache_dir=str(tmp_path / "cache"))
    assert {each["__key__"]: each["json"]["labels"] for each in read} == {
        row["key"]: [LABELS[CLIPS.index(row["clip_ids"][0])] or ""] for row in rows_of(run)
    }
    assert all(each["png"].size == (64, 64) for each in read)


def test_the_same_picture_is_never_made_twice_whoever_asks(run):
    first = jobs_of(run, {"name": "a", "seeds": 1}, {"name": "b", "cues": {"labels": "rain"}, "prompt": "a * city"})
    assert render(run, first).new == len(CLIPS) + 2
    shards = shards_of(run)
    again = jobs_of(
        run,
        {"name": "c", "cues": "label = 'rain'", "prompt": ["a * city", "a photo of *"]},
        {"name": "d", "limit": 4, "quality": 7},
    )
    assert plan(run, again).new == 0
    assert render(run, again).new == 0
    assert shards_of(run) == shards


@pytest.mark.parametrize(
    "change",
    [{"prompt": "a * city"}, {"negative_prompt": "fog"}, {"seeds": [1]}, {"steps": 3}, {"guidance": 2},
     {"scheduler": "euler"}, {"width": 72}, {"format": "jpg"}, {"format": "jpg", "quality": 50}],
    ids=str,
)  # fmt: skip
def test_whatever_changes_a_picture_makes_it_another_one(run, change):
    ids = [set(JobSource(run, jobs_of(run, each)).ids().to_pylist()) for each in ({}, change)]
    assert [len(each) for each in ids] == [len(CLIPS)] * 2 and not ids[0] & ids[1]


def test_a_changed_prompt_costs_only_its_own_pictures(run):
    assert render(run, jobs_of(run, {"cues": {"labels": "rain"}, "prompt": ["a *", "the *"]})).new == 4
    done = render(run, jobs_of(run, {"cues": {"labels": "rain"}, "prompt": ["a *", "one *"]}))
    assert (done.done, done.new) == (2, 2)


def test_a_picture_is_the_same_alone_and_in_a_batch(run, tmp_path):
    strong = {"prompt": "a *fire:1.5 and *", "steps": 3}
    jobs = jobs_of(run, {"seeds": 2, "guidance": 4, "steps": 3}, strong, {"prompt": "a *snow of *rain", "steps": 3})
    render(run, jobs)
    alone = add_cues(run_on(tmp_path / "alone", render={"guidance": 1, "batch_size": 1}))
    render(alone, jobs)
    assert_same_pictures(pixels_of(run), pixels_of(alone))


def test_pictures_that_are_made_alike_come_one_after_the_other(run):
    sizes = [{"name": f"{size} {kind}", "width": size, "prompt": f"{kind} *"} for size in (72, 64) for kind in "ab"]
    source = JobSource(run, jobs_of(run, *sizes, {"width": 72, "prompt": ["a *", "c *"]}))
    rows = pa.concat_tables(source.rows(source.ids())).to_pylist()
    assert len(rows) == 5 * len(CLIPS)
    order = [(json.loads(row["options"])["width"], row["prompt"]) for row in rows]
    assert order == sorted(order)


def test_only_what_is_pending_is_looked_up(run):
    source = JobSource(run, jobs_of(run, {"seeds": 3, "prompt": ["a *", "the *"]}))
    some = pa.chunked_array([source.ids().take([1, 2, 17, 29])])
    rows = pa.concat_tables(source.rows(some))
    assert rows["render_id"].to_pylist() == some.to_pylist()
    assert set(rows["num_tokens"].to_pylist()) == {2}
    assert {len(vector) for [vector] in rows["vectors"].to_pylist()} == {2 * DIM}


def source_rows(run: Run, *jobs) -> list[dict]:
    source = JobSource(run, jobs_of(run, *jobs))
    return pa.concat_tables(source.rows(source.ids())).to_pylist()


def test_the_address_of_a_picture_of_one_cue_is_for_ever(run):
    """Word for word: were it another one, whoever upgrades would render all again."""
    [row] = source_rows(run, {"cues": {"clip_ids": CLIPS[1]}, "seeds": [7], "negative_prompt": "fog"})
    options = '{"format": "png", "guidance": 1.0, "height": null, "scheduler": null, "steps": 2, "width": null}'
    asked = [run.recipe("cues"), run.model_pin("diffusion"), [CLIPS[1]], "a photo of *", "fog", options]
    assert row["render_id"] == content_id(json.dumps(asked).encode() + b"7")
    assert content_id(b'["cues", "model", ["clip"], "a photo of *", "", "{}"]7') == "b163796d9e038f9ad63507074ca9fbf5"


def test_cues_of_several_names_come_together_in_turn(run):
    job = {"prompt": "a *fire, * and *rain", "cues": "label is not null", "named": {"fire": {"clip_ids": CLIPS}}}
    rows = source_rows(run, job)
    every, labelled = sorted(CLIPS), sorted(clip for clip, label in zip(CLIPS, LABELS, strict=True) if label)
    rain = sorted(clip for clip, label in zip(CLIPS, LABELS, strict=True) if label == "rain")
    assert [row["clip_ids"] for row in rows] == [[every[i], labelled[i % 4], rain[i % 2]] for i in range(5)]
    assert all(row["labels"] == [LABELS[CLIPS.index(clip)] for clip in row["clip_ids"]] for row in rows)
    cues = {row["clip_id"]: row["vector"] for row in run.workspace.table("cues").read().to_pylist()}
    assert all(row["vectors"] == [cues[clip] for clip in row["clip_ids"]] for row in rows)
    assert [row["clip_ids"] for row in source_rows(run, job | {"limit": 2})] == [row["clip_ids"] for row in rows[:2]]


def test_a_name_that_no_cue_fits_is_named_and_nothing_is_rendered_for_it(run):
    jobs = jobs_of(
        run,
        {"prompt": ["a *rain and *hail", "a *rain"], "named": {"rain": {"labels": "fire"}}},
        {"prompt": "a *", "blend": {"from": {"labels": "hail"}, "to": "true"}},
    )
    planned = plan(run, jobs)
    assert planned.new == 1 and planned.warnings == [
        "jobs: job 1: no cue passes the filter of named.hail",
        "jobs: job 2: no cue passes the filter of blend.from",
    ]
    bad = jobs_of(run, {"prompt": "a *b", "named": {"b": "lable = 1"}})
    with pytest.raises(BadConfig, match="jobs: job 1: named.b.where: 'lable = 1' cannot be used"):
        plan(run, bad)


def test_pictures_of_several_cues_and_of_blends_are_what_the_model_makes_of_them(run):
    named = {"prompt": "a *fire and *snow:0.5", "seeds": [3]}
    blend = {
        "prompt": "a *snow and *",
        "seeds": [3],
        "blend": {"from": {"labels": "fire"}, "to": {"clip_ids": CLIPS[2]}},
    }
    blend["blend"]["steps"] = 3
    render(run, jobs_of(run, named | {"name": "named"}, blend | {"name": "blend"}))
    found = {(row["job"], row["blend"]): row for row in rows_of(run)}
    assert set(found) == {("named", None), ("blend", 0.0), ("blend", 0.5), ("blend", 1.0)}
    assert {row["mode"] for row in found.values()} == {"generate"}
    assert found["named", None]["clip_ids"] == [CLIPS[1], CLIPS[3]]
    assert {tuple(found["blend", at]["clip_ids"]) for at in (0.0, 0.5, 1.0)} == {(CLIPS[3], CLIPS[1], CLIPS[2])}

    diffusion = load_diffusion(run.config.models.diffusion.name)
    cues = {row["clip_id"]: row["vector"] for row in run.workspace.table("cues").read().to_pylist()}
    fire, rain, snow = (torch.tensor(cues[CLIPS[i]]).view(2, DIM) for i in (1, 2, 3))
    middle = between(fire, rain, 0.5, [DIM])
    wanted = [("a *fire and *snow:0.5", fire, snow)] + [("a *snow and *", snow, each) for each in (fire, middle, rain)]
    expected = [
        diffusion.render([prompt], [3], torch.cat(both)[None], options=RenderOptions(steps=2, guidance=1))[0]
        for prompt, *both in wanted
    ]
    places = [("named", None), ("blend", 0.0), ("blend", 0.5), ("blend", 1.0)]
    assert_same_pictures(
        pixels_of(run), {found[place]["render_id"]: pixels for place, pixels in zip(places, expected, strict=True)}
    )


def test_a_picture_of_a_blend_says_where_it_is_and_is_never_made_twice(run):
    job = {"blend": {"from": {"labels": "fire"}, "to": {"labels": "snow"}, "steps": 3}}
    assert render(run, jobs_of(run, job)).new == 3
    for row in rows_of(run):
        told = json.loads(read_member(run.workspace, row["shard"], row["key"], "json"))
        assert (told["blend"], told["clip_ids"], told["mode"]) == (row["blend"], row["clip_ids"], "generate")
        assert told["labels"] == ["fire", "snow"]
        xmp = Image.open(io.BytesIO(read_picture(run.workspace, row))).info["xmp"].decode()
        assert f"&quot;blend&quot;: {row['blend']}" in xmp or f'"blend": {row["blend"]}' in xmp
    longer = job["blend"] | {"steps": 5}
    assert plan(run, jobs_of(run, {"blend": longer})).new == 2


def test_words_have_names_but_no_strength_and_no_blend(tmp_path):
    run = add_cues(run_on(tmp_path / "bank", fit={"method": "text"}), num_tokens=0)
    blend = {"from": {"labels": "fire"}, "to": {"labels": "snow"}, "steps": 2}
    jobs = jobs_of(
        run, {"prompt": "a *fire and *snow", "seeds": [5, 6, 7]}, {"prompt": "a *fire:0.5"}, {"blend": blend}
    )
    done = render(run, jobs)
    assert (done.new, done.rejected) == (3, 3)
    sentences = {row["sentence"] for row in run.workspace.table("rejects").read().to_pylist()}
    assert sentences == {
        f"prompt {prompt!r}: cues of method text are words, which have no strength and no blend"
        for prompt in ("a *fire:0.5", "a photo of *")
    }
    diffusion = load_diffusion(run.config.models.diffusion.name)
    expected = diffusion.render(["a fire and snow"], [5], options=RenderOptions(steps=2, guidance=1))
    [render_id] = [row["render_id"] for row in rows_of(run) if row["seed"] == 5]
    assert_same_pictures({render_id: pixels_of(run)[render_id]}, {render_id: expected[0]})


def drive(bank, *jobs):
    """What a subprocess runs: three slices of two pictures, of which the last is not committed, then the end."""
    run = run_on(bank, pool={"num_workers": 0, "slice_size": 2}, run={"commit_slices": 2, "commit_s": 1000})

    def die(finished, total, rate):
        if finished == 6:
            os.kill(os.getpid(), signal.SIGKILL)

    run.watch = lambda stage: die
    render(run, jobs_of(run, *map(json.loads, jobs)))


@pytest.mark.chaos
def test_after_a_kill_each_picture_is_there_once_and_the_same(run, tmp_path):
    job = {"seeds": 2}
    code = "import sys; from test_render import drive; drive(*sys.argv[1:])"
    path = os.pathsep.join([*map(str, Path(__file__).parents[:3]), *sys.path])
    killed = subprocess.run(
        [sys.executable, "-c", code, run.workspace.uri, json.dumps(job)], env=os.environ | {"PYTHONPATH": path}
    )
    assert killed.returncode == -signal.SIGKILL
    committed = {row["shard"] for row in rows_of(run)}
    orphans = run.workspace.health().orphan_shards
    assert len(rows_of(run)) == 4 and orphans == sorted(set(shards_of(run)) - committed) and len(orphans) == 1
    assert render(run, jobs_of(run, job)).new == 2 * len(CLIPS) - 4
    undisturbed = add_cues(run_on(tmp_path / "undisturbed"))
    render(undisturbed, jobs_of(undisturbed, job))
    assert_same_pictures(pixels_of(run), pixels_of(undisturbed))
    health = run.workspace.health()
    assert (health.orphan_shards, health.missing_shards, health.duplicates) == (orphans, [], {})


def test_what_cannot_be_rendered_is_rejected_and_the_others_are_made(run):
    jobs = jobs_of(run, {"prompt": "a {label} *"}, {"prompt": "very " * 80 + "*", "cues": {"labels": "snow"}})
    done = render(run, jobs)
    assert (done.new, done.rejected) == (4, 2)
    sentences = [row["sentence"] for row in run.workspace.table("rejects").read().to_pylist()]
    assert any("has no label, which the prompt 'a {label} *' asks for" in each for each in sentences)
    assert any("shorten the prompt" in each for each in sentences)
    assert {row["prompt"] for row in rows_of(run)} == {"a rain *", "a fire *", "a snow *"}
    after = plan(run, jobs)
    assert (after.total, after.new, after.rejected) == (6, 0, 2)


def test_where_a_cue_has_no_rows_the_label_stands_for_it(tmp_path):
    run = add_cues(run_on(tmp_path / "bank", fit={"method": "text"}), num_tokens=0)
    render(run, jobs_of(run, {"cues": {"labels": "fire"}, "seeds": [5]}))
    diffusion = load_diffusion(run.config.models.diffusion.name)
    expected = diffusion.render(["a photo of fire"], [5], options=RenderOptions(steps=2, guidance=1))
    [row] = rows_of(run)
    assert row["prompt"] == "a photo of *"
    assert_same_pictures(pixels_of(run), {row["render_id"]: expected[0]})


def test_short_memory_halves_the_batch_and_leaves_one_shard(run):
    source = JobSource(run, jobs_of(run, {}))
    [rows] = source.rows(source.ids())
    renderer = Renderer(run.config, run.pinned("diffusion"), run.workspace, run.recipe("renders"))
    whole = renderer.diffusion.render

    def small(prompts, *others):
        if len(prompts) > 2:
            raise torch.OutOfMemoryError("too much")
        return whole(prompts, *others)

    renderer.diffusion.render = small
    host = Host("render_id")
    host.load(lambda: renderer)
    done = host.run(rows)
    assert done.outcome.rows.num_rows == len(CLIPS) and renderer.batch_size == 2
    assert len(shards_of(run)) == 1


def test_a_job_that_no_cue_fits_is_named_and_the_others_are_done(run):
    jobs = jobs_of(run, {"name": "hail", "cues": {"labels": "hail"}}, {"limit": 1})
    assert plan(run, jobs).warnings == ["jobs: job 1 (hail): no cue passes its filter"]
    assert render(run, jobs).new == 1


def test_a_workspace_without_cues_gets_a_sentence(tmp_path):
    run = run_on(tmp_path / "bank")
    with pytest.raises(BadConfig, match="has no cues of this configuration: run `aai build`"):
        render(run, jobs_of(run, {}))


def test_the_plan_knows_the_rate_of_the_last_run(run):
    assert plan(run, jobs_of(run, {})).estimate_s is None
    rate = render(run, jobs_of(run, {})).rate
    assert plan(run, jobs_of(run, {"seeds": 3})).estimate_s == pytest.approx(2 * len(CLIPS) / rate, rel=0.01)


def test_planning_loads_no_model_and_no_ray(rendered):
    code = (
        "import sys; from aai.jobs.jobfile import make_jobs\n"
        "from tasks.runtime.config import make_config; from tasks.runtime.run import open_run\n"
        "from tasks.render import plan, render\n"
        "run = open_run(make_config(workspace=sys.argv[1], fit={'method': 'mapper'}, render={'guidance': 1}))\n"
        "jobs = make_jobs([{'prompt': 'a photo of *', 'steps': 2, 'seeds': 2}], run.config.render)\n"
        "print(plan(run, jobs).new, render(run, jobs).new, *sorted({'torch', 'ray', 'diffusers'} & sys.modules.keys()))"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code, rendered.workspace.uri], capture_output=True, text=True, check=True
    )
    assert ran.stdout.split() == ["0", "0"]
