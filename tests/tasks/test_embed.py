"""Vectors are those of the bytes that were ingested, whatever the batch, and say which model made them."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import soundfile

from aai.errors import BadConfig
from aai.identity import content_id
from aai.tiny.world import load_world
from tasks.embed import AUDIO_VECTORS, IMAGE_VECTORS, AudioEmbedder, ImageEmbedder
from tasks.runtime.arrow import to_array
from tasks.runtime.run import Run
from tests.bank import rows_of
from tests.collection import NUM_CLIPS, NUM_IMAGES, build, run_on, write_collection


@pytest.fixture(scope="module")
def ingested(tmp_path_factory) -> Run:
    """A run whose files are ingested; its files and rows stay as they are."""
    run = run_on(write_collection(tmp_path_factory.mktemp("collection")))
    build(run, until="ingest_audio")
    return run


def rows_for(run: Run, stage) -> pa.Table:
    return pa.concat_tables(run.pending(stage).rows)


def vectors_of(outcome, key: str) -> dict[str, np.ndarray]:
    return dict(zip(outcome.rows[key].to_pylist(), to_array(outcome.rows["vector"]), strict=True))


def test_vectors_are_those_of_the_encoders_and_name_them(ingested):
    outcome = AudioEmbedder(ingested.context())(rows_for(ingested, AUDIO_VECTORS))
    assert outcome.rows.num_rows == NUM_CLIPS and outcome.rejects == []
    name, revision = ingested.revision("audio")
    assert set(zip(outcome.rows["model"].to_pylist(), outcome.rows["revision"].to_pylist(), strict=True)) == {
        (name, revision)
    }
    with ingested.query() as query:
        clips = {row["clip_id"]: row for row in query.table("SELECT * FROM present_clips").to_pylist()}
    for clip_id, vector in vectors_of(outcome, "clip_id").items():
        wave, rate_hz = soundfile.read(clips[clip_id]["uri"], dtype="float32")
        np.testing.assert_allclose(vector, load_world().audio.embed_clips([wave], rate_hz).numpy()[0], atol=1e-4)


@pytest.mark.parametrize(
    ("stage", "worker", "key"),
    [(AUDIO_VECTORS, AudioEmbedder, "clip_id"), (IMAGE_VECTORS, ImageEmbedder, "image_id")],
    ids=["audio", "images"],
)
def test_vectors_do_not_depend_on_the_batch(ingested, stage, worker, key):
    rows, embedder = rows_for(ingested, stage), worker(ingested.context())
    together = vectors_of(embedder(rows), key)
    embedder.batch_size = 1
    alone = vectors_of(embedder(rows.take(pa.array(range(rows.num_rows))[::-1])), key)
    assert together.keys() == alone.keys()
    for item_id, vector in together.items():
        np.testing.assert_allclose(vector, alone[item_id], atol=1e-4)
        assert np.linalg.norm(vector) == pytest.approx(1, abs=1e-4)


def test_a_recording_of_several_clips_is_decoded_once(tmp_path, monkeypatch):
    run = run_on(write_collection(tmp_path), ingest={"audio": {"window_s": 1.0, "hop_s": 1.0}})
    build(run, until="ingest_audio")
    rows, opened = rows_for(run, AUDIO_VECTORS), []
    from tasks.runtime import clip_reader

    read = clip_reader.read_content
    monkeypatch.setattr(clip_reader, "read_content", lambda uri, *others: opened.append(uri) or read(uri, *others))
    outcome = AudioEmbedder(run.context())(rows.take(pa.array(np.random.default_rng(0).permutation(rows.num_rows))))
    assert outcome.rows.num_rows == rows.num_rows > NUM_CLIPS
    assert len(opened) == len(set(opened)) == NUM_CLIPS


def test_a_window_longer_than_the_encoder_hears_is_refused(tmp_path):
    """Its end would be cut off, and rows would claim all of it."""
    run = run_on(tmp_path, ingest={"audio": {"window_s": 6.0}})
    with pytest.raises(BadConfig, match="6 s is longer than the 5 s that the audio encoder hears") as error:
        AudioEmbedder(run.context())
    assert error.value.key == "ingest.audio.window_s"


def replace(path: Path, other: Path) -> None:
    path.write_bytes(other.read_bytes())


def test_a_file_that_was_replaced_after_ingest_is_rejected_and_not_embedded_under_the_old_id(collection):
    run = run_on(collection)
    build(run, until="ingest_audio")
    old = {name: content_id((collection / name).read_bytes()) for name in ("sounds/fire-0.2.flac", "images/0.png")}
    replace(collection / "sounds" / "fire-0.2.flac", collection / "sounds" / "rain-0.9.flac")
    replace(collection / "images" / "0.png", collection / "images" / "9.png")
    sounds, images = run.do(AUDIO_VECTORS), run.do(IMAGE_VECTORS)
    assert (sounds.new, sounds.rejected, images.new, images.rejected) == (NUM_CLIPS - 1, 1, NUM_IMAGES - 1, 1)
    assert old["images/0.png"] not in {row["image_id"] for row in rows_of(run, "image_vectors")}
    clips = {row["content_id"]: row["clip_id"] for row in rows_of(run, "clips")}
    assert clips[old["sounds/fire-0.2.flac"]] not in {row["clip_id"] for row in rows_of(run, "audio_vectors")}
    rejects = run.workspace.table("rejects").read().to_pylist()
    assert {row["uri"] for row in rejects} == {str(collection / name) for name in old}
    assert all("changed" in row["sentence"] for row in rejects)


def test_the_next_build_ingests_the_replacement(collection):
    run = run_on(collection)
    build(run, until="ingest_audio")
    replace(collection / "sounds" / "fire-0.2.flac", collection / "sounds" / "rain-0.9.flac")
    done = build(run, until="embed_audio")
    assert (done["ingest_audio"].new, done["embed_audio"].new, done["embed_audio"].rejected) == (1, NUM_CLIPS - 1, 0)


def test_an_image_that_is_away_for_a_moment_is_rejected_and_tried_again(collection):
    run = run_on(collection)
    build(run, until="ingest_images")
    moved = (collection / "images" / "3.png").rename(collection / "away.png")
    done = run.do(IMAGE_VECTORS)
    assert (done.new, done.rejected) == (NUM_IMAGES - 1, 1)
    [reject] = run.workspace.table("rejects").read().to_pylist()
    assert (reject["error"], reject["uri"]) == ("Unavailable", str(collection / "images" / "3.png"))
    assert run.pending(IMAGE_VECTORS).num == 1
    moved.rename(collection / "images" / "3.png")
    again = run.do(IMAGE_VECTORS)
    assert (again.new, again.rejected) == (1, 0) and not run.pending(IMAGE_VECTORS).num


def test_the_vectors_of_a_slice_that_is_rejected_as_a_whole_are_no_rows(collection):
    run = run_on(collection, run={"max_reject_fraction": 1})
    build(run, until="ingest_images")
    for path in (collection / "images").iterdir():
        path.unlink()
    assert run.do(IMAGE_VECTORS).rejected == NUM_IMAGES and rows_of(run, "image_vectors") == []


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_vectors_in_half_precision_are_near_those_in_float32(ingested, dtype):
    half = run_on(Path(ingested.workspace.uri).parent, models={"dtype": dtype})
    vectors = [
        vectors_of(ImageEmbedder(run.context())(rows_for(run, IMAGE_VECTORS)), "image_id") for run in (ingested, half)
    ]
    cosines = [float(vectors[0][image_id] @ vectors[1][image_id]) for image_id in vectors[0]]
    assert 0.99 < min(cosines) and not np.array_equal(*(np.stack(list(each.values())) for each in vectors))
