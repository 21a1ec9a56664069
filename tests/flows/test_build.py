"""The whole way on real files of the tiny world: sounds and pictures in, a cue bank out; again, nothing."""

import io
import json
import shutil
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest
import soundfile
from PIL import Image
from typer.testing import CliRunner

from aai.media.images import encode
from aai.tiny.scenes import render, sample_scenes
from aai.tiny.sounds import SAMPLE_RATE_HZ, synthesise
from aai.tiny.world import load_world
from flows.app.cli import app
from flows.steps import build
from tasks.runtime.config import make_config
from tasks.runtime.run import Run, open_run
from tasks.views.plan import plan
from tests.bank import GENERATED

CLIPS = {f"{name}-{level}": (name, level) for name in ("rain", "fire", "clock") for level in (0.2, 0.9)}
NUM_IMAGES = 60


def write_sound(folder: Path, name: str, seed: int = 0, suffix: str = ".flac") -> None:
    phenomenon, level = CLIPS.get(name, ("rain", 0.5))
    soundfile.write(folder / f"{name}{suffix}", synthesise(phenomenon, level, 900 + seed), SAMPLE_RATE_HZ)


@pytest.fixture(scope="module")
def collection(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("collection")
    (folder / "sounds").mkdir()
    (folder / "images").mkdir()
    for number, name in enumerate(CLIPS):
        write_sound(folder / "sounds", name, number)
    scenes = sample_scenes(NUM_IMAGES, 77)
    pictures = [encode(pixels, "png") for pixels in render(scenes).pixels]
    for number, data in enumerate(pictures[: NUM_IMAGES // 2]):
        (folder / "images" / f"{number}.png").write_bytes(data)
    with tarfile.open(folder / "images" / "more.tar", "w") as archive:
        for number, data in enumerate(pictures[NUM_IMAGES // 2 :]):
            for suffix, part in ((".png", data), (".json", json.dumps({"caption": f"scene {number}"}).encode())):
                path = folder / f"part{suffix}"
                path.write_bytes(part)
                archive.add(path, f"{number:04}{suffix}")
    said = [f"{name}.flac,{name.split('-')[0]},{name.split('-')[1]}" for name in CLIPS]
    (folder / "said.csv").write_text("\n".join(["file,label,intensity", *said]) + "\n")
    return folder


def run_on(collection: Path, bank: Path, **keys) -> Run:
    places = {name: str(collection / name) for name in ("images",)} | {"audio": str(collection / "sounds")}
    keys = {"fit": {"method": "mapper"}, "pool": {"num_workers": 0}} | keys
    return open_run(make_config(workspace=str(bank), metadata=str(collection / "said.csv"), **places, **keys))


@pytest.fixture
def mine(collection, tmp_path) -> Path:
    """A copy that a test may change."""
    return Path(shutil.copytree(collection, tmp_path / "mine"))


@pytest.fixture(scope="module")
def built(collection, tmp_path_factory) -> Run:
    run = run_on(collection, tmp_path_factory.mktemp("work") / "bank")
    build(run)
    return run


def new_of(run: Run) -> dict[str, int]:
    return {done.stage: done.new for done in build(run)}


def test_every_clip_gets_the_cue_that_the_mapper_gives(built):
    cues = built.workspace.table("cues").read(recipe=built.recipe("cues")).sort_by("clip_id").to_pylist()
    clips = {row["clip_id"]: row for row in built.workspace.table("clips").read().to_pylist()}
    assert len(cues) == len(clips) == len(CLIPS)
    world = load_world()
    for cue in cues:
        wave, _ = soundfile.read(clips[cue["clip_id"]]["uri"], dtype="float32")
        expected = world.cues(world.hear([wave]))[0].numpy()
        assert np.allclose(np.reshape(cue["vector"], (cue["num_tokens"], cue["dim"])), expected, atol=1e-4)


def test_what_is_known_of_files_is_carried_along(built):
    clips = built.workspace.table("clips").read().to_pylist()
    assert {(row["label"], json.loads(row["attributes"])["intensity"]) for row in clips} == {
        (name, str(level)) for name, level in CLIPS.values()
    }
    images = built.workspace.table("images").read().to_pylist()
    assert len(images) == NUM_IMAGES
    assert sorted(row["caption"] for row in images if row["offset"]) == sorted(
        f"scene {number}" for number in range(NUM_IMAGES // 2)
    )


def test_the_nearest_images_show_what_is_heard(built):
    scenes = sample_scenes(NUM_IMAGES, 77)
    pictures = [encode(pixels, "png") for pixels in render(scenes).pixels]
    from aai.identity import image_id

    shown = {image_id(data): scene.phenomenon for data, scene in zip(pictures, scenes, strict=True)}
    labels = {row["clip_id"]: row["label"] for row in built.workspace.table("clips").read().to_pylist()}
    rows = built.workspace.table("neighbours").read().to_pylist()
    assert sum(shown[row["image_ids"][0]] == labels[row["clip_id"]] for row in rows) >= len(rows) - 1


def test_a_second_build_does_nothing(built):
    assert set(new_of(built).values()) == {0}
    assert all(each.new == 0 for each in plan(built))
    assert built.workspace.health().is_good


def test_one_new_clip_costs_one_clip(mine, tmp_path):
    run = run_on(mine, tmp_path / "bank")
    build(run)
    write_sound(mine / "sounds", "another", 50)
    audio_stages = ("ingest_audio", "embed_audio", "align", "retrieve", "fit")
    assert {each.stage: each.new for each in plan(run) if each.new} == dict.fromkeys(audio_stages, 1)
    assert {stage: num for stage, num in new_of(run).items() if num} == dict.fromkeys(audio_stages, 1)


def test_another_option_redoes_what_hangs_on_it_and_the_old_rows_stay(mine, tmp_path):
    first = run_on(mine, tmp_path / "bank")
    build(first)
    second = run_on(mine, tmp_path / "bank", retrieve={"num_neighbours": 2})
    stale = {each.stage: each.stale for each in plan(second)}
    assert (stale["retrieve"], stale["fit"], stale["align"]) == (len(CLIPS), len(CLIPS), 0)
    assert {stage for stage, num in new_of(second).items() if num} == {"retrieve", "fit"}
    assert len(second.workspace.table("cues").read()) == 2 * len(CLIPS)


def test_more_images_make_the_index_grow_and_old_cues_stay(mine, tmp_path):
    run = run_on(mine, tmp_path / "bank")
    build(run)
    for number, pixels in enumerate(render(sample_scenes(5, 78)).pixels):
        (mine / "images" / f"new{number}.png").write_bytes(encode(pixels, "png"))
    new = new_of(run)
    assert (new["ingest_images"], new["embed_images"], new["index"], new["fit"]) == (5, 5, 5, 0)
    assert [artifact.version for artifact in run.workspace.artifacts() if artifact.name == "index"] == [1, 2]


def test_deleted_sources_break_nothing_that_is_built(mine, tmp_path):
    run = run_on(mine, tmp_path / "bank")
    build(run)
    for path in sorted((mine / "sounds").iterdir())[1:]:
        path.unlink()
    assert set(new_of(run).values()) == {0}
    assert len(run.workspace.table("cues").read()) == len(CLIPS)


def test_bad_files_are_rejected_with_a_sentence_and_the_others_are_done(mine, tmp_path):
    sounds, images = mine / "sounds", mine / "images"
    whole = (sounds / "rain-0.2.flac").read_bytes()
    (sounds / "empty.wav").write_bytes(b"")
    (sounds / "cut.flac").write_bytes(whole[: len(whole) // 2])
    (sounds / "text.wav").write_text("not a sound")
    soundfile.write(sounds / "silent.wav", np.zeros(16_000, np.float32), 16_000)
    soundfile.write(sounds / "short.wav", np.ones(1, np.float32) / 2, 16_000)
    soundfile.write(sounds / "nan.wav", np.full(16_000, np.nan, np.float32), 16_000, subtype="FLOAT")
    (sounds / b"caf\xe9.wav".decode("utf-8", "surrogateescape")).write_bytes(whole)
    (images / "text.png").write_text("not an image")
    (images / "cut.png").write_bytes((images / "0.png").read_bytes()[:500])
    tar = (images / "more.tar").read_bytes()
    (images / "cut.tar").write_bytes(tar[: 512 * 9])
    (images / "text.tar").write_text("not a tar" * 200)
    with tarfile.open(images / "bad.tar", "w") as archive:
        for name in ("../out.png", "/root.png", "twice.png", "twice.png"):
            info = archive.gettarinfo(images / "1.png")
            info.name = name
            archive.addfile(info, io.BytesIO((images / "1.png").read_bytes()))
        link = tarfile.TarInfo("link.png")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
    run = run_on(mine, tmp_path / "bank", run={"max_reject_fraction": 0.9})
    new_of(run)
    rejects = run.workspace.table("rejects").read().to_pylist()
    names = sorted(row["uri"].rsplit("/", 1)[-1] for row in rejects)
    assert names == sorted(
        ["empty.wav", "cut.flac", "text.wav", "silent.wav", "short.wav", "nan.wav", r"caf\xe9.wav", "text.png",
         "cut.png", "cut.tar#the end", "text.tar", "out.png", "root.png", "bad.tar#twice.png", "bad.tar#link.png"]
    )  # fmt: skip
    assert all(len(row["sentence"]) > 20 and row["error"] == "BadItem" for row in rejects)
    assert len(run.workspace.table("cues").read()) == len(CLIPS)
    assert len(run.workspace.table("images").read()) == NUM_IMAGES
    assert set(new_of(run).values()) == {0}


def test_the_command_line_builds_plans_and_says_what_is_wrong(mine, monkeypatch, prefect_api):
    monkeypatch.chdir(mine)
    call = CliRunner().invoke
    assert call(app, ["plan"]).exit_code == 2
    assert call(app, ["init", "--profile", "tiny"]).exit_code == 0
    text = Path("aai.yaml").read_text().replace("# num_workers: null", "num_workers: 0")
    Path("aai.yaml").write_text(text)
    fresh = call(app, ["plan"])
    assert "fit" in fresh.output and str(len(CLIPS)) in fresh.output
    Path("aai.yaml").write_text(text.replace('# method: "adapter"', 'method: "mapper"'))
    done = call(app, ["build"])
    assert done.exit_code == 0, done.output
    assert "the bank is" in done.output
    assert "nothing to do" in call(app, ["build"]).output
    assert call(app, ["doctor"]).exit_code == 0
    Path("aai.yaml").write_text("fit: {step: 3}\n")
    wrong = call(app, ["build"])
    assert wrong.exit_code == 2 and "fit.step: there is no such key" in wrong.output


def test_a_clip_becomes_a_picture_without_a_workspace(mine, monkeypatch):
    monkeypatch.chdir(mine)
    done = CliRunner().invoke(app, ["imagine", "sounds/fire-0.9.flac", "a photo of *", "-o", "fire.png"])
    assert done.exit_code == 0, done.output
    from aai.media.images import ImageOptions, decode
    from aai.tiny.judge import load_judge
    from aai.tiny.vocabulary import PHENOMENA

    pixels = decode(Path("fire.png").read_bytes(), "fire.png", ImageOptions()).pixels
    assert PHENOMENA[int(load_judge().read(pixels[None]).phenomenon.argmax())] == "fire"
    with Image.open("fire.png") as picture:
        xmp = picture.info["xmp"]
    assert GENERATED in xmp and b"a photo of *" in xmp and b'"seed": 0' in xmp and b'"steps": 25' in xmp
    assert CliRunner().invoke(app, ["imagine", "none.wav"]).exit_code == 2
    assert "Traceback" not in CliRunner().invoke(app, ["imagine", "none.wav"]).output


def test_help_loads_nothing_heavy():
    import subprocess

    probe = (
        "import sys, flows.app.cli; print(*sorted({'torch', 'ray', 'pyarrow', 'faiss', 'numpy'} & sys.modules.keys()))"
    )
    ran = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True)
    assert ran.stdout.split() == []
