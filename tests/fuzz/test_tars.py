"""Any bytes are a tar whose members lie inside of it, or an error."""

import tarfile

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from aai.errors import AaiError
from aai.media.files import Member, read_bytes, read_members
from aai.media.kinds import IMAGE_SUFFIXES
from tests.corpus.tars import TARS, block
from tests.fuzz.inputs import near_one_of
from tests.fuzz.outcome import outcome_of

_SMALL = tuple(data for data in (tar.data() for tar in TARS) if len(data) < 30_000)
_KINDS = st.sampled_from([kind.encode() for kind in "0123456789xgLKSVDMNA\0"])
_NAMES = st.sampled_from(("1.png", "1.json", "1.cls", "folder/", "../1.png", "/1.png", "", "a\nb.png", "1.tar"))
_NUMBERS = (
    b"00000000000\0",
    b"77777777777\0",
    b"-0000000001\0",
    b" 12 \0      \0"[:12],
    b"\x80" + bytes(11),
    b"\xff" * 12,
)
_PAX = ("path=2.png", "size=-1", "size=99999999999999999999", "path=", "GNU.sparse.major=1", "GNU.sparse.map=1,x",
        "GNU.sparse.realsize=9", "linkpath=/etc", "path=a\nb.png", "hdrcharset=BINARY", "path=\ud83d", "=",
        "mtime=x")  # fmt: skip


@st.composite
def _blocks(draw: st.DrawFn) -> bytes:
    """Headers of every type with fields that may be wrong, each with some data."""

    def damage(header: bytearray) -> None:
        for at, width in ((124, 12), (100, 8), (136, 12)):
            if draw(st.integers(0, 5)) == 0:
                header[at : at + width] = draw(st.sampled_from(_NUMBERS) | st.binary(min_size=12, max_size=12))[:width]

    kind, name = draw(_KINDS), draw(_NAMES)
    data = draw(st.binary(max_size=40) | st.sampled_from((b"a" * 600, b'{"label": 1}', b"2.png\0", bytes(512))))
    if kind in b"xg" and draw(st.booleans()):
        record = draw(st.sampled_from(_PAX)).encode("utf-8", "surrogatepass")
        size = draw(st.sampled_from((len(record) + 4, len(record) + 5, 0, 9, 99_999)))
        data = f"{size} ".encode() + record + b"\n"
    return block(name, data, kind, damage)


made_up = st.lists(_blocks(), max_size=4).map(b"".join).flatmap(
    lambda blocks: st.sampled_from((blocks + bytes(1_024), blocks, blocks[:-100]))
)  # fmt: skip


@given(near_one_of(_SMALL) | made_up)
def test_members_lie_inside_of_the_tar_and_have_names_and_metadata_that_a_table_can_store(folder, data):
    path = folder / "any.tar"
    path.write_bytes(data)
    members = outcome_of(lambda: read_members(str(path), IMAGE_SUFFIXES))
    for member in () if isinstance(members, AaiError) else members.members:
        _check(member, len(data))
        if not member.fault:
            assert len(read_bytes(str(path), member.offset, member.num_bytes)) == member.num_bytes


def _check(member: Member, size: int) -> None:
    assert member.name.isprintable() and (member.fault or member.name)
    assert 0 <= member.num_bytes and 0 <= member.offset <= size
    assert member.fault or member.offset + member.num_bytes <= size
    metadata = member.metadata
    texts = (member.name, member.fault, metadata.label, metadata.caption, metadata.licence, metadata.attributes)
    pa.array(texts, pa.string())


def test_the_members_that_the_standard_library_writes_are_found(folder):
    path = folder / "whole.tar"
    with tarfile.open(path, "w") as archive:
        archive.add(__file__, "1.png")
    [member] = read_members(str(path), IMAGE_SUFFIXES).members
    assert (member.name, member.fault) == ("1.png", None)
