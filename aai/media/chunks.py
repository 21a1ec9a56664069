"""Sizes in the headers of WAV, RF64, W64, AIFF, CAF and AU files: some are missing, stale or wrong.

A program that writes to a pipe cannot go back to the header, and a recorder that stops suddenly does not.
"""

import struct
from collections.abc import Iterator
from itertools import islice
from typing import NamedTuple

from aai.errors import BadItem
from aai.media.tags import skip_tags

_PIPE_SIZES = (0x7F00_0000, 2**31, 2**32, 2**63, 2**64)
_PIPE_SLACK_BYTES = 2**16
"""SoX, arecord and FFmpeg write one of these sizes, or one near to it, if they do not know the true one."""

_MAX_CHUNKS = 10_000
_DS64_SOUND_OFFSET = 8
_MPEG_CODECS = (0x50, 0x55)
_W64_ID = b"\xf3\xac\xd3\x11\x8c\xd1\x00\xc0\x4f\x8e\xdb\x8a"


class _Container(NamedTuple):
    """How a format stores its chunks."""

    first_chunk: int
    sound_id: bytes
    size_format: str
    alignment: int
    prefix_bytes: int = 0  # in the sound chunk, before the samples
    counted_bytes: int = 0  # of the header of a chunk, which its size includes


_RIFF = _Container(12, b"data", "<I", 2)
_W64 = _Container(40, b"data" + _W64_ID, "<Q", 8, counted_bytes=24)
_CAF = _Container(8, b"data", ">Q", 1, prefix_bytes=4)
_AIFF = _Container(12, b"SSND", ">I", 2, prefix_bytes=8)
_AU = {b".snd": _Container(0, b"", ">I", 1), b"dns.": _Container(0, b"", "<I", 1)}
_CONTAINERS = {
    (b"RIFF", b"WAVE"): _RIFF,
    (b"RF64", b"WAVE"): _RIFF,
    (b"RIFX", b"WAVE"): _RIFF._replace(size_format=">I"),
    (b"FORM", b"AIFF"): _AIFF,
    (b"FORM", b"AIFC"): _AIFF,
}
_METADATA_IDS = (b"LIST", b"id3 ", b"ID3 ", b"bext", b"iXML", b"_PMX")
_FILE_IDS = (b"RIFF", b"RF64", b"RIFX", b"FORM", b"riff", b"caff")


class _Chunk(NamedTuple):
    id: bytes
    start: int  # of its contents
    size: int  # of its contents, as its header says
    size_offset: int
    size_format: str


class Sound(NamedTuple):
    """A file whose header says what is there."""

    data: bytes
    missing: float = 0.0
    """Bytes of sound that are not there though the header says so, as a fraction of those that are."""
    surplus: float = 0.0
    """Bytes after the sound that belong to no chunk, as a fraction of the bytes of sound."""
    mpeg: bytes | None = None
    """The MP3 stream in a WAV file."""
    is_known: bool = True
    """Whether it is one of these formats."""


def mend(data: bytes, uri: str) -> Sound:
    """The file with the true size of its sound in its header, and with nothing after its last chunk.

    Raises:
        BadItem: it ends before its sound begins.
    """
    if data[:4] in _AU and len(data) >= 12:
        container = _AU[data[:4]]
        start, size = struct.unpack_from(container.size_format + "I", data, 4)
        return _agreed(data, _Chunk(data[:4], start, size, 8, container.size_format), container, uri)
    found = _container(data)
    if found is None:
        return Sound(data, is_known=False)
    data = _padded(data, found)
    chunks = list(islice(_chunks(data, found), _MAX_CHUNKS))
    if not chunks or chunks[-1].id != found.sound_id:
        return Sound(data)
    mended = _agreed(data, _with_64_bits(data, chunks), found, uri)
    return mended._replace(mpeg=_mpeg(mended.data, chunks))


def _container(data: bytes) -> _Container | None:
    if data[:4] == b"caff":
        return _CAF
    if data[:4] == b"riff" and data[24:28] == b"wave":
        return _W64
    return _CONTAINERS.get((data[:4], data[8:12]))


def _chunks(data: bytes, container: _Container) -> Iterator[_Chunk]:
    """The chunks up to the one with the sound."""
    at = container.first_chunk
    while chunk := _chunk(data, at, container):
        yield chunk
        if chunk.id == container.sound_id:
            return
        at = _end(data, chunk, container)


