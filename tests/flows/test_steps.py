"""All stages on real files of the tiny world: sounds and images in, a cue bank, pictures and scores out.

Another run does nothing, and after a change only what depends on it.
"""

import io
import json
import shutil
import tarfile
from pathlib import Path

import numpy as np
import pytest
import soundfile

from aai.errors import BadConfig
from aai.identity import image_id
from aai.media.images import encode
from aai.tiny.scenes import render as render_scenes
from aai.tiny.scenes import sample_scenes
from aai.tiny.sounds import SAMPLE_RATE_HZ, synthesise
from aai.tiny.world import load_world
from aai.workspace import Health
from flows.steps import build, render, score
from tasks.runtime.run import Run
from tasks.views.plan import plan
from tests.bank import jobs_of, rows_of
from tests.collection import CLIPS, NUM_CLIPS, NUM_IMAGES, run_on, write_collection

HEALTHY = Health(orphan_files=[], orphan_shards=[], missing_shards=[], leftovers=[], duplicates={})
SCENES = sample_scenes(30, 77)
AUDIO_STAGES = ("list_audio", "ingest_audio", "embed_audio", "align", "retrieve", "fit")


@pytest.fixture(scope="module")
def collection(tmp_path_factory) -> Path:
    """Loose files, and a tar with more images and their captions."""
    folder = write_collection(tmp_path_factory.mktemp("collection") / "collection")
    with tarfile.open(folder / "images" / "more.tar", "w") as archive:
        for number, data in enumerate(pictures()):
            caption = json.dumps({"caption": f"scene {number}"}).encode()
            for suffix, part in ((".png", data), (".json", caption)):
                entry = tarfile.TarInfo(f"{number:04}{suffix}")
                entry.size = len(part)
                archive.addfile(entry, io.BytesIO(part))
    return folder


def pictures() -> list[bytes]:
    return [encode(pixels, "png") for pixels in render_scenes(SCENES).pixels]


@pytest.fixture(scope="module")
def built(collection) -> Run:
    run = run_on(collection)
    build(run)
    return run


@pytest.fixture(scope="module")
def original(built, collection, tmp_path_factory) -> Path:
    """The collection and its bank as they were built at `mine` in the same folder.

    The files have other addresses there, but the same bytes, so only listing and ingest are done again.
    """
    folder = tmp_path_factory.mktemp("original")
    shutil.copytree(collection, folder / "mine")
    build(run_on(folder / "mine"))
    shutil.copytree(folder / "mine", folder / "original")
    return folder / "original"


@pytest.fixture
def mine(original) -> Path:
    """A collection and its bank, both of which a test may change; always at the same place."""
    mine = original.with_name("mine")
    shutil.rmtree(mine)
    return Path(shutil.copytree(original, mine))


def new_of(run: Run) -> dict[str, int]:
    return {summary.stage: summary.new for summary in build(run) if summary.new}


def test_every_clip_gets_the_cue_that_the_mapper_predicts(built):
    cues = built.workspace.table("cues").read(recipe=built.recipe("cues")).to_pylist()
    with built.query() as query:
        uris = query.table("SELECT clip_id, uri FROM present_clips").to_pylist()
    files = {row["clip_id"]: row["uri"] for row in uris}
    assert len(cues) == len(files) == NUM_CLIPS
    world = load_world()
    for cue in cues:
        wave, _ = soundfile.read(files[cue["clip_id"]], dtype="float32")
        expected = world.cues(world.embed_clips([wave]))[0].numpy()
        assert np.allclose(np.reshape(cue["vector"], (cue["num_tokens"], cue["dim"])), expected, atol=1e-4)


def test_clips_and_images_have_the_metadata_of_tables_and_sidecars(built):
    with built.query() as query:
        clips = query.table("SELECT label, attributes FROM present_clips").to_pylist()
        images = query.table('SELECT image_id, label, caption, "offset" FROM present_images').to_pylist()
    assert {(row["label"], json.loads(row["attributes"])["intensity"]) for row in clips} == {
        (name, str(level)) for name, level in CLIPS.values()
    }
    captions = {image_id(data): f"scene {number}" for number, data in enumerate(pictures())}
    assert {row["image_id"]: row["caption"] for row in images if row["offset"] is not None} == captions
    assert len(images) == NUM_IMAGES + len(SCENES) and sum(bool(row["label"]) for row in images) == NUM_IMAGES


def test_the_nearest_images_show_what_is_heard(built):
    with built.query() as query:
        rows = query.table(
            "SELECT c.label, i.image_id, i.label AS shown FROM neighbours n JOIN present_clips c USING (clip_id) "
            "JOIN present_images i ON i.image_id = n.image_ids[1]"
        ).to_pylist()
    in_tar = {image_id(data): scene.phenomenon for data, scene in zip(pictures(), SCENES, strict=True)}
    assert len(rows) == NUM_CLIPS
    assert all((row["shown"] or in_tar[row["image_id"]]) == row["label"] for row in rows)


def test_a_second_build_does_nothing(built):
    assert new_of(built) == {} and plan(built).is_empty
    assert built.workspace.health() == HEALTHY


def test_a_build_without_locations_says_which_key_to_set(tmp_path):
    with pytest.raises(BadConfig, match="no location is named") as error:
        build(run_on(tmp_path, images=()))
    assert error.value.key == "images"


