"""A file of any name is found and read, or the listing says why not; no other file is touched."""

import os
import shutil

from hypothesis import assume, given
from hypothesis import strategies as st

from aai.errors import AaiError, BadConfig
from aai.media.files import find_files, read_bytes
from aai.media.kinds import AUDIO_SUFFIXES
from tests.fuzz.inputs import texts
from tests.fuzz.outcome import outcome_of

_SIGNS = "*?[]{}()~%#&;:|<>\\'\"`$!^=,.- _@\n\t\u00e9\u0301\u96e8\U0001f327\u202ea1"
_MAX_BYTES = 255
stems = st.text(st.sampled_from(_SIGNS), max_size=20) | st.text(max_size=20) | st.binary(max_size=12).map(
    lambda data: data.decode("utf-8", "surrogateescape")
)  # fmt: skip


def _as_file_name(text: str) -> str:
    name = os.fsdecode(os.fsencode(text.replace("/", "").replace("\0", "")))  # bytes that are joined may be UTF-8
    assume(name not in ("", ".", "..") and len(name.encode("utf-8", "surrogateescape")) < _MAX_BYTES - 4)
    return name


def _is_possible(text: str) -> bool:
    try:
        text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return False
    return True


@given(stems.filter(_is_possible), stems.filter(_is_possible))
def test_a_file_of_any_name_in_a_folder_of_any_name_is_found_and_read(folder, parent, stem):
    place = folder / _as_file_name(parent)
    path = place / f"{_as_file_name(stem)}.wav"
    place.mkdir()
    try:
        path.write_bytes(b"rain")
        for location in (str(place), str(path)):
            files = outcome_of(lambda location=location: find_files("audio", [location], AUDIO_SUFFIXES))
            if path.name.startswith("."):
                assert isinstance(files, BadConfig), "hidden"
                continue
            assert not isinstance(files, AaiError), files
            [file] = files.files
            assert file.uri.isascii() or file.uri.encode()
            assert file.fault or (read_bytes(file.uri) == b"rain" and file.uri == str(path))
        assert [entry.name for entry in place.iterdir()] == [path.name]
    finally:
        shutil.rmtree(place)


@given(texts | stems)
def test_any_location_is_listed_or_an_error(folder, location):
    assume("://" not in location and "::" not in location)  # other stores are not reached from here
    outcome_of(lambda: find_files("audio", [str(folder / "nowhere") + location], AUDIO_SUFFIXES))
