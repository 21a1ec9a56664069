"""Windows of videos are extracted once, and follow their videos."""

from pathlib import Path

import pytest

from aai.errors import BadConfig
from tasks.aligner.config import EXTRACTED, TrainingConfig
from tasks.aligner.videos import extract_videos
from tests.media.test_video import write_video

pytest.importorskip("av")


def training_in(folder: Path, **pairs: object) -> TrainingConfig:
    (folder / "films").mkdir(exist_ok=True)
    return TrainingConfig(
        output=str(folder / "out"), pairs={"videos": str(folder / "films"), **pairs}, pool={"num_workers": 0}
    )


def extracted(folder: Path, suffix: str) -> list[str]:
    found = (folder / "out" / EXTRACTED).glob(f"[!.]*{suffix}")
    return sorted(path.name.split("-")[0] + path.name[-len("0000.000.jpg") :] for path in found)


def test_windows_of_a_removed_video_are_removed(tmp_path):
    training = training_in(tmp_path)
    for name in ("a", "b [x]"):
        write_video(tmp_path / "films" / f"{name}.mp4", 2)
    assert extract_videos(training) == []
    assert extracted(tmp_path, "jpg") == ["a0000.000.jpg", "b [x]0000.000.jpg"]
    (tmp_path / "films" / "b [x].mp4").unlink()
    assert extract_videos(training) == ["1 videos are no longer there, and their windows are removed"]
    assert extracted(tmp_path, "jpg") == ["a0000.000.jpg"] and extract_videos(training) == []


def test_another_number_of_frames_replaces_those_of_a_name_with_brackets(tmp_path):
    write_video(films_in(tmp_path) / "b [x].mp4", 2)
    extract_videos(training_in(tmp_path, frame="label", frames=3))
    assert len(extracted(tmp_path, "jpg")) == 3
    extract_videos(training_in(tmp_path))
    assert extracted(tmp_path, "jpg") == ["b [x]0000.000.jpg"]


def test_a_changed_file_beside_a_video_is_copied_again(tmp_path):
    write_video(films_in(tmp_path) / "a.mp4", 2)
    extract_videos(training_in(tmp_path))
    (tmp_path / "films" / "a.txt").write_text("a river")
    extract_videos(training_in(tmp_path))
    [copy] = (tmp_path / "out" / EXTRACTED).glob("a-*.txt")
    assert copy.read_text() == "a river"


def test_a_link_to_nothing_is_counted(tmp_path):
    write_video(films_in(tmp_path) / "a.mp4", 2)
    (tmp_path / "films" / "b.mp4").symlink_to(tmp_path / "none.mp4")
    [note] = extract_videos(training_in(tmp_path))
    assert note.startswith("1 of 2 videos cannot be used: 1: it cannot be read (No such file")


def test_all_videos_that_cannot_be_used_are_counted_by_reason_and_named(tmp_path):
    films = films_in(tmp_path)
    write_video(films / "a.mp4", 2)
    cut = (films / "a.mp4").read_bytes()
    (films / "cut.mp4").write_bytes(cut[: len(cut) // 2])
    for name in "bcdef":
        (films / f"{name}.mp4").write_bytes(bytes(100))
    [note] = extract_videos(training_in(tmp_path))
    assert note == (
        "6 of 7 videos cannot be used: "
        "5: it is no video of a known format: convert it to MP4, or leave it out (b.mp4, c.mp4, d.mp4 and 2 more); "
        "1: it cannot be read as a video (Invalid data found when processing input): convert it to MP4 (cut.mp4)"
    )
    (films / "a.mp4").unlink()
    with pytest.raises(BadConfig, match=r"5: it is no video .*\(b.mp4, c.mp4"):
        extract_videos(training_in(tmp_path))


def films_in(folder: Path) -> Path:
    return Path(str(training_in(folder).pairs.videos))