def test_moved_files_cost_no_vector(mine):
    run = run_on(mine)
    assert new_of(run) == {} and plan(run).is_empty
    shutil.move(mine / "sounds", mine / "moved")
    (mine / "said.csv").write_text((mine / "said.csv").read_text().replace("sounds/", "moved/"))
    moved = run_on(mine, audio=str(mine / "moved"))
    assert new_of(moved) == {"list_audio": 2 * NUM_CLIPS, "ingest_audio": NUM_CLIPS}
    with moved.query() as query:
        uris = query.table("SELECT uri FROM present_clips")["uri"].to_pylist()
    assert len(uris) == NUM_CLIPS and {Path(uri).parent.name for uri in uris} == {"moved"}


def test_one_new_clip_costs_one_clip(mine):
    run = run_on(mine)
    soundfile.write(mine / "sounds" / "another.flac", synthesise("rain", 0.5, 950), SAMPLE_RATE_HZ)
    assert {stage.stage: stage.new for stage in plan(run).stages if stage.new} == dict.fromkeys(AUDIO_STAGES, 1)
    assert new_of(run) == dict.fromkeys(AUDIO_STAGES, 1)


def test_a_corrected_label_costs_no_vector(mine):
    run = run_on(mine)
    (mine / "said.csv").write_text((mine / "said.csv").read_text().replace("rain,0.9", "storm,0.9"))
    assert new_of(run) == {"list_audio": 1}
    with run.query() as query:
        labels = query.table("SELECT label FROM present_clips")["label"].to_pylist()
    assert sorted(labels) == ["fire", "fire", "rain", "storm"]


def test_another_option_redoes_what_depends_on_it_and_the_old_rows_stay(mine):
    second = run_on(mine, retrieve={"num_neighbours": 1})
    stale = {stage.stage: stage.stale for stage in plan(second).stages}
    assert (stale["retrieve"], stale["fit"], stale["align"]) == (NUM_CLIPS, NUM_CLIPS, 0)
    assert new_of(second).keys() == {"retrieve", "fit"}
    assert len(second.workspace.table("cues").read()) == 2 * NUM_CLIPS


def test_more_images_make_the_index_grow_and_old_cues_stay(mine):
    run = run_on(mine)
    for number, pixels in enumerate(render_scenes(sample_scenes(5, 78)).pixels):
        (mine / "images" / f"new{number}.png").write_bytes(encode(pixels, "png"))
    assert new_of(run) == dict.fromkeys(["list_images", "ingest_images", "embed_images", "index"], 5)
    assert [artifact.version for artifact in run.workspace.artifacts() if artifact.name == "index"] == [1, 2]


def test_removed_files_leave_their_rows_and_are_not_present(mine):
    run = run_on(mine)
    for path in sorted((mine / "sounds").iterdir())[1:]:
        path.unlink()
    assert new_of(run) == {"list_audio": NUM_CLIPS - 1}
    assert len(run.workspace.table("cues").read()) == NUM_CLIPS
    with run.query() as query:
        assert query.number("SELECT count(*) FROM present_clips") == 1
    [summary] = render(run, jobs_of(run, {}))
    assert summary.new == 1


def test_pictures_are_rendered_and_scored_once(built):
    jobs = jobs_of(built, {"name": "noun"}, {"name": "plain", "prompt": "a photo of {label}"})
    for expected in (2 * NUM_CLIPS, 0):
        assert [summary.new for summary in (*render(built, jobs), *score(built))] == [expected] * 2


def test_a_prompt_without_a_placeholder_is_rendered_by_the_plain_model_and_scored(built):
    jobs = jobs_of(
        built,
        {"name": "once", "prompt": "a photo of a city", "seeds": [3, 4]},
        {"name": "per clip", "prompt": "a photo of {label}, {intensity}", "seeds": [3]},
        {"name": "rain only", "prompt": "a city in {label}", "cues": {"labels": "rain"}, "seeds": [3]},
    )
    render(built, jobs)
    score(built)
    rows = [row for row in rows_of(built) if row["job"] in ("once", "per clip", "rain only")]
    assert {(row["job"], row["prompt"], row["seed"]) for row in rows} == {
        ("once", "a photo of a city", 3),
        ("once", "a photo of a city", 4),
        *(("per clip", f"a photo of {label}, {level}", 3) for label, level in CLIPS.values()),
        ("rain only", "a city in rain", 3),
    }
    by_job = {row["job"]: row for row in rows}
    assert by_job["once"]["clip_ids"] == [] and len(by_job["per clip"]["clip_ids"]) == 1
    for row in rows:
        recipe, xmp = members_of(built, row)
        assert (recipe["prompt"], recipe["job"], recipe["seed"]) == (row["prompt"], row["job"], row["seed"])
        assert recipe["clip_ids"] == row["clip_ids"] and len(recipe["labels"]) == len(row["clip_ids"])
        assert row["prompt"].encode() in xmp and b"trainedAlgorithmicMedia" in xmp
    scores = {(row["render_id"], row["metric"]) for row in rows_of(built, "scores")}
    for row in rows:
        metrics = {metric for render_id, metric in scores if render_id == row["render_id"]}
        assert "clip_score" in metrics and ("ais_cosine" in metrics) == bool(row["clip_ids"])


def members_of(run: Run, row: dict) -> tuple[dict, bytes]:
    """The JSON and the XMP of a rendered picture."""
    from PIL import Image

    with tarfile.open(run.workspace.store.path(row["shard"])) as archive:
        recipe = json.load(archive.extractfile(f"{row['key']}.json"))
        with Image.open(archive.extractfile(f"{row['key']}.png")) as picture:
            return recipe, picture.info["xmp"]
