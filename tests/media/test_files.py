"""Source files are found, and members of tars with their sidecars; what is malformed gets its reason."""

import io
import os
import tarfile
from functools import partial
from pathlib import Path

import fsspec
import numpy as np
import pytest
from botocore.exceptions import ConnectionClosedError

from aai.errors import BadConfig, BadItem, Transient, Unavailable
from aai.identity import content_id
from aai.media.files import Member, find_files, read_bytes, read_content, read_members
from aai.media.kinds import AUDIO_SUFFIXES, IMAGE_SUFFIXES
from aai.media.metadata import Metadata

_SIZE = slice(124, 136)  # of a tar's header


def names(files: list) -> list[str]:
    return [Path(file.uri).name for file in files]


def found(*locations: Path | str) -> list[str]:
    return names(find_files("audio", [str(location) for location in locations], AUDIO_SUFFIXES).files)


def touch(folder: Path, *paths: str) -> Path:
    for path in paths:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(b"sound")
    return folder


def header(name: str, size: int, **changes: object) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    entry.size = size
    for key, value in changes.items():
        setattr(entry, key, value)
    return entry


def write_tar(path: Path, members: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w") as archive:
        for name, data in members.items():
            archive.addfile(header(name, len(data)), io.BytesIO(data))
    return path


def members_of(path: Path, suffixes: frozenset[str] = AUDIO_SUFFIXES) -> list[Member]:
    return read_members(str(path), suffixes).members


# Folders, globs, links


def test_folders_are_searched_recursively_and_other_files_and_hidden_ones_left_out(tmp_path):
    touch(tmp_path, "b.wav", "deep/er/a.FLAC", "notes.txt", ".hidden.wav", "c.tar", "d.tar.gz", "e.png")
    assert found(tmp_path) == ["b.wav", "c.tar", "d.tar.gz", "a.FLAC"]


def test_a_file_that_several_locations_name_is_there_once(tmp_path):
    touch(tmp_path, "sounds/a.wav", "sounds/b.wav", "conf/aai.yaml")
    places = (tmp_path / "sounds", tmp_path / "sounds/*.wav", f"{tmp_path}/conf/../sounds/a.wav")
    assert found(*places) == ["a.wav", "b.wav"]


def test_addresses_are_absolute_and_without_detours(tmp_path, monkeypatch):
    touch(tmp_path, "sounds/a.wav", "conf/aai.yaml")
    monkeypatch.chdir(tmp_path / "conf")
    for location in ("../sounds", "../conf/../sounds/*.wav", f"{tmp_path}/conf/../sounds/a.wav"):
        [file] = find_files("audio", [location], AUDIO_SUFFIXES).files
        assert file.uri == str(tmp_path / "sounds" / "a.wav")


_ODD_NAMES = ["sounds [v2]", "what?", "all * of it", "50%", "a%20b", "a#b", "a::b", "zip::x", "a:b", "~", "~nobody"]
_ODD_NAMES += ["-x", "a\nb", "back\\slash", "😀", "{x,y}", "file:", " a ", "$HOME", "a|b;c&d", "'\"", "x" * 250]


@pytest.mark.parametrize("folder", _ODD_NAMES)
def test_a_location_that_exists_is_taken_literally(tmp_path, folder):
    touch(tmp_path, f"{folder}/{folder[:99]}.wav", "sounds v/b.wav")
    path = tmp_path / folder / f"{folder[:99]}.wav"
    for location in (path.parent, path):
        [file] = find_files("audio", [str(location)], AUDIO_SUFFIXES).files
        assert (file.uri, file.fault) == (str(path), None)
    assert read_bytes(str(path)) == b"sound" and read_bytes(str(path), 1, 2) == b"ou"
    if tar := write_tar(tmp_path / folder / "a.tar", {"a.wav": b"1"}):
        assert [member.name for member in members_of(tar)] == ["a.wav"]


@pytest.mark.parametrize("location", ["nothing", "nothing*", "empty", "other", "x" * 300, "what?/nothing"])
def test_a_location_without_a_file_of_the_kind_is_refused_with_its_key(tmp_path, location):
    (tmp_path / "empty").mkdir()
    touch(tmp_path, "other/a.png")
    with pytest.raises(BadConfig, match=r"does not exist|holds no file of a known kind") as error:
        found(tmp_path / location)
    assert error.value.key == "audio" and str(tmp_path / location) in error.value.sentence


def test_a_location_that_does_not_exist_is_named_in_full(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BadConfig) as error:
        found("images")
    assert error.value.sentence.startswith(f"{tmp_path}/images does not exist")


def test_a_url_that_cannot_be_opened_is_refused_without_its_query():
    with pytest.raises(BadConfig) as error:
        found("nowhere://bucket/sounds?token=hunter2")
    assert "nowhere://bucket/sounds?… cannot be opened" in error.value.sentence and "hunter2" not in str(error.value)


def test_links_count_as_their_files_and_broken_ones_pipes_and_odd_names_have_a_fault(tmp_path):
    touch(tmp_path, "elsewhere/a.wav", "sounds/plain.wav")
    sounds = tmp_path / "sounds"
    (sounds / "linked.wav").symlink_to("../elsewhere/a.wav")
    (sounds / "nowhere.wav").symlink_to("gone.wav")
    (sounds / "round.wav").symlink_to("round.wav")
    (sounds / "endless.wav").symlink_to("/dev/zero")
    (sounds / "folder").symlink_to(tmp_path / "elsewhere")
    os.mkfifo(sounds / "pipe.wav")
    os.mkfifo(sounds / "plain.json")
    (sounds / b"caf\xe9.wav".decode("utf-8", "surrogateescape")).write_bytes(b"sound")
    there = find_files("audio", [str(sounds)], AUDIO_SUFFIXES)
    assert f"{sounds}/plain.json" in there.left_aside and not any(file.sidecars for file in there.files)
    faults = {Path(file.uri).name: file.fault for file in there.files}
    odd = {"nowhere.wav", "round.wav", "endless.wav", "pipe.wav", r"caf\xe9.wav"}
    assert faults.keys() == {"plain.wav", "linked.wav"} | odd
    assert "pipe or device" in faults["pipe.wav"] and "pipe or device" in faults["endless.wav"]
    assert faults["plain.wav"] is faults["linked.wav"] is None
    assert "broken link" in faults["nowhere.wav"] and "broken link" in faults["round.wav"]
    assert "not UTF-8" in faults[r"caf\xe9.wav"]


def test_a_file_is_another_one_once_it_is_changed_or_moved(tmp_path):
    touch(tmp_path, "a.wav", "b.wav")
    a, b = find_files("audio", [str(tmp_path)], AUDIO_SUFFIXES).files
    [again] = find_files("audio", [str(tmp_path / "a.wav")], AUDIO_SUFFIXES).files
    assert again.file_id == a.file_id != b.file_id
    (tmp_path / "a.wav").write_bytes(b"longer sound")
    [changed] = find_files("audio", [str(tmp_path / "a.wav")], AUDIO_SUFFIXES).files
    assert changed.file_id != a.file_id


# Contents


def test_contents_are_those_that_were_ingested(tmp_path):
    path = tmp_path / "a.wav"
    path.write_bytes(b"0123456789")
    assert read_bytes(str(path)) == b"0123456789" and read_bytes(str(path), 2, 3) == b"234"
    assert read_content(str(path), 2, 3, content_id(b"234")) == b"234"
    for data in (b"01X3456789", b"01"):
        path.write_bytes(data)
        with pytest.raises(Unavailable, match="the file changed since it was ingested: run `aai build` again") as error:
            read_content(str(path), 2, 3, content_id(b"234"))
        assert error.value.uri == str(path)


def test_a_file_that_is_gone_is_a_bad_item_and_a_store_that_fails_is_transient(tmp_path, monkeypatch):
    with pytest.raises(BadItem, match="gone since it was listed: put it back, and the next run reads it") as error:
        read_bytes(str(tmp_path / "gone.wav"))
    assert error.value.uri == str(tmp_path / "gone.wav")
    with pytest.raises(Transient, match="IsADirectoryError"):
        read_bytes(str(tmp_path))


def test_of_a_bucket_a_denied_file_is_a_bad_item_and_wrong_credentials_are_a_setting(monkeypatch):
    for code, kind in (("AccessDenied", BadItem), ("ExpiredToken", BadConfig)):
        error = PermissionError("said so")
        error.__cause__ = Exception(f"An error occurred ({code}) when calling GetObject")
        monkeypatch.setattr(fsspec.filesystem("memory"), "cat_file", partial(throw, error))
        with pytest.raises(kind) as got:
            read_bytes("memory://bucket/a.wav")
        assert "memory://bucket/a.wav" in str(got.value)


def test_a_store_that_fails_while_it_is_listed_or_read_is_transient(monkeypatch):
    files, lost = fsspec.filesystem("memory"), ConnectionClosedError(endpoint_url="http://s3")
    for name in ("isdir", "open", "cat_file"):
        monkeypatch.setattr(files, name, partial(throw, lost))
    with pytest.raises(Transient, match=r"listing memory://bucket failed \(ConnectionClosedError\)"):
        find_files("audio", ["memory://bucket"], AUDIO_SUFFIXES)
    with pytest.raises(Transient, match="reading memory://bucket/a.tar failed"):
        read_members("memory://bucket/a.tar", AUDIO_SUFFIXES)
    with pytest.raises(Transient, match="reading memory://bucket/a.wav failed"):
        read_bytes("memory://bucket/a.wav")


def throw(error: Exception, *args, **options):
    raise error


# Tars


def test_members_have_their_place_and_equal_bytes(tmp_path):
    sounds = {"a.wav": b"first", "folder/b.ogg": b"second", "notes.md": b"no sound"}
    path = write_tar(tmp_path / "sounds.tar", sounds)
    members = members_of(path)
    assert [member.name for member in members] == ["a.wav", "folder/b.ogg"]
    for member in members:
        assert read_bytes(str(path), member.offset, member.num_bytes) == sounds[member.name]
        assert member.fault is None


def test_sidecars_belong_to_the_member_of_the_same_name_up_to_the_last_dot(tmp_path):
    path = write_tar(
        tmp_path / "sounds.tar",
        {
            "2024.01.05 rain.ogg": b"1",
            "2024.01.05 rain.json": b'{"label": "rain", "license": "CC0", "gain": 3}',
            "2024.02.11 fire.wav": b"2",
            "2024.02.11 fire.json": b'{"label": "fire"}',
            "2024.03.01 nothing.wav": b"3",
        },
    )
    assert {member.name: member.metadata for member in members_of(path)} == {
        "2024.01.05 rain.ogg": Metadata(label="rain", licence="CC0", attributes='{"gain": 3}'),
        "2024.02.11 fire.wav": Metadata(label="fire"),
        "2024.03.01 nothing.wav": Metadata(),
    }


def test_other_sidecars_belong_to_all_members_up_to_the_first_dot(tmp_path):
    path = write_tar(
        tmp_path / "pictures.tar",
        {
            "part/0001.left.png": b"1",
            "part/0001.right.png": b"2",
            "part/0001.right.txt": b"seen from the right",
            "part/0001.json": b'{"label": "rain", "caption": "both"}',
            "part/0002.png": b"3",
            "part/0002.meta.json": b'{"licence": "CC0"}',
            "part/0002.cls": b" fire \n",
            "0001.png": b"4",
        },
    )
    assert {member.name: member.metadata for member in members_of(path, IMAGE_SUFFIXES)} == {
        "part/0001.left.png": Metadata(label="rain", caption="both"),
        "part/0001.right.png": Metadata(label="rain", caption="seen from the right"),
        "part/0002.png": Metadata(label="fire", licence="CC0"),
        "0001.png": Metadata(),
    }


@pytest.mark.parametrize(
    "data",
    [
        b"[" * 100_000 + b"]" * 100_000,
        b'{"label": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b'{"label": ' + b"9" * 5_000 + b"}",
        b'{"label": NaN}',
        b'{"label": ',
        b'"rain"',
        b"\xff\xfe\x00",
        b"",
        b'{"label": "' + b"x" * 2**20 + b'"}',
    ],
    ids=["nested list", "nested label", "5,000 digits", "NaN", "cut", "text", "no UTF-8", "empty", "1 MB"],
)
def test_a_sidecar_that_cannot_be_used_is_none(tmp_path, data):
    path = write_tar(tmp_path / "sounds.tar", {"a.wav": b"sound", "a.json": data})
    assert [(member.name, member.metadata, member.fault) for member in members_of(path)] == [
        ("a.wav", Metadata(), None)
    ]


def test_no_depth_of_a_sidecar_is_too_much(tmp_path):
    """Close to Python's limit, a text can be read and not be written again."""
    for depth in (*range(100, 900, 100), *range(900, 1_000)):
        nested = b"[" * depth + b"]" * depth
        data = b'{"other": %b, "label": "rain"}' % nested
        [member] = members_of(write_tar(tmp_path / "sounds.tar", {"a.wav": b"1", "a.json": data}))
        whole = Metadata(label="rain", attributes=f'{{"other": {nested.decode()}}}')
        without = (whole, Metadata(), Metadata(label="rain"))
        assert member.metadata in without if depth > 500 else member.metadata == whole


def test_a_lone_surrogate_in_a_label_is_replaced(tmp_path):
    path = write_tar(tmp_path / "sounds.tar", {"a.wav": b"1", "a.json": rb'{"label": "r\ud800ain", "place": "\udfff"}'})
    [member] = members_of(path)
    assert member.metadata == Metadata(label="r?ain", attributes='{"place": "?"}')


def raw_tar(*headers: bytes) -> bytes:
    """Headers, each before one block of data."""
    return b"".join(part + b"sound".ljust(512, b"\0") for part in headers) + bytes(1024)


def with_size(name: str, field: bytes) -> bytes:
    """A header with this size field, and the checksum that belongs to it."""
    block = bytearray(header(name, 5).tobuf(tarfile.USTAR_FORMAT))
    block[_SIZE] = field
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


def negative(size: int) -> bytes:
    """A size in the binary form of GNU tar."""
    return size.to_bytes(12, "big", signed=True)


@pytest.mark.parametrize("size", [-1, -512, -1024, -(2**40)])
def test_a_negative_size_is_one_reject_and_the_members_before_it_stay(tmp_path, size):
    path = tmp_path / "sounds.tar"
    good = header("good.wav", 5).tobuf(tarfile.USTAR_FORMAT)
    path.write_bytes(raw_tar(good, with_size("bad.wav", negative(size)), good))
    first, end = members_of(path)
    assert (first.name, first.fault, end.name) == ("good.wav", None, "the end")
    assert end.fault == "the tar is cut short or damaged after 1 members: copy it again"
    path.write_bytes(raw_tar(with_size("bad.wav", negative(size))))
    assert [member.name for member in members_of(path)] == ["the end"]


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"type": tarfile.SYMTYPE, "linkname": "/etc/passwd"}, "a link or device, which is never followed"),
        ({"type": tarfile.FIFOTYPE}, "a link or device, which is never followed"),
        ({"name": "../a.wav"}, "its name leads out of the tar"),
        ({"name": "/a.wav"}, "its name leads out of the tar"),
        ({"name": "a\nb.wav"}, "a line break or another character that cannot be printed"),
        ({"name": "inner.tar"}, "a tar within a tar"),
    ],
)
def test_a_member_that_cannot_be_used_has_a_fault(tmp_path, changes, fault):
    with tarfile.open(tmp_path / "sounds.tar", "w") as archive:
        archive.addfile(header("good.wav", 0))
        archive.addfile(header(**{"name": "bad.wav", "size": 0} | changes))
    good, bad = members_of(tmp_path / "sounds.tar")
    assert good.fault is None and fault in bad.fault and bad.name.isprintable()


