"""Every member of the tars of the corpus is used with its metadata, has a fault, or is left aside."""

import pytest

from aai.errors import BadItem
from aai.media.files import read_bytes, read_members
from aai.media.kinds import IMAGE_SUFFIXES
from tests.corpus import params
from tests.corpus.cases import Broken, Tar
from tests.corpus.tars import ALL_TARS, BROKEN_TARS, picture_of

_IN_CONTENTS = ("empty", "not a JPEG")
"""Faults that are not in the header, but in the contents."""


@pytest.mark.parametrize("tar", params(ALL_TARS))
def test_members_have_their_contents_and_the_faults_of_their_headers(tar: Tar, tmp_path):
    path = tmp_path / tar.name
    path.write_bytes(tar.data())
    members = read_members(str(path), IMAGE_SUFFIXES).members
    faults = {member.name: member.fault for member in members if member.fault}
    in_headers = {name: sentence for name, sentence in tar.faults.items() if sentence not in _IN_CONTENTS}
    assert faults.keys() == in_headers.keys()
    assert all(sentence in faults[name] for name, sentence in in_headers.items())
    whole = [member for member in members if not member.fault]
    assert {member.name for member in whole} - tar.faults.keys() | tar.good.keys() == tar.good.keys()
    for member in whole:
        if member.name in tar.good:
            assert read_bytes(str(path), member.offset, member.num_bytes) == picture_of(member.name)


@pytest.mark.parametrize("case", params([case for case in BROKEN_TARS if case.name != "no-image.tar"]))
def test_a_file_that_is_no_tar_is_rejected_with_the_reason(case: Broken, tmp_path):
    path = tmp_path / case.name
    path.write_bytes(case.data())
    with pytest.raises(BadItem) as caught:
        read_members(str(path), IMAGE_SUFFIXES)
    assert caught.value.uri == str(path) and case.sentence in caught.value.sentence
