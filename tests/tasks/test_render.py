"""Rendering on the shipped weights: every requested picture is made once, whatever dies and whichever job asks."""

import gc
import io
import json
import os
import signal
import subprocess
import sys
from glob import glob
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from aai.cues.interpolate import between
from aai.jobs.jobfile import load_jobs
from aai.media.images import ImageOptions, decode, encode
from aai.models.diffusion import load_diffusion
from aai.models.options import RenderOptions
from aai.models.prompt_lengths import PromptLengths
from aai.workspace.shards import read_picture
from tasks.render import Renderer, RenderPlan, RenderSectionOptions, plan_render, render
from tasks.render import shards_of as glob_of_shards
from tasks.render_source import RenderSource
from tasks.runtime.estimates import Estimate
from tasks.runtime.run import Run
from tasks.runtime.work import WorkerRunner
from tasks.views.report import gather
from tests.bank import CLIPS, DIM, GENERATED, LABELS, QUICK, add_cues, jobs_of, json_of, relabel, rows_of, run_on

ROOT = Path(__file__).parents[2]


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


def plan_of(run: Run, jobs) -> RenderPlan:
    return plan_render(run, RenderSource(run, jobs))


def shards_of(run: Run) -> list[str]:
    return run.workspace.store.files("shards")


@pytest.fixture
def run(tmp_path) -> Run:
    return add_cues(run_on(tmp_path / "bank"))


@pytest.fixture
def tolerant(tmp_path) -> Run:
    """A run that goes on if all pictures are rejected."""
    return add_cues(run_on(tmp_path / "bank", run={"max_reject_fraction": 1}))


@pytest.fixture(scope="module")
def rendered(tmp_path_factory) -> Run:
    """Two prompts, three kinds of file, two seeds: tests leave it as it is."""
    run = add_cues(run_on(tmp_path_factory.mktemp("work") / "bank"))
    render(run, jobs_of(run, *[{"name": kind, "seeds": 2, "format": kind} for kind in ("png", "jpg", "webp")]))
    return run


def test_row_and_json_say_how_each_picture_was_rendered(rendered):
    rows = rows_of(rendered)
    assert len(rows) == len({row["render_id"] for row in rows}) == 3 * 2 * len(CLIPS)
    for row in rows:
        stored = json_of(rendered, row)
        both = stored.keys() & row.keys()
        assert {key: stored[key] for key in both} == {key: "" if row[key] is None else row[key] for key in both}
        label = LABELS[CLIPS.index(row["clip_ids"][0])]
        assert (stored["labels"], stored["licences"], stored["method"]) == ([label or ""], ["CC0"], "mapper")
        assert (stored["prompt"], stored["steps"], stored["base_model"]) == ("a photo of *", 2, "pipeline")
        assert (stored["recipe"], stored["job"]) == (rendered.recipe("renders"), row["format"])
        picture = decode(read_picture(rendered.workspace, row), "", ImageOptions())
        assert picture.stored_size_px == (row["width"], row["height"]) == (64, 64)


def test_all_cues_are_rendered_from_the_same_noise(rendered):
    seeds = {clip: {row["seed"] for row in rows_of(rendered) if row["clip_ids"] == [clip]} for clip in CLIPS}
    assert len(set(map(frozenset, seeds.values()))) == 1 and len(seeds[CLIPS[0]]) == 2


def test_the_xmp_of_every_picture_says_that_it_is_generated(rendered):
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


def test_hugging_face_datasets_reads_the_shards_of_each_format_as_they_are(rendered, tmp_path):
    import datasets

    for kind in ("png", "jpg", "webp"):
        files, cache = glob_of_shards(rendered, kind), str(tmp_path / "cache")
        read = datasets.load_dataset("webdataset", data_files=files, split="train", cache_dir=cache)
        assert {each["__key__"]: each["json"]["labels"] for each in read} == {
            row["key"]: [LABELS[CLIPS.index(row["clip_ids"][0])] or ""]
            for row in rows_of(rendered)
            if row["format"] == kind
        }
        assert all(each[kind].size == (64, 64) for each in read)


def test_a_picture_is_never_rendered_twice_whichever_job_asks(run):
    first = jobs_of(run, {"name": "a", "seeds": 1}, {"name": "b", "cues": {"labels": "rain"}, "prompt": "a * city"})
    assert render(run, first).new == len(CLIPS) + 2
    shards = shards_of(run)
    again = jobs_of(
        run,
        {"name": "c", "cues": "label = 'rain'", "prompt": ["a * city", "a photo of *"]},
        {"name": "d", "limit": 4, "quality": 7},
    )
    assert plan_of(run, again).new == 0
    assert render(run, again).new == 0
    assert shards_of(run) == shards


def test_a_changed_prompt_renders_its_own_pictures_alone(run):
    assert render(run, jobs_of(run, {"cues": {"labels": "rain"}, "prompt": ["a *", "the *"]})).new == 4
    done = render(run, jobs_of(run, {"cues": {"labels": "rain"}, "prompt": ["a *", "one *"]}))
    assert (done.done, done.new) == (2, 2)


