"""What libsndfile does not read is decoded by ffmpeg's libraries: its length, its windows, its faults."""

import io
import tarfile

import numpy as np
import pytest

from aai.errors import BadItem
from aai.media import audio, containers, windows
from aai.media.audio import AudioOptions
from aai.media.files import find_files, read_content
from aai.media.kinds import AUDIO_SUFFIXES
from aai.media.windows import Window
from tasks.ingest import CLIPS
from tests.media.containers import encoded, silent_video, tone

needs_av = pytest.mark.skipif(not containers.is_installed(), reason="the extra `av` is not installed")

FORMATS = {
    "a.m4a": ("ipod", "aac", 44_100),
    "a-lossless.m4a": ("ipod", "alac", 44_100),
    "a.aac": ("adts", "aac", 44_100),
    "a.wma": ("asf", "wmav2", 44_100),
    "a.ac3": ("ac3", "ac3", 48_000),
    "a.eac3": ("eac3", "eac3", 48_000),
    "a.mka": ("matroska", "flac", 44_100),
    "a.webm": ("webm", "libopus", 48_000),
    "a.wv": ("wv", "wavpack", 44_100),
    "a.avi": ("avi", "mp3", 44_100),
    "a.flv": ("flv", "aac", 44_100),
    "a.ts": ("mpegts", "aac", 44_100),
    "a.mpg": ("mpeg", "mp2", 44_100),
}
LOSSLESS = ("a-lossless.m4a", "a.mka")
EXACT = (*LOSSLESS, "a.m4a", "a.webm", "a.wv")


@pytest.fixture(scope="module")
def files() -> dict[str, bytes]:
    return {name: encoded(kind, codec, rate_hz) for name, (kind, codec, rate_hz) in FORMATS.items()}


def rejection(data: bytes, **options) -> str:
    with pytest.raises(BadItem) as error:
        audio.decode(data, "a.mp4", AudioOptions(**options))
    assert error.value.uri == "a.mp4"
    return error.value.sentence


