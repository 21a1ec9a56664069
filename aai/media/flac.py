"""FLAC files: the length in their header, which may be missing or wrong, and files joined to one."""

import re
from collections.abc import Iterator
from itertools import pairwise

from aai.errors import BadItem

MAGIC = b"fLaC"

_START = re.compile(rb"fLaC[\x00\x80]\x00\x00\x22")  # with a STREAMINFO block of 34 bytes
_FIRST_BLOCK = 4
_BLOCK_SIZE = slice(8, 10)  # in samples; of all frames but the last, if it is fixed
_FACTS = slice(18, 26)  # sample rate (20 bits), channels (3), bits per sample (5), number of samples (36)
_NUM_SAMPLES_BITS = 36

_IS_VARIABLE = 1
_MIN_HEADER_BYTES, _MAX_HEADER_BYTES = 6, 16
_MAX_FRAME_BYTES = 2**21
_EXTRA_SIZE_BYTES = {6: 1, 7: 2}
_EXTRA_RATE_BYTES = {12: 1, 13: 2, 14: 2}
_MAX_MISSING_S = 0.1


def files(data: bytes, uri: str) -> list[bytes]:
    """The FLAC file or files that were joined to one, each with the number of its samples in the header.

    Raises:
        BadItem: a file has fewer samples than its header says.
    """
    starts = [0, *(match.start() for match in _START.finditer(data, _FIRST_BLOCK))]
    return [_counted(data[start:end], uri) for start, end in pairwise([*starts, len(data)])]


def _counted(data: bytes, uri: str) -> bytes:
    facts = int.from_bytes(data[_FACTS], "big")
    stated, rate_hz = facts & (1 << _NUM_SAMPLES_BITS) - 1, facts >> 44
    found = next(_ends(data), 0)
    if rate_hz and found and (stated - found) / rate_hz > _MAX_MISSING_S:
        difference = f"its header says {stated / rate_hz:.2f} s, it has {found / rate_hz:.2f} s"
        raise BadItem(f"the file is cut short ({difference}): copy it again", uri=uri)
    if found <= stated:
        return data
    counted = (facts - stated + found).to_bytes(8, "big")
    return data[: _FACTS.start] + counted + data[_FACTS.stop :]


def _ends(data: bytes) -> Iterator[int]:
    """The number of samples up to the end of each frame, from the last one backwards."""
    first = _first_frame(data)
    sync, block_size = data[first : first + 2], int.from_bytes(data[_BLOCK_SIZE], "big")
    at = data.rfind(sync, max(first, len(data) - _MAX_FRAME_BYTES)) if len(sync) == 2 and sync[0] == 0xFF else -1
    while at >= 0:
        end = _end(data[at : at + _MAX_HEADER_BYTES], data[first : first + 4], block_size)
        if end:
            yield end
        at = data.rfind(sync, max(first, len(data) - _MAX_FRAME_BYTES), at + 1)


def _first_frame(data: bytes) -> int:
    at, is_last = _FIRST_BLOCK, False
    while not is_last and at + 4 <= len(data):
        is_last = bool(data[at] & 128)
        at += 4 + int.from_bytes(data[at + 1 : at + 4], "big")
    return at


def _end(header: bytes, first: bytes, block_size: int) -> int | None:
    """The number of samples up to the end of a frame; None if these bytes are not the header of one."""
    if len(header) < _MIN_HEADER_BYTES or (header[2] ^ first[2]) & 15 or (header[3] ^ first[3]) & 15:
        return None
    number, at = _coded_number(header)
    code, rate_code = header[2] >> 4, header[2] & 15
    size_bytes = _EXTRA_SIZE_BYTES.get(code, 0)
    size = int.from_bytes(header[at : at + size_bytes], "big") + 1 if size_bytes else _block_size(code)
    at += size_bytes + _EXTRA_RATE_BYTES.get(rate_code, 0)
    if at >= len(header) or _crc8(header[:at]) != header[at]:
        return None
    end = (number if header[1] & _IS_VARIABLE else number * block_size) + size
    return end if end < 1 << _NUM_SAMPLES_BITS else None


def _coded_number(header: bytes) -> tuple[int, int]:
    """The number of a frame or of its first sample, coded like UTF-8, and where it ends."""
    length = max(1, 8 - (header[4] ^ 0xFF).bit_length())  # leading ones; none for a single byte
    number = header[4] & 0x7F >> (length if length > 1 else 0)
    for byte in header[5 : 4 + length]:
        number = number << 6 | byte & 0x3F
    return number, 4 + length


def _block_size(code: int) -> int:
    return 192 if code == 1 else 576 << code - 2 if 2 <= code <= 5 else 256 << code - 8 if code >= 8 else 0


def _crc8(data: bytes) -> int:
    crc = 0
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc << 1 & 0xFF ^ (7 if crc & 128 else 0)
    return crc