def test_a_picture_is_the_same_alone_and_in_a_batch(run, tmp_path):
    strong = {"prompt": "a *fire:1.5 and *", "limit": 3}
    jobs = jobs_of(run, {"seeds": 2, "guidance": 4, "limit": 3}, strong, {"prompt": "a *snow of *rain"})
    render(run, jobs)
    alone = add_cues(run_on(tmp_path / "alone", render={"guidance": 1, "batch_size": 1}))
    render(alone, jobs)
    assert_same_pictures(pixels_of(run), pixels_of(alone))


def test_pictures_of_several_cues_and_of_blends_are_those_of_the_model(run):
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
    blends = [("a *snow and *", snow, cue) for cue in (fire, middle, rain)]
    expected = [
        diffusion.render([prompt], [3], torch.cat(both)[None], options=RenderOptions(steps=2, guidance=1))[0]
        for prompt, *both in [("a *fire and *snow:0.5", fire, snow), *blends]
    ]
    positions = [("named", None), ("blend", 0.0), ("blend", 0.5), ("blend", 1.0)]
    assert_same_pictures(
        pixels_of(run),
        {found[position]["render_id"]: pixels for position, pixels in zip(positions, expected, strict=True)},
    )


def test_a_picture_of_a_blend_has_its_position_and_is_never_rendered_twice(run):
    job = {"blend": {"from": {"labels": "fire"}, "to": {"labels": "snow"}, "steps": 3}}
    assert render(run, jobs_of(run, job)).new == 3
    for row in rows_of(run):
        stored = json_of(run, row)
        assert (stored["blend"], stored["clip_ids"], stored["mode"]) == (row["blend"], row["clip_ids"], "generate")
        assert stored["labels"] == ["fire", "snow"]
        xmp = Image.open(io.BytesIO(read_picture(run.workspace, row))).info["xmp"].decode()
        assert f"&quot;blend&quot;: {row['blend']}" in xmp or f'"blend": {row["blend"]}' in xmp
    longer = job["blend"] | {"steps": 5}
    assert plan_of(run, jobs_of(run, {"blend": longer})).new == 2


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
    code = "import sys; from tests.tasks.test_render import drive; drive(*sys.argv[1:])"
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
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


def test_pictures_that_cannot_be_rendered_are_rejected_and_the_others_are_rendered(run):
    jobs = jobs_of(run, {"prompt": "a {label} *"}, {"prompt": "very " * 80 + "*", "cues": {"labels": "snow"}})
    done = render(run, jobs)
    assert (done.new, done.rejected) == (4, 2)
    sentences = [row["sentence"] for row in run.workspace.table("rejects").read().to_pylist()]
    assert any("has no label, which the prompt 'a {label} *' asks for" in each for each in sentences)
    assert any("has 82 tokens, and the text encoder reads 22" in each for each in sentences)
    assert {row["prompt"] for row in rows_of(run)} == {"a rain *", "a fire *", "a snow *"}
    after = plan_of(run, jobs)
    assert (after.total, after.new, after.rejected) == (6, 0, 2)


def test_rejects_that_the_job_file_no_longer_asks_for_are_forgotten(tolerant, tmp_path):
    run = tolerant

    def rejected(name: str, *jobs: dict) -> int:
        (tmp_path / name).write_text(yaml.safe_dump([QUICK | job for job in jobs]))
        render(run, load_jobs(tmp_path / name, run.config.options(RenderSectionOptions).of_jobs))
        return sum(kind.num for kind in gather(run, 0).rejects)

    unlabelled, long = {"prompt": "a {label} *"}, {"prompt": "very " * 80 + "*", "cues": {"labels": "snow"}}
    assert rejected("a.yaml", unlabelled, long) == 2
    assert rejected("b.yaml", {"prompt": "a {caption} *", "limit": 1}) == 3
    assert rejected("a.yaml", unlabelled, long) == 3, "they are still asked for"
    relabel(run, "audio", {"/sounds/4.flac": "hail"})
    assert rejected("a.yaml", unlabelled, long) == 2, "the clip has a label now"
    assert rejected("a.yaml", unlabelled) == 1, "the job is gone"
    assert rejected("b.yaml", {"prompt": "a photo of *", "limit": 1}) == 0
    assert run.workspace.table("rejects").read().num_rows == 0


def test_a_repaired_photo_has_no_reject(tolerant, tmp_path):
    run = tolerant
    photo = tmp_path / "photo.png"
    photo.write_bytes(encode(np.full((64, 64, 3), 99, np.uint8), "png")[:-40])
    job = {"mode": "stylise", "source_images": str(photo), "source_prompt": "a city", "prompt": "a * city", "limit": 1}
    assert render(run, jobs_of(run, job)).rejected == 1
    assert [kind.stage for kind in gather(run, 0).rejects] == ["render, by the last run of each job file"]
    photo.write_bytes(encode(np.full((64, 64, 3), 99, np.uint8), "png"))
    assert render(run, jobs_of(run, job)).new == 1 and gather(run, 0).rejects == []


LONG = "very " * 21 + "rain city"


