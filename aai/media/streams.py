"""A sound file as streams that libsndfile reads to their end, whatever the file's header says about its length."""

import re
from itertools import chain
from typing import NamedTuple

from aai.errors import BadItem
from aai.media import chunks, flac, mp3, ogg
from aai.media.tags import skip_tags

_NIST = b"NIST_1A"
_NIST_HEADER_BYTES = 1024
_NIST_SAMPLES = re.compile(rb"sample_count -i (\d{1,12})\s")


class Stream(NamedTuple):
    """A sound file, or one of several that were joined to one, with a header that is right about its length."""

    data: bytes
    missing: float = 0.0
    """Bytes of sound that are not there though the header of the file says so, as a fraction of those that are."""
    surplus: float = 0.0
    """Bytes after the sound that belong to nothing, as a fraction of the bytes of sound."""
    num_samples: int = 0
    """Samples per channel that its frames or header count; 0: unknown."""


def streams(data: bytes, uri: str) -> list[Stream]:
    """The streams of a file, one after another.

    Raises:
        BadItem: the file is cut short or damaged, or has streams that cannot be read.
    """
    start = skip_tags(data, 0)
    if 0 < len(data) <= start:
        raise BadItem("the file is cut short (it ends with its ID3 tag): copy it again", uri=uri)
    body = data[start:]
    if body.startswith(ogg.MAGIC):
        links = [flac.files(link, uri) if link.startswith(flac.MAGIC) else [link] for link in ogg.links(body, uri)]
        return [Stream(link) for link in chain.from_iterable(links)]
    if body.startswith(flac.MAGIC):
        return [Stream(file) for file in flac.files(body, uri)]
    if body.startswith(_NIST):
        return [Stream(body, num_samples=_nist_samples(body))]
    sound = chunks.mend(body, uri)
    if sound.mpeg is None and sound.is_known:
        return [Stream(sound.data, sound.missing, sound.surplus)]
    pieces = _mp3(sound.mpeg or data, uri)
    return [Stream(piece.data, sound.missing, 0.0, piece.num_samples) for piece in pieces] or [Stream(data)]


def _mp3(data: bytes, uri: str) -> list[mp3.Piece]:
    start = mp3.first_frame(data)
    return [] if start is None else mp3.pieces(data, start, uri)


def _nist_samples(data: bytes) -> int:
    count = _NIST_SAMPLES.search(data[:_NIST_HEADER_BYTES])
    return int(count[1]) if count else 0
