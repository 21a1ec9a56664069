"""MP3 frames: where they begin and end, and their number, which a file need not name or may name wrongly."""

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import islice
from typing import NamedTuple

from aai.errors import BadItem
from aai.media.tags import skip_tags

_RATES_HZ = {3: (44_100, 48_000, 32_000), 2: (22_050, 24_000, 16_000), 0: (11_025, 12_000, 8_000)}
"""Sample rates by the version field: 3 is MPEG-1, 2 is MPEG-2, 0 is MPEG-2.5."""

_KBITS = {
    (True, 3): (0, 32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    (True, 2): (0, 32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (True, 1): (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (False, 3): (0, 32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (False, 2): (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    (False, 1): (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
"""Bit rates by (is MPEG-1, layer field); the layer field is 3 for Layer I, 2 for II, 1 for III. 0 is free format."""

_HEADER_BYTES = 4
_STREAM_BITS = 0xFFFE_0C00  # sync word, version, layer and sample rate: the same in all frames of a stream
_SIZE_BITS = 0xFFFF_FEC0  # all but the private bit, stereo coding, copyright and emphasis
_PADDING_BIT = 0x200
_NO_CRC_BIT = 0x1_0000
_BIT_RATE_BITS = 0xF000
_INFO_BIT_RATE = 9 << 12  # 128 or 80 kbit/s: room for the Info header at every sample rate

_MIN_RUN = 4  # frames in a row where a stream may begin; in other bytes four do not occur by chance
_MAX_JUNK_BYTES = 2**20  # before the first frame, after an ID3 tag with a wrong size
_MAX_UNTAGGED_JUNK_BYTES = 2**16
_MAX_GAP_BYTES = 2**10  # between and after frames, as libmpg123
_MAX_FREE_BYTES = 2**13  # of a free-format frame
_MAX_MISSING_S = 0.1
_MAX_TRIMMED = 4  # frames of the encoder's delay and padding, which libmpg123 leaves out
_REMEDY = "copy it again, or convert it to FLAC if this is all there is"

_COUNTED = (b"Xing", b"Info")
_FRAUNHOFER, _FRAUNHOFER_OFFSET = b"VBRI", 36


class Frame(NamedTuple):
    """The header of a frame."""

    word: int
    num_bytes: int  # 0: free format
    num_samples: int
    rate_hz: int
    channels: int

    @property
    def info_offset(self) -> int:
        """Where an Info or Xing header begins: after the side information."""
        sizes = {(True, False): 32, (True, True): 17, (False, False): 17, (False, True): 9}
        return _HEADER_BYTES + sizes[self.word >> 19 & 3 == 3, self.channels == 1]


class Piece(NamedTuple):
    """Bytes that libsndfile reads to their end, and the least number of samples that they must give."""

    data: bytes
    num_samples: int


@dataclass
class _Run:
    """Frames of one encoder, in a row but for gaps."""

    first: Frame
    info: bytes | None = None
    """The frame with the header that counts the others."""
    counted: int | None = None
    spans: list[tuple[int, int]] = field(default_factory=list)
    num_frames: int = 0
    is_constant: bool = True
    """Whether all frames have one bit rate."""

    def seconds(self, num_frames: int) -> float:
        return num_frames * self.first.num_samples / self.first.rate_hz


def first_frame(data: bytes) -> int | None:
    """Where the first frame begins, after tags and junk; None if this is no MP3 stream."""
    start = skip_tags(data, 0)
    return _next_run(data, start, start + (_MAX_JUNK_BYTES if start else _MAX_UNTAGGED_JUNK_BYTES))


def pieces(data: bytes, start: int, uri: str) -> list[Piece]:
    """The stream that begins at `start`; several pieces if files were joined to one.

    Raises:
        BadItem: it is cut short, or damaged.
    """
    runs = [run for run in _runs(data, start, uri) if run.num_frames]
    return [
        Piece(_readable(data, run, uri), max(0, run.num_frames - _MAX_TRIMMED) * run.first.num_samples) for run in runs
    ]


@lru_cache(maxsize=2**12)
def _parsed(word: int) -> Frame | None:
    version, layer, rate, bit_rate = word >> 19 & 3, word >> 17 & 3, word >> 10 & 3, word >> 12 & 15
    if word >> 21 != 0x7FF or version == 1 or layer == 0 or rate == 3 or bit_rate == 15:
        return None
    is_mpeg1, rate_hz, padding = version == 3, _RATES_HZ[version][rate], bool(word & _PADDING_BIT)
    bits = 1000 * _KBITS[is_mpeg1, layer][bit_rate]
    num_samples = 384 if layer == 3 else 576 if layer == 1 and not is_mpeg1 else 1152
    slot_bytes = 4 if layer == 3 else 1
    num_bytes = (num_samples // 8 * bits // (rate_hz * slot_bytes) + padding) * slot_bytes if bits else 0
    return Frame(word, num_bytes, num_samples, rate_hz, 1 if word >> 6 & 3 == 3 else 2)


def _frame(data: bytes, at: int) -> Frame | None:
    return _parsed(int.from_bytes(data[at : at + _HEADER_BYTES], "big") & _SIZE_BITS)


def _is_alike(frame: Frame | None, first: Frame) -> bool:
    """Whether a frame belongs to the stream of another."""
    return frame is not None and not (frame.word ^ first.word) & _STREAM_BITS and frame.channels == first.channels


def _free_bytes(data: bytes, start: int, first: Frame) -> int:
    """The size of free-format frames without padding: the distance to the next one; 0 if there is none."""
    sync = data[start : start + 1]
    at = data.find(sync, start + _HEADER_BYTES, start + _MAX_FREE_BYTES)
    while at > 0:
        frame = _frame(data, at)
        if frame and not frame.num_bytes and _is_alike(frame, first):
            return at - start - bool(first.word & _PADDING_BIT)
        at = data.find(sync, at + 1, start + _MAX_FREE_BYTES)
    return 0


def _walk(data: bytes, start: int) -> Iterator[tuple[int, int, Frame]]:
    """Start, end and header of the frames in a row from `start` on; the last one may end after the data."""
    first = frame = _frame(data, start)
    free_bytes = _free_bytes(data, start, first) if first and not first.num_bytes else 0
    while first and frame and _is_alike(frame, first):
        end = start + (frame.num_bytes or free_bytes + bool(frame.word & _PADDING_BIT))
        if end <= start + _HEADER_BYTES:
            return
        yield start, end, frame
        start, frame = end, _frame(data, end)


def _is_run(data: bytes, start: int, min_frames: int) -> bool:
    return sum(1 for _ in islice(_walk(data, start), min_frames)) == min_frames


def _next_run(data: bytes, start: int, limit: int) -> int | None:
    """Where the next frames begin, before `limit`."""
    at = data.find(b"\xff", start, limit)
    while at >= 0 and not _is_run(data, at, _MIN_RUN):
        at = data.find(b"\xff", at + 1, limit)
    return at if at >= 0 else None


def _runs(data: bytes, start: int, uri: str) -> list[_Run]:
    """All frames, in runs of one encoder each."""
    runs: list[_Run] = []
    at: int | None = start
    while at is not None:
        end = _add_frames(data, at, runs)
        if end > len(data) and runs[-1].counted is None:
            raise BadItem(f"the file is cut short (it ends within an MP3 frame): {_REMEDY}", uri=uri)
        after = min(skip_tags(data, end), len(data))
        at = after if _is_run(data, after, 1) else _next_run(data, after, after + _MAX_GAP_BYTES)
        if at is None and len(data) - after > _MAX_GAP_BYTES:
            seconds = sum(run.seconds(run.num_frames) for run in runs)
            rest = f"after {seconds:.2f} s come {len(data) - after} bytes that are no MP3 frames"
            raise BadItem(f"the file is damaged or cut short ({rest}): {_REMEDY}", uri=uri)
    return runs


def _add_frames(data: bytes, start: int, runs: list[_Run]) -> int:
    """Add frames in a row to the last run, or to new ones; returns where they end."""
    is_new = not runs or not _is_alike(_frame(data, start), runs[-1].first)
    for at, end, frame in _walk(data, start):
        is_info, counted = _count_in(data, at, frame)
        if is_info or is_new:
            runs.append(_Run(frame, data[at:end] if is_info else None, counted))
        is_new = False
        if not is_info and end <= len(data):
            _extend(runs[-1], at, end, frame)
        start = end
    return start


def _extend(run: _Run, start: int, end: int, frame: Frame) -> None:
    run.num_frames += 1
    run.is_constant &= not (frame.word ^ run.first.word) & _BIT_RATE_BITS
    if run.spans and run.spans[-1][1] == start:
        start = run.spans.pop()[0]
    run.spans.append((start, end))


def _count_in(data: bytes, at: int, frame: Frame) -> tuple[bool, int | None]:
    """Whether a frame has a header that counts the others, and the number that libmpg123 reads there."""
    info = at + frame.info_offset
    if data[info : info + 4] in _COUNTED and len(data) >= info + 12:
        flags, counted = struct.unpack_from(">II", data, info + 4)
        return True, counted if flags & 1 else None
    vbri = at + _FRAUNHOFER_OFFSET
    return data[vbri : vbri + 4] == _FRAUNHOFER, None


def _readable(data: bytes, run: _Run, uri: str) -> bytes:
    """The frames of a run without what is between them, and before them their number."""
    if run.counted is not None and run.seconds(run.counted - run.num_frames) > _MAX_MISSING_S:
        counted_s, found_s = run.seconds(run.counted), run.seconds(run.num_frames)
        difference = f"its header says {counted_s:.2f} s, it has {found_s:.2f} s"
        raise BadItem(f"the file is cut short ({difference}): copy it again", uri=uri)
    return _head(run) + b"".join(data[start:end] for start, end in run.spans)


def _head(run: _Run) -> bytes:
    """What libmpg123 takes the length from; for a constant bit rate it is right about that without a header."""
    if run.info is not None and run.counted is not None and run.counted >= run.num_frames:
        return run.info
    return b"" if run.info is None and run.is_constant else _info_frame(run)


def _info_frame(run: _Run) -> bytes:
    """A frame with an Info header; libmpg123 looks for one in Layer III only."""
    if run.first.word >> 17 & 3 != 1:
        return b""
    word = run.first.word & ~_BIT_RATE_BITS & ~_PADDING_BIT | _INFO_BIT_RATE | _NO_CRC_BIT
    frame = _parsed(word)
    assert frame is not None
    header = word.to_bytes(_HEADER_BYTES, "big").ljust(frame.info_offset, b"\0")
    return (header + b"Info" + struct.pack(">II", 1, run.num_frames)).ljust(frame.num_bytes, b"\0")
