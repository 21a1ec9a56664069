"""Files become clips and images named by their contents; what cannot be used is a reject, and the run goes on."""

import os
from pathlib import Path

import numpy as np
import pytest
import soundfile

from aai.errors import BadConfig, BadItem
from aai.identity import clip_id, content_id
from aai.media.audio import AudioOptions
from aai.media.images import ImageOptions
from tasks.ingest import CLIPS, IMAGES, Ingester, read_clips, read_image
from tasks.runtime.run import Run
from tasks.views.plan import plan
from tasks.views.report import gather
from tests.bank import rows_of
from tests.collection import NUM_CLIPS, build, num_new, run_on

RATE_HZ = 16_000


def ingest(run: Run):
    """List, and ingest recordings."""
    run.do(run.stage_of("audio_listing"))
    return run.do(CLIPS)


def rejects_of(run: Run) -> list[dict]:
    return run.workspace.table("rejects").read(recipe=run.recipe("clips")).to_pylist()


def write_tone(path: Path, length_s: float = 1.0, level: float = 0.5) -> None:
    times_s = np.arange(int(length_s * RATE_HZ)) / RATE_HZ
    soundfile.write(path, level * np.sin(2_000 * times_s), RATE_HZ)


def as_before(path: Path, write) -> None:
    """Change a file, but not its size nor its time of change."""
    before = path.stat()
    write(path)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert path.stat().st_size == before.st_size


def test_a_recording_becomes_a_clip_named_by_its_bytes_and_window(collection):
    run = run_on(collection)
    assert ingest(run).new == NUM_CLIPS
    path = collection / "sounds" / "rain-0.9.flac"
    digest = content_id(path.read_bytes())
    [clip] = [row for row in rows_of(run, "clips") if row["content_id"] == digest]
    assert clip["clip_id"] == clip_id(digest, clip["start_s"], clip["duration_s"])
    assert (clip["rate_hz"], clip["channels"], clip["start_s"]) == (RATE_HZ, 1, 0.0) and clip["level_dbfs"] < 0
    assert ingest(run).new == 0


def test_a_long_recording_becomes_several_clips():
    options = AudioOptions(window_s=2.0, hop_s=2.0)
    path = Path(os.environ.get("TMPDIR", "/tmp")) / f"aai-test-{os.getpid()}.wav"
    try:
        write_tone(path, 6.0)
        rows, about = read_clips(path.read_bytes(), "long.wav", options)
    finally:
        path.unlink()
    assert [(row["start_s"], row["duration_s"]) for row in rows] == [(0.0, 2.0), (2.0, 2.0), (4.0, 2.0)]
    assert about == {"duration_s": 6.0, "end_s": 0.0, "silent_s": 0.0, "between_s": 0.0}
    assert len({row["clip_id"] for row in rows}) == 3 and len({row["content_id"] for row in rows}) == 1


def test_what_is_in_no_clip_is_counted_per_recording_and_in_total(collection):
    write_tone(collection / "sounds" / "long.wav", 20.5)
    write_tone(collection / "sounds" / "copy.wav", 20.5)
    write_tone(collection / "sounds" / "longer.wav", 30.25)
    run = run_on(collection)
    ingest(run)
    found = sorted((row["duration_s"], row["end_s"]) for row in rows_of(run, "audio_files") if row["end_s"])
    assert found == [(20.5, 0.5), (20.5, 0.5), (30.25, 0.25)]
    sentence = "in no clip: 0.8 s at ends shorter than min_window_s of 2 recordings"
    [note] = [note for note in plan(run).notes if note.startswith(sentence)]
    assert ("clips", NUM_CLIPS + 10, note) in gather(run, 0).totals
    (collection / "sounds" / "longer.wav").unlink()
    assert any(
        "in no clip: 0.5 s at ends shorter than min_window_s of 1 recordings" in note for note in plan(run).notes
    )


def test_a_recording_with_sound_only_in_a_part_that_is_left_out_is_rejected(tmp_path):
    write_tone(tmp_path / "late.wav", 2.5)
    samples, rate_hz = soundfile.read(tmp_path / "late.wav", dtype="float32")
    samples[: 2 * rate_hz] = 0
    soundfile.write(tmp_path / "late.wav", samples, rate_hz)
    options = AudioOptions(window_s=2.0, hop_s=2.0, placement="grid")
    with pytest.raises(BadItem, match="the only sound is in the last window, which is shorter") as error:
        read_clips((tmp_path / "late.wav").read_bytes(), "late.wav", options)
    assert error.value.uri == "late.wav"


def test_a_silent_recording_is_rejected(tmp_path):
    write_tone(tmp_path / "silent.wav", level=0.0)
    with pytest.raises(BadItem, match="silent") as error:
        read_clips((tmp_path / "silent.wav").read_bytes(), "silent.wav", AudioOptions())
    assert error.value.uri == "silent.wav"


def test_an_image_has_its_size_and_format(collection):
    data = (collection / "images" / "0.png").read_bytes()
    [row], _ = read_image(data, "0.png", ImageOptions())
    assert row == {"image_id": content_id(data), "width": 64, "height": 64, "format": "PNG"}


