"""Files that commands write are checked before, written whole, and replace only what is ours."""

import pytest

from aai.errors import BadConfig
from flows.app.output import check_output, write_output


def is_ours(data: bytes) -> bool:
    return data == b"ours"


def test_a_file_is_written_whole_with_its_folder(tmp_path):
    path = tmp_path / "new" / "folder" / "a.txt"
    check_output(path, "--output", is_ours)
    assert not path.parent.exists(), "a check writes nothing"
    for data in (b"ours", b"more"):
        write_output(path, data, "--output")
        assert path.read_bytes() == data and list(path.parent.iterdir()) == [path]


def test_only_a_file_of_ours_is_replaced(tmp_path):
    for name, data in (("mine", b"ours"), ("other", b"theirs")):
        (tmp_path / name).write_bytes(data)
    check_output(tmp_path / "mine", "--output", is_ours)
    with pytest.raises(BadConfig, match="this command did not write it") as error:
        check_output(tmp_path / "other", "--output", is_ours)
    assert (error.value.key, error.value.uri) == ("--output", str(tmp_path / "other"))


@pytest.mark.parametrize("name", ["", "folder", "file/a.txt", "a\0b", "x" * 300])
def test_what_cannot_be_written_is_refused(tmp_path, name):
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    with pytest.raises(BadConfig) as error:
        check_output(tmp_path / name, "--output", is_ours)
        write_output(tmp_path / name, b"ours", "--output")
    assert error.value.key == "--output"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder"]
