"""Files and members of tars of other kinds are left aside, and those of the operating system are not there."""

import io
import tarfile
from pathlib import Path

import pytest

from aai.errors import BadConfig
from aai.media.files import find_files, read_members
from aai.media.kinds import AUDIO_SUFFIXES, IMAGE_SUFFIXES


def names(files: list) -> list[str]:
    return [Path(file.uri).name for file in files]


def found(location: Path) -> list[str]:
    return names(find_files("audio", [str(location)], AUDIO_SUFFIXES).files)


def touch(folder: Path, *paths: str) -> None:
    for path in paths:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(b"sound")


def write_tar(path: Path, members: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w") as archive:
        for name, data in members.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    return path


def test_files_of_other_kinds_are_left_aside_and_those_of_the_system_are_not_there(tmp_path):
    touch(
        tmp_path,
        "sounds/a.wav",
        "sounds/a.json",
        "sounds/notes.txt",
        "sounds/deep/b.png",
        "sounds/README",
        "other/c.wav",
    )
    touch(tmp_path / "sounds", "._a.wav", ".DS_Store", "Thumbs.db", "__MACOSX/._a.wav", "__MACOSX/a.wav", ".git/a.wav")
    (tmp_path / "sounds" / "linked").symlink_to(tmp_path / "other")
    there = find_files("audio", [str(tmp_path / "sounds")], AUDIO_SUFFIXES)
    assert names(there.files) == ["a.wav"]
    left = {uri.removeprefix(f"{tmp_path}/sounds/") for uri in there.left_aside}
    assert left == {"notes.txt", "deep/b.png", "README", "linked/"}


def test_a_location_below_a_hidden_folder_is_no_hidden_file(tmp_path):
    touch(tmp_path, ".data/sounds/a.wav")
    assert found(tmp_path / ".data" / "sounds") == found(tmp_path / ".data/sounds/*.wav") == ["a.wav"]


def test_a_folder_with_other_files_only_is_refused_with_their_kinds(tmp_path):
    touch(tmp_path, "a.txt", "b.txt", "c.md")
    with pytest.raises(
        BadConfig, match="holds no file of a known kind, but 3 files of other kinds: .txt 2, .md 1: name"
    ):
        found(tmp_path)


def test_extensions_are_known_in_either_case_and_with_what_downloads_add(tmp_path):
    touch(tmp_path, "a.JFIF", "b.jpg_large", "c.HEIC", "d.txt")
    assert names(find_files("images", [str(tmp_path)], IMAGE_SUFFIXES).files) == ["a.JFIF", "b.jpg_large", "c.HEIC"]


def test_members_of_the_system_are_not_there_and_others_are_left_aside(tmp_path):
    sounds = {
        "./a.wav": b"1",
        "./a.json": b'{"label": "rain"}',
        "a.txt.bak": b"",
        "b.npy": b"2",
        "c.png": b"3",
        "d.txt": b"",
    }
    system = {
        "./._a.wav": b"4",
        "__MACOSX/._a.wav": b"5",
        "__MACOSX/b.wav": b"6",
        ".DS_Store": b"7",
        "x/Thumbs.db": b"8",
    }
    contents = read_members(str(write_tar(tmp_path / "sounds.tar", sounds | system)), AUDIO_SUFFIXES)
    assert [(member.name, member.metadata.label, member.fault) for member in contents.members] == [
        ("./a.wav", "rain", None)
    ]
    assert contents.left_aside == ["a.txt.bak", "b.npy", "c.png", "d.txt"]
