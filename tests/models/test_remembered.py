"""A fact about a large file is found out once for each state of the file, whatever happens to the cache."""

import os
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from aai.errors import BadConfig
from aai.models import folders, revisions
from aai.models.remembered import remembered

SIZE = 2**20


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("AAI_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "files"


@pytest.fixture
def file(tmp_path) -> Path:
    path = tmp_path / "model.bin"
    path.write_bytes(b"a" * SIZE)
    return path


class Reader:
    """Counts how often a file is read."""

    def __init__(self) -> None:
        self.num_reads = 0

    def __call__(self, path: Path) -> str:
        self.num_reads += 1
        return chr(path.read_bytes()[0])


def test_a_file_is_read_once_until_it_changes(file):
    read = Reader()
    assert [remembered("first", file, read) for _ in range(3)] == ["a"] * 3 and read.num_reads == 1
    before = file.stat()
    file.write_bytes(b"b" * SIZE)
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert remembered("first", file, read) == "b" and read.num_reads == 2
    other = file.with_name("other")
    other.write_bytes(b"c" * SIZE)
    other.replace(file)
    assert remembered("first", file, read) == "c" and read.num_reads == 3
    assert remembered("second", file, read) == "c" and read.num_reads == 4


def test_a_damaged_fact_is_found_out_again(file, cache):
    read = Reader()
    remembered("first", file, read)
    [note] = cache.iterdir()
    note.write_text(note.read_text().replace('"fact": "a"', '"fact": "b"'))
    assert remembered("first", file, read) == "a" and read.num_reads == 2


@pytest.mark.parametrize("damage", [b"", b"{", b"[]", b"null", b'{"state": 1}', b"\xff\xfe", b"[" * 100_000])
def test_a_damaged_cache_is_written_anew(file, cache, damage):
    read = Reader()
    remembered("first", file, read)
    [note] = cache.iterdir()
    note.write_bytes(damage)
    assert [remembered("first", file, read) for _ in range(2)] == ["a"] * 2 and read.num_reads == 2


def test_without_a_cache_folder_the_file_is_read_each_time(file, monkeypatch):
    monkeypatch.setenv("AAI_CACHE", str(file / "below a file"))
    read = Reader()
    assert [remembered("first", file, read) for _ in range(2)] == ["a"] * 2 and read.num_reads == 2


def test_a_file_that_changes_while_it_is_read_is_not_remembered(file, cache):
    def read(path: Path) -> str:
        path.write_bytes(b"b" * (SIZE + 1))
        return "half of it"

    assert remembered("first", file, read) == "half of it" and not cache.exists()


def write_often(path: Path) -> str:
    """In another process."""
    return "".join(remembered(f"fact {number % 3}", path, Reader()) for number in range(60))


def test_processes_may_write_the_same_fact_at_once(file, cache):
    with ProcessPoolExecutor(2) as pool:
        assert set(pool.map(write_often, [file] * 2)) == {"a" * 60}
    assert len(list(cache.iterdir())) == 3


def test_digest_and_check_of_weights_are_remembered_between_commands(tmp_path, monkeypatch):
    folder = tmp_path / "model"
    folder.mkdir()
    path = folder / "model.safetensors"
    reads: list[str] = []
    digest, tensors = revisions._read_digest, folders._tensors
    monkeypatch.setattr(revisions, "_read_digest", lambda path: reads.append("digest") or digest(path))
    monkeypatch.setattr(folders, "_tensors", lambda path: reads.append("check") or tensors(path))

    def command() -> str:
        revisions._digest_of_file.cache_clear()
        folders._fault.cache_clear()
        folders.check_weights(path)
        return revisions.resolve_revision(folder, None)[1]

    save_file({"a": np.ones(SIZE, np.float32)}, path)
    assert command() == command() and sorted(reads) == ["check", "digest"]
    save_file({"a": np.full(SIZE, np.nan, np.float32)}, path)
    for _ in range(2):
        with pytest.raises(BadConfig, match="its weight a is not finite"):
            command()
    assert sorted(reads) == ["check", "check", "digest"]
