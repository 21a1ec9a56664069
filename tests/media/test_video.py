"""Windows of a video: their sound and frames."""

import sys
from pathlib import Path

import numpy as np
import pytest

from aai.errors import BadConfig, BadItem
from aai.media import video


def write_video(path: Path, seconds: int, has_sound: bool = True, start_s: int = 0) -> Path:
    """A video of eight frames per second that gets brighter, with a tone."""
    av = pytest.importorskip("av")
    with av.open(str(path), "w") as out:
        picture = out.add_stream("mpeg4", rate=8)
        picture.width = picture.height = 32
        picture.pix_fmt = "yuv420p"
        sound = out.add_stream("aac", rate=16_000, layout="mono") if has_sound else None
        for number in range(8 * seconds):
            level = np.full((32, 32, 3), 250 * number // (8 * seconds), np.uint8)
            frame = av.VideoFrame.from_ndarray(level, format="rgb24")
            frame.pts = number + 8 * start_s
            out.mux(picture.encode(frame))
        out.mux(picture.encode())
        if sound:
            wave = 0.5 * np.sin(np.arange(16_000 * seconds) * 0.2, dtype=np.float32)
            tone = av.AudioFrame.from_ndarray(wave[None].astype(np.float32), format="fltp", layout="mono")
            tone.sample_rate, tone.pts = 16_000, 16_000 * start_s
            out.mux(sound.encode(tone))
            out.mux(sound.encode())
    return path


def test_windows_have_their_sound_and_the_middle_frame_first(tmp_path):
    found = list(video.excerpts(write_video(tmp_path / "a.mp4", 6), 3.0, 3))
    assert [each.start_s for each in found] == [0, 3] and {each.rate_hz for each in found} == {16_000}
    assert all(abs(len(each.wave) - 48_000) < 2_000 for each in found)
    middles = [float(each.frames[0].mean()) for each in found]
    assert abs(middles[0] - 250 * 1.5 / 6) < 12 and abs(middles[1] - 250 * 4.5 / 6) < 12
    assert found[0].frames[1].mean() < middles[0] < found[0].frames[2].mean()


def test_frames_count_from_the_first_sample_of_the_sound(tmp_path):
    found = list(video.excerpts(write_video(tmp_path / "a.ts", 6, start_s=3_600), 3.0, 1))  # the time of day
    middles = [float(each.frames[0].mean()) for each in found]
    assert abs(middles[0] - 250 * 1.5 / 6) < 12 and abs(middles[1] - 250 * 4.5 / 6) < 12


def test_a_video_shorter_than_a_window_is_one(tmp_path):
    [only] = video.excerpts(write_video(tmp_path / "a.mp4", 1), 10.0, 1)
    assert len(only.frames) == 1 and only.frames[0].shape == (32, 32, 3)


@pytest.mark.parametrize(
    "script", ["ffconcat version 1.0\nfile b.mp4\n", "#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:2,\nb.mp4\n"]
)
def test_a_file_that_names_further_files_is_not_followed(tmp_path, script):
    write_video(tmp_path / "b.mp4", 2)
    (tmp_path / "a.mp4").write_text(script)
    with pytest.raises(BadItem, match="no video of a known format"):
        list(video.excerpts(tmp_path / "a.mp4", 5.0, 1))


@pytest.mark.parametrize("kind", ["no sound", "no video"])
def test_what_cannot_be_used_says_why(tmp_path, kind):
    path = write_video(tmp_path / "a.mp4", 1, has_sound=False)
    if kind == "no video":
        path.write_bytes(b"nothing of the kind" * 20)
    with pytest.raises(BadItem) as caught:
        list(video.excerpts(path, 5.0, 1))
    assert caught.value.uri == str(path)
    assert ("has no sound" if kind == "no sound" else "no video of a known format") in caught.value.sentence


def test_without_pyav_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(BadConfig, match="pip install av"):
        list(video.excerpts(tmp_path / "a.mp4", 5.0, 1))
