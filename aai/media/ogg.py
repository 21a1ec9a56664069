"""Ogg pages: the streams of a file, one after another or side by side, and whether they are whole."""

import struct
import zlib
from collections.abc import Iterator
from itertools import pairwise
from typing import NamedTuple

from aai.errors import BadItem

MAGIC = b"OggS"

_HEADER = struct.Struct("<4sBBqIIIB")  # magic, version, flags, granule position, serial, number, checksum, segments
_IS_FIRST, _IS_LAST = 2, 4
_CHECKSUM = slice(22, 26)

_REVERSED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))

_READABLE = (b"\x01vorbis", b"OpusHead", b"\x7fFLAC")
_FLAC_PREFIX_BYTES = 9  # before the native header in the first packet
_OTHERS = {
    b"Speex   ": "Ogg Speex",
    b"\x80theora": "Ogg Theora (video)",
    b"PCM     ": "OggPCM",
}
_REMEDY = "copy it again, or convert it to FLAC if this is all there is"


class _Page(NamedTuple):
    start: int
    end: int
    body: int
    flags: int
    granule: int
    serial: int
    number: int


def links(data: bytes, uri: str) -> list[bytes]:
    """The sound streams of a file, each as a file that libsndfile reads to its end; several if the file is a chain.

    Raises:
        BadItem: it is cut short or damaged, has sound of an unsupported codec, or several sounds at once.
    """
    pages = list(_pages(data, uri))
    starts = [i for i, page in enumerate(pages) if _begins_link(pages, i)]
    return [_sound(data, pages[start:end], uri) for start, end in pairwise([*starts, len(pages)])]


def checksum(page: bytes) -> int:
    """CRC-32 of a page as Ogg defines it: not reflected, the checksum's own bytes taken as zeros."""
    zeroed = page[: _CHECKSUM.start] + bytes(4) + page[_CHECKSUM.stop :]
    reflected = zlib.crc32(zeroed.translate(_REVERSED), 0xFFFF_FFFF) ^ 0xFFFF_FFFF
    return int.from_bytes(reflected.to_bytes(4, "little").translate(_REVERSED), "big")


def _pages(data: bytes, uri: str) -> Iterator[_Page]:
    """The pages in their order; what follows the last one is ignored."""
    start = 0
    while start == 0 or start > 0 and len(data) - start >= _HEADER.size:
        if len(data) - start < _HEADER.size:
            raise BadItem(f"the file is cut short (it ends within an Ogg page): {_REMEDY}", uri=uri)
        _, _, flags, granule, serial, number, stored, num_segments = _HEADER.unpack_from(data, start)
        body = start + _HEADER.size + num_segments
        end = body + sum(data[start + _HEADER.size : body])
        if max(body, end) > len(data):
            raise BadItem(f"the file is cut short (it ends within an Ogg page): {_REMEDY}", uri=uri)
        if checksum(data[start:end]) != stored:
            raise BadItem(
                f"the file is damaged (the Ogg page at byte {start} has a wrong checksum): copy it again", uri=uri
            )
        yield _Page(start, end, body, flags, granule, serial, number)
        start = data.find(MAGIC, end)


def _begins_link(pages: list[_Page], i: int) -> bool:
    """Whether a page is the first of a group of streams: headers of streams side by side lie at their beginning."""
    return i == 0 or bool(pages[i].flags & _IS_FIRST and not pages[i - 1].flags & _IS_FIRST)


def _sound(data: bytes, pages: list[_Page], uri: str) -> bytes:
    """The only sound stream among those of a link."""
    firsts = [page for page in pages if page.flags & _IS_FIRST]
    sounds = [page for page in firsts if data.startswith(_READABLE, page.body)]
    if not sounds:
        known = [name for page in firsts for magic, name in _OTHERS.items() if data.startswith(magic, page.body)]
        raise BadItem(
            f"{' and '.join(known) or 'such Ogg'} files are not supported: convert it to FLAC or WAV", uri=uri
        )
    if len(sounds) > 1:
        raise BadItem(f"it has {len(sounds)} sound streams at once: store each as a file of its own", uri=uri)
    own = [page for page in pages if page.serial == sounds[0].serial]
    _check_whole(own, uri)
    if data.startswith(b"\x7fFLAC", sounds[0].body):  # libsndfile 1.2.2 fails to decode FLAC in Ogg
        return b"".join(data[page.body : page.end] for page in own)[_FLAC_PREFIX_BYTES:]
    return b"".join(data[page.start : page.end] for page in own)


def _check_whole(pages: list[_Page], uri: str) -> None:
    sound = [
        page for page in pages if page.granule
    ]  # headers have position 0; a stream may be recorded from its middle
    for page, following in pairwise(sound):
        if following.number != page.number + 1:
            missing = f"Ogg pages are missing before byte {following.start}"
            raise BadItem(f"the file is damaged ({missing}): copy it again", uri=uri)
    if not pages[-1].flags & _IS_LAST:
        raise BadItem(f"the file is cut short (its last Ogg page is not marked as the end): {_REMEDY}", uri=uri)
