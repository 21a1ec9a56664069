"""Images that cannot be used, with a part of the sentence that says why."""

import struct
import zlib
from collections.abc import Callable
from functools import partial

import numpy as np
from PIL import Image

from tests.corpus.broken_sounds import PAGE
from tests.corpus.cases import Broken
from tests.corpus.pictures import chunk, drawing, png_header, saved
from tests.corpus.waves import encoded

BOMB_PX = 50_000
_DAMAGED, _CUT, _NO_IMAGE = "damaged", "cut short", "not a JPEG"


def _wide() -> Image.Image:
    """Large enough that half of its file has half of its pixels."""
    return Image.fromarray(drawing()).resize((256, 256))


def _wide_cmyk() -> Image.Image:
    return _wide().convert("CMYK")


def _half(kind: str, picture: Callable[[], Image.Image] = _wide, **how: object) -> Callable[[], bytes]:
    def data() -> bytes:
        whole = saved(kind, picture, **how)
        return whole[: len(whole) // 2]

    return data


def _flipped(kind: str, num_bytes: int = 1) -> bytes:
    """A file with some wrong bytes in its middle."""
    data = bytearray(saved(kind, _wide))
    for at in range(len(data) // 2, len(data) // 2 + num_bytes):
        data[at] ^= 16
    return bytes(data)


def _png(width: int, height: int, colour: int, rows: bytes) -> bytes:
    return png_header(width, height, 8, colour) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def _wrong_header_sum() -> bytes:
    data = bytearray(saved("PNG"))
    data[29] ^= 1
    return bytes(data)


def _bmp_bomb() -> bytes:
    form = struct.pack("<IiiHHIIiiII", 40, 2**24, 2**24, 1, 24, *[0] * 6)
    return struct.pack("<2sIHHI", b"BM", 54, 0, 0, 54) + form


def _grey_of(width: int, height: int) -> Image.Image:
    return Image.new("L", (width, height))


def _floats() -> Image.Image:
    return Image.fromarray(np.ones((64, 64), np.float32))


def _integers() -> Image.Image:
    return Image.fromarray(np.full((64, 64), 70_000, np.int32))


BROKEN_IMAGES: tuple[Broken, ...] = (
    # nothing, or something else
    Broken("zero-bytes.png", lambda: b"", "empty"),
    Broken("text.png", lambda: b"Buy milk.\n" * 40, _NO_IMAGE),
    Broken("page.jpg", lambda: PAGE, _NO_IMAGE),
    Broken("drawing.png", lambda: b"<svg xmlns='http://www.w3.org/2000/svg'><circle r='9'/></svg>", "convert"),
    Broken("sound.png", partial(encoded, "WAV"), _NO_IMAGE),
    Broken("zeros.jpg", lambda: bytes(40_000), _NO_IMAGE),
    Broken("one-byte.png", lambda: b"\x89", _NO_IMAGE),
    Broken("paper.jpg", lambda: b"%PDF-1.7\n" + bytes(400), "convert"),
    # cut short or damaged
    Broken("cut.png", _half("PNG"), _CUT),
    Broken("cut.jpg", _half("JPEG"), _CUT),
    Broken("cut-progressive.jpg", _half("JPEG", progressive=True), _CUT),
    Broken("cut-cmyk.jpg", _half("JPEG", _wide_cmyk), _CUT),
    Broken("cut.webp", _half("WEBP"), _DAMAGED),
    Broken("cut-lossless.webp", _half("WEBP", lossless=True), _DAMAGED),
    Broken("cut.gif", _half("GIF"), _CUT),
    Broken("cut.bmp", _half("BMP"), _CUT),
    Broken("cut.tif", _half("TIFF"), _DAMAGED),
    Broken("cut-lzw.tif", _half("TIFF", compression="tiff_lzw"), _DAMAGED),
    Broken("cut-in-header.jpg", lambda: saved("JPEG")[:100], _DAMAGED),
    Broken("cut-in-header.png", lambda: saved("PNG")[:20], _DAMAGED),
    Broken("cut-in-header.gif", lambda: saved("GIF")[:10], _DAMAGED),
    Broken("cut-in-header.webp", lambda: saved("WEBP")[:16], _DAMAGED),
    Broken("cut-in-header.bmp", lambda: saved("BMP")[:20], _DAMAGED),
    Broken("flipped-bit.png", partial(_flipped, "PNG"), _DAMAGED),
    Broken("flipped-bytes.webp", partial(_flipped, "WEBP", 40), _DAMAGED),
    Broken("wrong-sum.png", _wrong_header_sum, _DAMAGED),
    Broken("no-frame.gif", lambda: b"GIF89a" + struct.pack("<HH", 65_535, 65_535) + bytes(100), _DAMAGED),
    Broken("no-width.png", lambda: _png(0, 64, 2, zlib.compress(b"")), _DAMAGED),
    Broken("no-palette.png", lambda: _png(64, 64, 3, zlib.compress(bytes(65 * 64))), "palette"),
    Broken("no-pixels.png", lambda: _png(64, 64, 2, b""), _DAMAGED),
    Broken("header.tif", lambda: b"II*\0\xff\xff\xff\xff", _DAMAGED),
    Broken("no-directory.tif", lambda: b"MM\0*\0\0\0\x08\0\0", _DAMAGED),
    # sizes and ranges
    Broken("bomb.png", lambda: _png(BOMB_PX, BOMB_PX, 2, zlib.compress(bytes(2**20))), "pixels"),
    Broken("bomb.bmp", _bmp_bomb, "pixels"),
    Broken("one-pixel.png", partial(saved, "PNG", partial(_grey_of, 1, 1)), "shorter"),
    Broken("rule.png", partial(saved, "PNG", partial(_grey_of, 600, 2)), "shorter"),
    Broken("ribbon.png", partial(saved, "PNG", partial(_grey_of, 40_000, 16)), "longer"),
    Broken("floats.tif", partial(saved, "TIFF", _floats), "no defined range"),
    Broken("integers.tif", partial(saved, "TIFF", _integers), "no defined range"),
)
