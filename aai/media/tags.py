"""Tags of music players, which lie before, between and after the sound of a file."""

import struct


def skip_tags(data: bytes, start: int) -> int:
    """Where the tags that begin at `start` end: ID3v2, ID3v1, APE and Lyrics3."""
    while start < len(data) and (size := tag_bytes(data, start)):
        start += size
    return start


def tag_bytes(data: bytes, start: int) -> int:
    """The size of the tag that begins at `start`; 0 if none does."""
    head = data[start : start + 32]
    if head.startswith(b"ID3") and len(head) >= 10:
        size = sum((byte & 127) << shift for byte, shift in zip(head[6:10], (21, 14, 7, 0), strict=True))
        return 10 + size + (10 if head[5] & 16 else 0)
    if head.startswith(b"TAG"):
        return 128
    if head.startswith(b"APETAGEX") and len(head) == 32:
        return 32 + int(struct.unpack_from("<I", head, 12)[0])
    if head.startswith(b"LYRICSBEGIN"):
        end = data.find(b"LYRICS200", start)
        return end + 9 - start if end > 0 else 0
    return 0
