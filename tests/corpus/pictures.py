"""Drawings that every format keeps, and the bytes of image files."""

import io
import struct
import zlib
from collections.abc import Callable, Sequence

import numpy as np
from PIL import Image

HEIGHT, WIDTH = 48, 64
ORIENTATION = 0x0112

Drawing = Callable[[], np.ndarray | Image.Image]


def drawing() -> np.ndarray:
    """A gradient: smooth, so that lossy formats change it little, with four different corners."""
    down, across = np.mgrid[0:HEIGHT, 0:WIDTH]
    return np.stack([down * 5, across * 3, 255 - down * 2 - across * 2], axis=-1).astype(np.uint8)


def grey() -> np.ndarray:
    """One channel of it."""
    return drawing()[..., 0]


def rgb(values: np.ndarray) -> np.ndarray:
    """Three equal channels."""
    return np.repeat(values[..., None], 3, axis=-1).astype(np.uint8)


def over_white(colours: np.ndarray, alpha: np.ndarray | int) -> np.ndarray:
    """Colours composited over white; alpha is 0 to 255."""
    part = np.broadcast_to(np.asarray(alpha, float)[..., None] / 255, colours.shape)
    return np.round(colours * part + 255 * (1 - part)).astype(np.uint8)


def saved(kind: str, picture: Drawing = drawing, **how: object) -> bytes:
    """An image file as Pillow writes it."""
    pixels = picture()
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    file = io.BytesIO()
    image.save(file, kind, **how)
    return file.getvalue()


def oriented(kind: str, orientation: int) -> bytes:
    """An image whose EXIF says how it is to be turned."""
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    return saved(kind, exif=exif, quality=95)


def chunk(name: bytes, body: bytes) -> bytes:
    """A chunk of a PNG file."""
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def png_header(width: int, height: int, depth: int, colour: int, interlaced: bool = False) -> bytes:
    """Signature and first chunk of a PNG file, right or wrong."""
    form = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, int(interlaced))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", form)


def png(
    values: np.ndarray,
    depth: int,
    colour: int,
    before: Sequence[bytes] = (),
    after: Sequence[bytes] = (),
    interlaced: bool = False,
) -> bytes:
    """A PNG file of values that are height x width (x channels), with other chunks before and after the pixels."""
    passes = _ADAM7 if interlaced else ((0, 0, 1, 1),)
    parts = [values[top::down, left::across] for top, left, down, across in passes]
    rows = b"".join(_rows(part, depth) for part in parts if part.size)
    header = png_header(values.shape[1], values.shape[0], depth, colour, interlaced)
    body = (*before, chunk(b"IDAT", zlib.compress(rows)), *after, chunk(b"IEND", b""))
    return header + b"".join(body)


_ADAM7 = ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1))
"""First row and column, and the steps, of each pass of an interlaced PNG."""


def _rows(values: np.ndarray, depth: int) -> bytes:
    flat = values.reshape(len(values), -1)
    if depth == 16:
        return b"".join(b"\0" + row.astype(">u2").tobytes() for row in flat)
    bits = (flat[..., None] >> np.arange(depth - 1, -1, -1)) & 1
    return b"".join(b"\0" + np.packbits(row.reshape(-1).astype(np.uint8)).tobytes() for row in bits)


def bmp(rows: bytes, bits: int, compression: int = 0, masks: bytes = b"", top_down: bool = False) -> bytes:
    """A BMP file with a header of 40 bytes."""
    height = -HEIGHT if top_down else HEIGHT
    start = 54 + len(masks)
    form = struct.pack("<IiiHHIIiiII", 40, WIDTH, height, 1, bits, compression, len(rows), 0, 0, 0, 0)
    return struct.pack("<2sIHHI", b"BM", start + len(rows), 0, 0, start) + form + masks + rows


def tiff(order: str, tags: dict[int, tuple[int, Sequence[int]]], blocks: Sequence[bytes], offsets_tag: int) -> bytes:
    """A TIFF file of strips or tiles; `tags` have a type (3: 16 bits, 4: 32 bits) and values."""
    magic = {"<": b"II*\0", ">": b"MM\0*"}[order]
    starts = [8 + sum(map(len, blocks[:number])) for number in range(len(blocks))]
    tags = {**tags, offsets_tag: (4, starts)}
    directory_at = 8 + sum(map(len, blocks))
    extra_at, extra, entries = directory_at + 6 + 12 * len(tags), b"", b""
    for tag, (kind, values) in sorted(tags.items()):
        packed = struct.pack(f"{order}{len(values)}{'H' if kind == 3 else 'I'}", *values)
        where = packed.ljust(4, b"\0")
        if len(packed) > 4:
            where, extra = struct.pack(f"{order}I", extra_at + len(extra)), extra + packed
        entries += struct.pack(f"{order}HHI", tag, kind, len(values)) + where
    directory = struct.pack(f"{order}H", len(tags)) + entries + bytes(4)
    return magic + struct.pack(f"{order}I", directory_at) + b"".join(blocks) + directory + extra