def test_two_files_with_equal_bytes_are_one_clip_and_one_image(collection):
    for folder, name in (("sounds", "rain-0.9.flac"), ("images", "0.png")):
        path = collection / folder / name
        path.with_name(f"copy-{name}").write_bytes(path.read_bytes())
    run = run_on(collection)
    done = build(run)
    assert (done["ingest_audio"].new, done["embed_audio"].new, done["fit"].new) == (NUM_CLIPS + 1, NUM_CLIPS, NUM_CLIPS)
    assert len(rows_of(run, "audio_files")) == NUM_CLIPS + 1 and len(rows_of(run, "clips")) == NUM_CLIPS
    assert done["ingest_images"].new == done["embed_images"].new + 1
    with run.query() as query:
        [uri] = query.table("SELECT uri FROM present_clips WHERE uri LIKE '%rain-0.9%'")["uri"].to_pylist()
    assert uri.endswith("/rain-0.9.flac"), "the one with a label"
    (collection / "sounds" / "rain-0.9.flac").unlink()
    assert num_new(run) == {"list_audio": 1}
    with run.query() as query:
        [uri] = query.table("SELECT uri FROM present_clips WHERE uri LIKE '%rain-0.9%'")["uri"].to_pylist()
    assert uri.endswith("/copy-rain-0.9.flac"), "the one that is there"


def test_one_bad_new_file_among_many_finished_ones_does_not_stop_a_build(built, collection):
    run = run_on(collection, run={"max_reject_fraction": 0.2})
    (collection / "sounds" / "cut.flac").write_bytes((collection / "sounds" / "rain-0.9.flac").read_bytes()[:900])
    done = build(run)
    assert (done["ingest_audio"].rejected, done["ingest_audio"].done, done["fit"].done) == (1, NUM_CLIPS, NUM_CLIPS)


def test_mostly_bad_files_stop_the_build(collection):
    for number in range(NUM_CLIPS + 1):
        (collection / "sounds" / f"bad {number}.wav").write_text("not a sound")
    with pytest.raises(BadConfig) as error:
        ingest(run_on(collection))
    assert error.value.key == "run.max_reject_fraction"


def shown_rejects(run: Run) -> tuple[int, int]:
    """Rejects as the plan and the report count them."""
    [planned] = [stage.rejected for stage in plan(run).stages if stage.stage == "ingest_audio"]
    return planned, sum(kind.num for kind in gather(run, 1).rejects)


def test_a_reject_disappears_once_its_file_is_replaced_by_a_good_one(collection):
    path = collection / "sounds" / "new.wav"
    path.write_text("not a sound")
    run = run_on(collection)
    assert ingest(run).rejected == 1 and shown_rejects(run) == (1, 1)
    write_tone(path)
    assert ingest(run).new == 1 and shown_rejects(run) == (0, 0)
    assert len(rejects_of(run)) == 1, "the log of rejects keeps it"


def test_a_reject_disappears_once_a_retry_succeeds(collection):
    path = collection / "sounds" / "new.wav"
    write_tone(path)
    good = path.read_bytes()
    path.write_bytes(bytes(len(good)))
    run = run_on(collection)
    assert ingest(run).rejected == 1 and shown_rejects(run) == (1, 1)
    as_before(path, lambda path: path.write_bytes(good))
    assert ingest(run).new == 0, "nothing shows that the file is another one"
    again = run_on(collection, run={"retry_rejects": True})
    assert ingest(again).new == 1
    assert shown_rejects(run) == shown_rejects(again) == (0, 0)


def test_a_file_that_is_gone_between_listing_and_ingest_is_rejected(collection):
    run = run_on(collection)
    run.do(run.stage_of("audio_listing"))
    (collection / "sounds" / "rain-0.9.flac").unlink()
    done = run.do(CLIPS)
    [reject] = rejects_of(run)
    assert (done.new, done.rejected) == (NUM_CLIPS - 1, 1)
    assert reject["uri"].endswith("rain-0.9.flac") and "gone" in reject["sentence"]


def member(offset: int | None, num_bytes: int | None, fault: str | None = None) -> dict:
    return {"file_id": f"{offset}", "uri": "a.tar", "name": f"a.tar#{offset}", "offset": offset,
            "num_bytes": num_bytes, "fault": fault}  # fmt: skip


def test_neighbouring_members_of_a_tar_are_read_in_one_request(monkeypatch):
    import pyarrow as pa

    data, requests = bytes(range(256)) * 16_384, []

    def read(uri, offset=None, num_bytes=None):
        requests.append((offset, num_bytes))
        return data[offset : offset + num_bytes]

    monkeypatch.setattr("tasks.ingest.read_bytes", read)
    rows = [member(512, 10), member(1_024, 10), member(1_536, 10, "a link"), member(2_048, 10), member(3_000_000, 10)]
    seen = {}
    ingester = Ingester("image_files", "images", lambda data, name: (seen.setdefault(name, data) and [], {}))
    outcome = ingester(pa.Table.from_pylist(rows))
    assert requests == [(512, 522), (2_048, 10), (3_000_000, 10)]
    assert seen == {f"a.tar#{at}": data[at : at + 10] for at in (512, 1_024, 2_048, 3_000_000)}
    assert [reject.sentence for reject in outcome.rejects] == ["a link"]


def test_images_and_recordings_are_ingested_by_one_worker_class(collection):
    run = run_on(collection)
    assert [type(stage.worker(run.context())) for stage in (IMAGES, CLIPS)] == [Ingester, Ingester]