@needs_av
@pytest.mark.parametrize("name", FORMATS)
def test_a_file_is_decoded_with_its_length_and_rate(files, name):
    recording = audio.decode(files[name], name, AudioOptions())
    rate_hz = FORMATS[name][2]
    assert recording.rate_hz == rate_hz and recording.samples.shape[1] == 2 and recording.num_unused == 0
    assert recording.samples.dtype == np.float32
    tolerance_s = 0.0 if name in EXACT else 0.06  # a frame of padding at either end, where no header counts it
    assert abs(recording.duration_s - 2.0) <= tolerance_s
    spectrum = np.abs(np.fft.rfft(recording.samples[:rate_hz, 0]))
    assert abs(int(spectrum.argmax()) - 440) <= 1
    assert np.abs(recording.samples[rate_hz // 2 : rate_hz]).max() == pytest.approx(0.4, abs=0.05)


@needs_av
@pytest.mark.parametrize("name", LOSSLESS)
def test_windows_are_exact(files, name):
    part, rate_hz = windows.decode_window(files[name], name, Window(0.75, 0.5), AudioOptions())
    wanted = tone(440, 44_100, 2.0)[0][33_075 : 33_075 + 22_050]
    assert rate_hz == 44_100 and len(part) == 22_050
    np.testing.assert_allclose(part, wanted, atol=1e-4)


@needs_av
def test_of_a_video_the_sound_is_read_and_of_several_streams_the_first():
    recording = audio.decode(encoded("mp4", "aac", video=True, num_streams=3), "a.mp4", AudioOptions())
    assert recording.num_unused == 2
    assert abs(int(np.abs(np.fft.rfft(recording.samples[:44_100, 0])).argmax()) - 440) <= 1


@needs_av
def test_limits_hold_before_and_while_a_file_is_decoded(files):
    for name in ("a.m4a", "a.aac"):  # the header of the second has no length
        assert "too long" in rejection(files[name], max_duration_s=1.0)
        assert "too large" in rejection(files[name], max_decoded_bytes=2**17)
        assert "2 channels are more than 1" in rejection(files[name], max_channels=1)
        assert "a sample rate of 44100 Hz" in rejection(files[name], max_rate_hz=22_050)


@needs_av
def test_a_damaged_file_and_a_short_one_are_rejected(files):
    data = files["a.m4a"]
    assert "damaged, cut short or has an unsupported codec" in rejection(data[: len(data) // 2])
    assert "cut short" in rejection(files["a.wv"][: len(files["a.wv"]) // 2])
    assert "no sound" in rejection(silent_video())


@needs_av
def test_a_playlist_is_not_opened(tmp_path):
    """ffmpeg's own probing would read the files that it names."""
    (tmp_path / "secret.m4a").write_bytes(b"secret")
    playlist = f"#EXTM3U\n#EXTINF:2,\n{tmp_path}/secret.m4a\n#EXT-X-ENDLIST\n".encode()
    assert containers.demuxer_of(playlist) is None
    assert "not a sound file of a known format" in rejection(playlist)
    assert containers.demuxer_of(f"ffconcat version 1.0\nfile '{tmp_path}/secret.m4a'\n".encode()) is None


@pytest.mark.parametrize("name", ["a.m4a", "a.mkv", "a.wma", "a.avi"])
def test_without_the_extra_the_reject_says_what_to_install(name, monkeypatch):
    starts = {
        "a.m4a": b"\0\0\0\x20ftypM4A ",
        "a.mkv": b"\x1a\x45\xdf\xa3",
        "a.wma": b"\x30\x26\xb2\x75",
        "a.avi": b"RIFF\0\0\0\0AVI ",
    }
    monkeypatch.setattr(containers, "is_installed", lambda: False)
    assert containers.INSTALL in rejection(starts[name] + bytes(500))


@needs_av
def test_files_and_members_of_tars_become_clips_and_further_streams_are_reported(tmp_path):
    from tests.collection import run_on

    (tmp_path / "sounds").mkdir()
    (tmp_path / "sounds" / "rain.mkv").write_bytes(encoded("matroska", "aac", video=True, num_streams=2))
    with tarfile.open(tmp_path / "sounds" / "more.tar", "w") as tar:
        data = encoded("ipod", "aac")
        member = tarfile.TarInfo("fire.m4a")
        member.size = len(data)
        tar.addfile(member, io.BytesIO(data))
    found = find_files("audio", [str(tmp_path / "sounds")], AUDIO_SUFFIXES).files
    assert sorted(file.uri.rpartition("/")[2] for file in found) == ["more.tar", "rain.mkv"]
    (tmp_path / "images").mkdir()
    run = run_on(tmp_path, metadata=(), ingest={"audio": {"window_s": 1.0, "hop_s": 1.0}})
    for stage in run.stages[: run.stages.index(CLIPS) + 1]:
        if "images" not in stage.name and "image" not in stage.name:
            run.do(stage)
    with run.query() as query:
        clips = query.table("SELECT * FROM present_clips").to_pylist()
    rejects = run.workspace.table("rejects").read(["sentence", "uri"]).to_pylist()
    assert sorted((clip["uri"].rpartition("/")[2], clip["start_s"]) for clip in clips) == [
        ("more.tar", 0.0), ("more.tar", 1.0), ("rain.mkv", 0.0), ("rain.mkv", 1.0)
    ]  # fmt: skip
    assert ["2 sound streams, of which the first is used" in each["sentence"] for each in rejects] == [True]
    clip = next(clip for clip in clips if clip["offset"] is not None)
    content = read_content(clip["uri"], clip["offset"], clip["num_bytes"], clip["content_id"])
    assert len(windows.decode_window(content, "a", Window(1.0, 1.0), AudioOptions())[0]) == 44_100
