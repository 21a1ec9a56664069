"""The folder of results is looked at before the work, and nothing of others' is written over."""

from pathlib import Path

import pytest

from aai.errors import BadConfig
from tasks.evaluate.folder import alone_in, check_folder

OURS = {"index.html": b"<title>AAI comparison", "results.json": b'"mark"'}
ID = "0123456789abcdef" * 2


def refused(output: Path | str, sources: tuple[str, ...] = ()) -> str:
    with pytest.raises(BadConfig) as error:
        check_folder(str(output), OURS, ["sounds", "pictures"], sources)
    assert (error.value.key, error.value.uri) == ("output", str(output))
    return error.value.sentence


@pytest.mark.parametrize("output", ["", " ", "s3://bucket/x", "s3:/bucket/x", "file:///tmp/x"])
def test_only_a_folder_of_this_machine_is_one(output):
    assert "folder of this machine" in refused(output)


def test_what_others_wrote_stays(tmp_path):
    (tmp_path / "index.html").write_text("my site")
    assert str(tmp_path / "index.html") in refused(tmp_path)
    (tmp_path / "index.html").write_text("<title>AAI comparison – x</title>")
    (tmp_path / "sounds").mkdir()
    for name in (f"{ID}.mp3", f".{ID}.mp3.part"):
        (tmp_path / "sounds" / name).touch()
    check_folder(str(tmp_path), OURS, ["sounds"])  # also of a call that was killed
    (tmp_path / "sounds" / f"{ID}.d").mkdir()
    assert f"{ID}.d" in refused(tmp_path)
    (tmp_path / "sounds" / f"{ID}.d").rmdir()
    (tmp_path / "sounds" / "own.wav").touch()
    assert "own.wav" in refused(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"index.html", "sounds"}, "nothing is written"


def test_files_named_by_ids_are_of_others_where_no_results_are(tmp_path):
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures" / f"{ID}.png").touch()
    assert f"{ID}.png" in refused(tmp_path)
    (tmp_path / "results.json").write_text('{"mark": null}')  # of a call that was killed
    check_folder(str(tmp_path), OURS, ["pictures"])


def test_a_file_in_the_way_is_named(tmp_path):
    (tmp_path / "file").touch()
    assert f"nothing can be written to {tmp_path / 'file'}" in refused(tmp_path / "file" / "below")
    assert f"nothing can be written to {tmp_path / 'file'}" in refused(tmp_path / "file")
    assert "this is a file's name" in refused(tmp_path / "index.html")
    assert "too long" in refused(tmp_path / ("x" * 300))
    (tmp_path / "pictures").touch()
    assert "pictures" in refused(tmp_path)


def test_results_do_not_become_recordings_of_the_bank(tmp_path):
    (tmp_path / "sounds").mkdir()
    (tmp_path / "sounds" / f"{ID}.wav").touch()
    (tmp_path / "results.json").write_text('{"mark": null}')
    sounds = str(tmp_path / "sounds")
    assert sounds in refused(tmp_path, (sounds,)) and sounds in refused(tmp_path / "sounds" / "out", (sounds,))
    assert str(tmp_path) in refused(tmp_path / "out", (f"{tmp_path}/**/*.wav",))
    for pattern in (f"{tmp_path}/*/*.wav", f"{tmp_path}/s?unds/*", f"{tmp_path}/s*/**/*.wav", f"{tmp_path}/sounds/*"):
        empty = tmp_path.with_name("empty")
        assert pattern in refused(tmp_path, (pattern,)), pattern
        check_folder(str(empty), OURS, ["sounds"], (pattern,))
    check_folder(str(tmp_path / "out"), OURS, ["sounds"], (sounds, f"{tmp_path}/*.wav", "s3://bucket/sounds"))


def test_the_workspace_is_the_banks_own(tmp_path):
    for output in (tmp_path / "bank", tmp_path / "bank" / "comparison"):
        with pytest.raises(BadConfig, match="in the bank's workspace") as error:
            check_folder(str(output), OURS, ["pictures"], (), str(tmp_path / "bank"))
        assert error.value.uri == str(output)
    check_folder(str(tmp_path / "banks"), OURS, ["pictures"], (), str(tmp_path / "bank"))
    check_folder(str(tmp_path / "out"), OURS, ["pictures"], (), "s3://bucket/bank")


def test_a_folder_is_written_by_one_at_a_time(tmp_path):
    import fcntl
    import os

    place = os.open(tmp_path, os.O_RDONLY)
    with alone_in(tmp_path), pytest.raises(BlockingIOError):
        fcntl.flock(place, fcntl.LOCK_EX | fcntl.LOCK_NB)
    fcntl.flock(place, fcntl.LOCK_EX | fcntl.LOCK_NB)
    os.close(place)
