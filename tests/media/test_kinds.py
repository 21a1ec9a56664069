"""Kinds of files follow from their names."""

import pytest

from aai.media.kinds import AUDIO_SUFFIXES, IMAGE_SUFFIXES, count_kinds, is_ignored, left_aside, suffix_of


@pytest.mark.parametrize(
    "name, suffix",
    [
        ("a.JPG", ".jpg"),
        ("photos.v2/a", ""),
        ("a.jpg_large", ".jpg"),
        ("a.jpg:large", ".jpg"),
        ("a.jpg?width=300", ".jpg"),
        ("a.jpeg (1)", ".jpeg"),
        ("a.jpg!d", ".jpg"),
        ("a.wav~", ".wav~"),
        ("a.wav.part", ".part"),
        ("2024.01.05 rain.ogg", ".ogg"),
        (".hidden", ""),
        ("a.", "."),
    ],
)
def test_an_extension_is_in_lower_case_and_without_what_downloads_add(name, suffix):
    assert suffix_of(name) == suffix


def test_kinds_hold_what_can_be_read_and_what_has_to_be_converted():
    assert {".jfif", ".jpe", ".apng", ".dib", ".avif", ".heic", ".svg", ".nef", ".ico"} <= IMAGE_SUFFIXES
    assert {".mp2", ".mpga", ".voc", ".aac", ".mid", ".ape", ".amr", ".m4b", ".wv"} <= AUDIO_SUFFIXES
    assert not {".txt", ".json", ".cls", ".csv", ".pdf", ".md", ".tar", ""} & (AUDIO_SUFFIXES | IMAGE_SUFFIXES)


@pytest.mark.parametrize(
    "path, is_system",
    [
        ("sounds/._a.wav", True),
        ("__MACOSX/sounds/a.wav", True),
        ("pictures/Thumbs.db", True),
        ("pictures/desktop.ini", True),
        (".cache/a.jpg", True),
        ("./a.jpg", False),
        ("../a.jpg", False),
        ("thumbs/a.jpg", False),
    ],
)
def test_hidden_files_and_those_of_the_system_are_ignored(path, is_system):
    assert is_ignored(path) == is_system


def test_files_of_other_kinds_are_counted_by_extension():
    names = ["a.txt", "b.TXT", "c.md", "README", "linked/"]
    assert left_aside(count_kinds(names)) == "5 files of other kinds: .txt 2, .md 1, links to folders 1, no extension 1"
    assert left_aside(count_kinds([])) == ""
    assert left_aside(count_kinds(["a.txt"])) == "1 file of other kinds: .txt 1"
    many = [f"a.x{number}" for number in range(10)] * 1000
    assert left_aside(count_kinds(many)).startswith("10,000 files of other kinds: .x0 1,000, .x1 1,000")
    assert left_aside(count_kinds(many)).endswith(".x7 1,000, others 2,000")
