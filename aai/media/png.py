"""PNG files as Pillow reads them best: without the chunks that it need not read, and transparent colours by ourselves.

Pillow refuses a file with more than 1 MB of compressed text, a colour profile of that size, or an animation that is out
of order, and compares transparent colours with samples that it has scaled already.
"""

import io
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngImageFile, PngStream

MAGIC = b"\x89PNG\r\n\x1a\n"
_MAX_PROFILE_BYTES = 2**24
_NUM_SAMPLES = {0: 1, 2: 3}
"""Samples per pixel of the colour types whose transparency is one colour: grey and RGB."""

_TEXTS = (b"tEXt", b"zTXt", b"iTXt")
_TEXTS_WITH_ORIENTATION = (b"XML:com.adobe.xmp", b"Raw profile type exif")
_IMAGE_PARTS = (b"eXIf", b"tRNS")
_FILE_START = slice(8, 33)  # length, name, body and checksum of the header chunk


@dataclass(frozen=True)
class Png:
    """What decoding needs of a PNG file."""

    data: bytes
    """The file without other chunks; an image whose transparency is one colour is without it."""
    profile: bytes | None = None
    """The ICC profile."""
    transparent: tuple[int, ...] | None = None
    """The transparent colour, in samples of the file's bit depth."""

    def alpha(self, image: Image.Image) -> Image.Image | None:
        """The alpha channel that the transparent colour makes, for the decoded `data`; none without such a colour."""
        if self.transparent is None:
            return None
        opaque = (self._samples(image) != self.transparent).any(axis=-1)
        return Image.fromarray(opaque.astype(np.uint8) * 255)

    def _samples(self, image: Image.Image) -> np.ndarray:
        """The samples as they stand in the file, as `height x width x samples per pixel`."""
        bits, num_samples = self.data[24], _NUM_SAMPLES[self.data[25]]
        values = np.asarray(image).astype(np.uint16)
        if bits == 16 and num_samples == 3:  # Pillow decodes the upper half of each sample only
            values = values << 8 | _lower_bytes(self.data)
        elif 1 < bits < 8:
            values //= 255 // (2**bits - 1)
        return values.reshape(*values.shape[:2], num_samples)


def prepare(data: bytes) -> Png:
    """Leave out what decoding does not need."""
    chunks = list(_chunks(data))
    kept = [data[start:end] for name, start, end in chunks if _is_needed(data, name, start, end)]
    profiles = (data[start + 8 : end - 4] for name, start, end in chunks if name == b"iCCP")
    colours = (data[start + 8 : end - 4] for name, start, end in chunks if name == b"tRNS")
    return Png(
        data[:8] + b"".join(kept), _profile(next(profiles, b"")), _transparent(next(colours, b""), data[_FILE_START])
    )


def _chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Name, start and end of each chunk; the last may be cut short."""
    start, name = len(MAGIC), b""
    while start < len(data) and name != b"IEND":
        name = data[start + 4 : start + 8]
        end = start + 12 + int.from_bytes(data[start : start + 4], "big")
        yield name, start, min(end, len(data))
        start = end


def _is_needed(data: bytes, name: bytes, start: int, end: int) -> bool:
    """Whether Pillow has to see a chunk; one with a damaged name it has to report."""
    if not (name.isalpha() and name[:1].islower()):
        return True
    if name in _TEXTS:
        body = data[start + 8 : end - 4]
        return body.partition(b"\0")[0] in _TEXTS_WITH_ORIENTATION and _is_readable(name, body)
    return name in _IMAGE_PARTS and (name != b"tRNS" or data[25] not in _NUM_SAMPLES)


def _is_readable(name: bytes, body: bytes) -> bool:
    """Whether a text is within the limits of Pillow, and not damaged."""
    try:
        PngStream(io.BytesIO(body)).call(name, 0, len(body))
    except (ValueError, SyntaxError, IndexError):
        return False
    return True


def _profile(body: bytes) -> bytes | None:
    """The ICC profile in a chunk; none if it is damaged or too large."""
    inflater = zlib.decompressobj()
    try:
        profile = inflater.decompress(body.partition(b"\0")[2][1:], _MAX_PROFILE_BYTES)
    except zlib.error:
        return None
    return profile if inflater.eof else None


def _transparent(body: bytes, header: bytes) -> tuple[int, ...] | None:
    """The transparent colour; none if the colour type has another kind of transparency."""
    if len(header) < 25 or (num_samples := _NUM_SAMPLES.get(header[17], 0)) * 2 > len(body) or not num_samples:
        return None
    return tuple(sample & (2 ** header[16] - 1) for sample in struct.unpack_from(f">{num_samples}H", body))


def _lower_bytes(data: bytes) -> np.ndarray:
    """The lower halves of 16-bit RGB samples."""
    image = PngImageFile(io.BytesIO(data))
    image.tile = [tile._replace(args="RGB;16L") for tile in image.tile]  # as if the lower byte came last
    image.load()
    return np.asarray(image)