def _chunk(data: bytes, at: int, container: _Container) -> _Chunk | None:
    """The chunk at a position, if what is there looks like the header of one."""
    id_bytes = len(container.sound_id)
    start = at + id_bytes + struct.calcsize(container.size_format)
    if not id_bytes or start > len(data) or not _is_id(data[at : at + id_bytes]):
        return None
    (size,) = struct.unpack_from(container.size_format, data, at + id_bytes)
    size = max(0, size - container.counted_bytes)
    return _Chunk(data[at : at + id_bytes], start, size, at + id_bytes, container.size_format)


def _is_id(name: bytes) -> bool:
    is_text = all(32 <= byte < 127 for byte in name[:4])
    return is_text and name[4:] in (b"", _W64_ID)


def _is_unpadded(data: bytes, chunk: _Chunk, container: _Container) -> bool:
    """Whether a chunk of odd size lacks the zero byte after it."""
    end = chunk.start + chunk.size
    return (
        container.alignment == 2 and chunk.size % 2 == 1 and data[end : end + 1] > b"\0" and _is_id(data[end : end + 4])
    )


def _end(data: bytes, chunk: _Chunk, container: _Container) -> int:
    end = chunk.start + chunk.size
    return end if _is_unpadded(data, chunk, container) else end + -chunk.size % container.alignment


def _padded(data: bytes, container: _Container) -> bytes:
    """The file with the zero bytes that it lacks before its sound."""
    ends, parts, start = [], [], 0
    for chunk in islice(_chunks(data, container), _MAX_CHUNKS):
        if chunk.id != container.sound_id and _is_unpadded(data, chunk, container):
            ends.append(chunk.start + chunk.size)
    for end in ends:
        parts += [data[start:end], b"\0"]
        start = end
    return b"".join([*parts, data[start:]]) if ends else data


def _with_64_bits(data: bytes, chunks: list[_Chunk]) -> _Chunk:
    """The sound chunk, with the size in the chunk `ds64` if its own field has no room for it."""
    long = next((chunk for chunk in chunks if chunk.id == b"ds64" and chunk.size >= 16), None)
    if long is None or chunks[-1].size != 0xFFFF_FFFF:
        return chunks[-1]
    offset = long.start + _DS64_SOUND_OFFSET
    return chunks[-1]._replace(size=struct.unpack_from("<Q", data, offset)[0], size_offset=offset, size_format="<Q")


def _agreed(data: bytes, chunk: _Chunk, container: _Container, uri: str) -> Sound:
    start, stated = chunk.start + container.prefix_bytes, chunk.size - container.prefix_bytes
    there = len(data) - start
    if there <= 0 < stated:
        raise BadItem("the file is cut short (it ends with its header): copy it again", uri=uri)
    rest = _rest(data, _end(data, chunk, container), container)
    if there > 0 and (_is_unknown(chunk.size) or stated <= 0 and rest < len(data)):
        return Sound(_sized(data, chunk, there, container))
    if stated > there:
        return Sound(_sized(data, chunk, there, container), missing=(stated - there) / there)
    is_zero = data.count(0, rest) == len(data) - rest
    surplus = 0.0 if is_zero or stated <= 0 else (len(data) - rest) / stated
    return Sound(data[:rest], surplus=surplus)


def _is_unknown(size: int) -> bool:
    return any(abs(size - known) <= _PIPE_SLACK_BYTES for known in _PIPE_SIZES)


def _rest(data: bytes, at: int, container: _Container) -> int:
    """Where the chunks and tags that begin at a position end."""
    for _ in range(_MAX_CHUNKS):
        at = min(skip_tags(data, at), len(data))
        chunk = _chunk(data, at, container)
        if chunk is None or chunk.id == container.sound_id or chunk.id[:4] in _FILE_IDS:
            break
        if chunk.start + chunk.size > len(data) and chunk.id not in _METADATA_IDS:
            break
        at = _end(data, chunk, container)
    return min(at, len(data))


def _sized(data: bytes, chunk: _Chunk, num_bytes: int, container: _Container) -> bytes:
    """The file with another size of the samples in its header."""
    size = num_bytes + container.prefix_bytes + container.counted_bytes
    field = struct.pack(chunk.size_format, min(size, 256 ** struct.calcsize(chunk.size_format) - 1))
    return data[: chunk.size_offset] + field + data[chunk.size_offset + len(field) :]


def _mpeg(data: bytes, chunks: list[_Chunk]) -> bytes | None:
    codecs = [data[chunk.start : chunk.start + 2] for chunk in chunks if chunk.id == b"fmt "]
    is_mpeg = bool(codecs) and int.from_bytes(codecs[0], "little") in _MPEG_CODECS
    sound = chunks[-1]
    return data[sound.start :][: sound.size or None] if is_mpeg else None
