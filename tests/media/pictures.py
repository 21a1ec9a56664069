"""A picture in many file formats, for the tests of decoding."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, ImageCms

from aai.errors import BadItem
from aai.media.images import ImageOptions, decode

OPTIONS = ImageOptions()
ORIENTATION = 0x0112
HEIGHT, WIDTH = 48, 64


def picture() -> np.ndarray:
    """A gradient: smooth, so that lossy formats change it little, with four different corners."""
    down, across = np.mgrid[0:HEIGHT, 0:WIDTH]
    return np.stack([down * 5, across * 3, 255 - down * 2 - across * 2], axis=-1).astype(np.uint8)


def file_of(pixels: np.ndarray | Image.Image, kind: str, **how: object) -> bytes:
    file = io.BytesIO()
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    image.save(file, kind, **how)
    return file.getvalue()


def with_alpha(alpha: int) -> np.ndarray:
    return np.dstack([picture(), np.full((HEIGHT, WIDTH), alpha, np.uint8)])


def decoded(data: bytes, **changes: object) -> np.ndarray:
    """Pixels as int, so that they can be subtracted."""
    image = decode(data, "rain", ImageOptions(**changes))
    assert image.pixels.dtype == np.uint8
    return image.pixels.astype(int)


def rejection(data: bytes, options: ImageOptions = OPTIONS) -> str:
    with pytest.raises(BadItem) as caught:
        decode(data, "photos/rain.png", options)
    assert caught.value.uri == "photos/rain.png"
    return caught.value.sentence


def chunk(name: bytes, body: bytes) -> bytes:
    """A chunk of a PNG."""
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def png_of(width: int, height: int, *chunks: tuple[bytes, bytes], bits: int = 8, colour_type: int = 2) -> bytes:
    """A PNG with arbitrary chunks after its header."""
    header = (b"IHDR", struct.pack(">IIBBBBB", width, height, bits, colour_type, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in (header, *chunks, (b"IEND", b"")))


def idat(*rows: bytes) -> tuple[bytes, bytes]:
    """The image data of a PNG, from the samples of its rows."""
    return b"IDAT", zlib.compress(b"".join(b"\0" + row for row in rows))


def tiff_of(width: int, height: int, bits: int, photometric: int, data: bytes, is_big: bool = False) -> bytes:
    """A greyscale TIFF; a BigTIFF has 64-bit offsets."""
    start, kind = (16, 16) if is_big else (8, 4)
    values = {256: width, 257: height, 258: bits, 259: 1, 262: photometric, 273: start, 277: 1, 278: height}
    entry = "<HHQQ" if is_big else "<HHII"
    tags = [struct.pack(entry, tag, kind, 1, value) for tag, value in (values | {279: len(data)}).items()]
    end = start + len(data)
    head = struct.pack("<2sHHHQ", b"II", 43, 8, 0, end) if is_big else struct.pack("<2sHI", b"II", 42, end)
    return head + data + struct.pack("<Q" if is_big else "<H", len(tags)) + b"".join(tags) + bytes(8)


def profile_with_red_and_green_swapped() -> bytes:
    data = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    red, green = data.index(b"rXYZ"), data.index(b"gXYZ")
    data[red], data[green] = ord("g"), ord("r")
    return bytes(data).replace(b"\0s\0R\0G\0B", b"\0t\0e\0s\0t")