def test_of_two_members_with_one_name_the_second_has_a_fault(tmp_path):
    with tarfile.open(tmp_path / "sounds.tar", "w") as archive:
        for _ in range(2):
            archive.addfile(header("a.wav", 5), io.BytesIO(b"sound"))
    assert [member.fault for member in members_of(tmp_path / "sounds.tar")] == [
        None,
        "a second member of this name: rename it",
    ]


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (b"", "the file is empty"),
        (b"Buy milk.\n" * 400, "not a tar"),
        (b"\x1f\x8b" + bytes(600), "a compressed tar"),
        (bytes(10_240), "the tar has no members"),
    ],
)
def test_what_is_not_a_tar_gets_its_reason(tmp_path, data, sentence):
    path = tmp_path / "sounds.tar"
    path.write_bytes(data)
    with pytest.raises(BadItem, match=sentence) as error:
        members_of(path)
    assert error.value.uri == str(path)


def test_damaged_tars_end_as_members_or_as_a_reject(tmp_path):
    """400 tars with a few bytes changed or cut off: never another error, and never without an end."""
    whole = write_tar(tmp_path / "whole.tar", {"a.wav": b"1" * 600, "a.json": b'{"label": "rain"}', "b.wav": b"2"})
    data, rng, path = whole.read_bytes(), np.random.default_rng(0), tmp_path / "damaged.tar"
    num_rejected = 0
    for _ in range(400):
        damaged = bytearray(data)
        for _ in range(rng.integers(1, 6)):
            damaged[rng.integers(len(data[:3584]))] = rng.integers(256)
        path.write_bytes(damaged[: rng.integers(1, len(damaged))] if rng.random() < 0.3 else damaged)
        try:
            assert len(members_of(path)) <= 3
        except BadItem:
            num_rejected += 1
    assert 0 < num_rejected < 400