@pytest.mark.parametrize(
    "job",
    [
        {"prompt": f"a * {LONG}"},
        {"negative_prompt": LONG, "guidance": 2},
        {"mode": "edit", "source_prompt": LONG, "prompt": "a * city"},
        {"prompt": "a * of {caption}"},
    ],
)
def test_a_text_longer_than_the_context_is_known_before_any_work_and_its_pictures_are_rejected(tmp_path, job):
    """Otherwise its end would be lost, and rows and metadata would claim all of it."""
    run = add_cues(run_on(tmp_path / "bank"), caption=[LONG] * len(CLIPS))
    jobs = jobs_of(run, job | {"limit": 1}, {"prompt": "a photo of *", "limit": 2})
    planned = plan_of(run, jobs)
    [warning] = planned.warnings
    assert "1 of the pictures cannot be rendered: the prompt" in warning and "tokens, and the text encoder" in warning
    assert (planned.new, planned.faulty) == (3, 1)
    assert (render(run, jobs).new, len(rows_of(run))) == (2, 2)
    again = plan_of(run, jobs)
    assert (again.new, again.rejected, again.faulty) == (0, 1, 0)
    [reject] = run.workspace.table("rejects").read().to_pylist()
    assert reject["sentence"] in warning and "city'" in reject["sentence"]


def test_what_the_plan_does_not_know_the_text_encoder_refuses(run, monkeypatch):
    monkeypatch.setattr(PromptLengths, "fault_of", lambda *_: None)
    jobs = jobs_of(run, {"prompt": "a *"}, {"prompt": "a *", "negative_prompt": LONG, "guidance": 2, "limit": 1})
    done = render(run, jobs)
    assert (done.new, done.rejected) == (len(CLIPS), 1)
    [reject] = run.workspace.table("rejects").read().to_pylist()
    assert "has 23 tokens, and the text encoder reads 22: shorten it by its end, 'city'" in reject["sentence"]


def test_a_prompt_without_a_cue_is_rendered_by_the_plain_model(run):
    assert render(run, jobs_of(run, {"prompt": "a photo of fire", "seeds": [5]})).new == 1
    [row] = rows_of(run)
    stored = json_of(run, row)
    assert (row["clip_ids"], stored["labels"], stored["method"]) == ([], [], "")
    diffusion = load_diffusion(run.config.models.diffusion.name)
    expected = diffusion.render(["a photo of fire"], [5], options=RenderOptions(steps=2, guidance=1))
    assert_same_pictures(pixels_of(run), {row["render_id"]: expected[0]})


def test_short_memory_halves_the_batch_and_leaves_one_shard(run, monkeypatch):
    [rows] = RenderSource(run, jobs_of(run, {})).pending().rows
    renderer = Renderer(run.context())
    whole = renderer.diffusion.render

    def small(prompts, *others):
        if len(prompts) > 2:
            raise torch.OutOfMemoryError("too much")
        return whole(prompts, *others)

    monkeypatch.setattr(renderer.diffusion, "render", small)  # tests share the model
    runner = WorkerRunner("render_id")
    runner.load(lambda: renderer)
    done = runner.run(rows)
    assert done.outcome.rows.num_rows == len(CLIPS) and renderer.sizes.size("any", 1, 1) == 2
    assert len(shards_of(run)) == 1


def test_the_plan_estimates_by_the_rate_of_the_last_run(run):
    assert plan_of(run, jobs_of(run, {})).estimate == Estimate(basis="no run yet")
    render(run, jobs_of(run, {}))
    [row] = run.workspace.table("runs").read().to_pylist()
    estimate = plan_of(run, jobs_of(run, {"seeds": 3})).estimate
    assert estimate.seconds == row["loading_s"] + 2 * len(CLIPS) * row["worked_s"] / len(CLIPS)
    assert estimate.basis.startswith(f"{len(CLIPS)} items in ")


def test_the_shards_of_each_format_are_where_its_glob_finds_them(rendered):
    found = {kind: glob(glob_of_shards(rendered, kind)) for kind in ("png", "jpg", "webp")}
    assert all(len(shards) == 1 for shards in found.values())
    assert sorted(sum(found.values(), [])) == sorted(map(rendered.workspace.store.path, shards_of(rendered)))
    for row in rows_of(rendered):
        assert [rendered.workspace.store.path(row["shard"])] == found[row["format"]]


def test_planning_loads_no_model_and_no_ray(rendered):
    code = (
        "import sys\n"
        "from tasks.render import plan_render, render\n"
        "from tasks.render_source import RenderSource\n"
        "from tests.bank import jobs_of, run_on\n"
        "run = run_on(sys.argv[1])\n"
        "jobs = jobs_of(run, {'seeds': 2})\n"
        "print(plan_render(run, RenderSource(run, jobs)).new, render(run, jobs).new)\n"
        "print(*sorted({'torch', 'ray', 'diffusers'} & sys.modules.keys()))"
    )
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    command = [sys.executable, "-c", code, rendered.workspace.uri]
    ran = subprocess.run(command, capture_output=True, text=True, check=True, env=os.environ | {"PYTHONPATH": path})
    assert ran.stdout.split() == ["0", "0"]
