"""Image files that cannot be used are rejected with the reason, and nothing else happens."""

import struct
import zlib

import numpy as np
import pytest
from PIL import Image, ImageFile
from PIL.AvifImagePlugin import AvifImageFile
from PIL.TiffImagePlugin import TiffImageFile
from PIL.WebPImagePlugin import WebPImageFile

from aai.errors import BadItem
from aai.media.images import ImageOptions, decode
from tests.media.pictures import (
    HEIGHT,
    ORIENTATION,
    WIDTH,
    chunk,
    decoded,
    file_of,
    idat,
    picture,
    png_of,
    profile_with_red_and_green_swapped,
    rejection,
    with_alpha,
)


@pytest.mark.parametrize(
    "data, sentence",
    [
        (b"", "the file is empty (0 bytes)"),
        (b"<html><body>404 Not Found</body></html>", "not a JPEG, PNG, WebP, AVIF, GIF, BMP or TIFF image"),
        (bytes(100), "not a JPEG, PNG, WebP, AVIF, GIF, BMP or TIFF image"),
        (b"\x89PNG\r\n\x1a\n", "damaged or cut short"),
        (png_of(0, 40), "damaged or cut short"),
        (png_of(40, 40), "damaged or cut short"),
        (png_of(40, 40, (b"IDAT", b"no zlib")), "damaged or cut short"),
        (png_of(1, 1, (b"IDAT", zlib.compress(b"\0abc"))), "1 x 1 pixels: a side is shorter than 16"),
        (file_of(np.ones((20, 20), np.float32), "TIFF"), "mode F has no defined range"),
        (file_of(np.ones((20, 20), np.int32), "TIFF"), "mode I has no defined range"),
    ],
)
def test_an_unusable_file_is_rejected_with_its_reason(data, sentence):
    assert sentence in rejection(data)


def with_bits(jpeg: bytes, bits: int) -> bytes:
    """A JPEG whose header says this many bits per sample."""
    precision = jpeg.index(b"\xff\xc0") + 4
    return jpeg[:precision] + bytes([bits]) + jpeg[precision + 1 :]


def bmp_of_twelve_bits() -> bytes:
    """A BMP with four bits per colour."""
    masks = struct.pack("<3I", 0x0F00, 0x00F0, 0x000F)
    header = struct.pack("<IiiHHIIiiII", 40, 16, 16, 1, 16, 3, 512, 0, 0, 0, 0)
    return b"BM" + struct.pack("<IHHI", 578, 0, 0, 66) + header + masks + bytes(512)


def as_lab(tiff: bytes) -> bytes:
    """A TIFF whose header says that its colours are CIELAB."""
    return tiff.replace(struct.pack("<HHIHH", 262, 3, 1, 2, 0), struct.pack("<HHIHH", 262, 3, 1, 8, 0))


@pytest.mark.parametrize(
    "data, why",
    [
        (with_bits(file_of(picture(), "JPEG"), 12), "cannot handle 12-bit layers"),
        (as_lab(file_of(with_alpha(9), "TIFF")), "unknown pixel mode"),
        (as_lab(file_of(picture(), "TIFF")), "mode LAB"),
        (bmp_of_twelve_bits(), "Unsupported BMP bitfields layout"),
    ],
    ids=["12 bits", "CIELAB with alpha", "CIELAB", "bit fields"],
)
def test_a_variant_that_is_not_read_is_not_called_damaged_alone(data, why):
    sentence = rejection(data)
    assert why in sentence and "convert it to" in sentence and "copy it again" not in sentence


def test_a_preview_is_not_taken_for_the_picture():
    data = file_of(picture(), "TIFF", tiffinfo={254: 1})
    assert "its first image is a preview, as in camera raw files: convert it" in rejection(data)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF"])
@pytest.mark.parametrize("share", [0.3, 0.5, 0.8])
def test_a_truncated_file_is_rejected(kind, share):
    noise = np.random.default_rng(0).integers(0, 256, (200, 200, 3), dtype=np.uint8)
    data = file_of(noise, kind)
    assert "damaged or cut short" in rejection(data[: round(len(data) * share)])


def bombs() -> dict[str, bytes]:
    side = struct.pack("<H", 50_000)
    entries = {256: 50_000, 257: 50_000, 258: 8, 259: 1, 262: 1, 273: 8, 277: 1, 278: 50_000, 279: 2_500_000_000}
    tags = [struct.pack("<HHII", tag, 4, 1, value) for tag, value in entries.items()]
    return {
        "png": png_of(50_000, 50_000, (b"IDAT", zlib.compress(bytes(10_000_000)))),
        "gif": b"GIF89a" + side * 2 + bytes(3) + b"," + bytes(4) + side * 2 + b"\0\2\2\x4c\1\0;",
        "bmp": b"BM" + struct.pack("<IIIIiiHHIIIIII", 154, 0, 54, 40, 50_000, 50_000, 1, 24, 0, 100, 0, 0, 0, 0),
        "jpeg": file_of(picture(), "JPEG").replace(
            struct.pack(">HH", HEIGHT, WIDTH), struct.pack(">HH", 50_000, 50_000)
        ),
        "tiff": b"II*\0\x08\0\0\0" + struct.pack("<H", len(tags)) + b"".join(tags) + bytes(4),
        "avif": file_of(picture(), "AVIF").replace(
            struct.pack(">II", WIDTH, HEIGHT), struct.pack(">II", 12_000, 12_000)
        ),
        "webp": b"RIFF\x16\0\0\0WEBPVP8X\x0a\0\0\0\0\0\0\0" + b"\x4f\xc3\0" * 2,
    }


@pytest.mark.parametrize("kind", ["png", "gif", "bmp", "jpeg", "tiff", "webp", "avif"])
def test_a_decompression_bomb_is_rejected_before_a_pixel_is_decoded(kind, monkeypatch):
    data = bombs()[kind]
    for reader in (ImageFile.ImageFile, TiffImageFile, WebPImageFile, AvifImageFile):
        monkeypatch.setattr(reader, "load", lambda _: pytest.fail("pixels were decoded"))
    side = 12_000 if kind == "avif" else 50_000
    assert ("too large" if kind == "webp" else f"{side} x {side} pixels are more than 64000000") in rejection(data)


def test_limits_are_options():
    data = file_of(picture(), "PNG")
    assert "64 x 48 pixels are more than 3071" in rejection(data, ImageOptions(max_pixels=3071))
    assert "64 x 48 pixels: a side is longer than 63" in rejection(data, ImageOptions(max_side_px=63))
    assert "64 x 48 pixels: a side is shorter than 49" in rejection(data, ImageOptions(min_side_px=49))
    exact = ImageOptions(max_pixels=3072, max_side_px=64, min_side_px=48)
    assert decode(data, "rain", exact).pixels.shape == (48, 64, 3)


def test_pillows_own_limit_neither_applies_nor_changes(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1_000)
    assert decoded(file_of(picture(), "PNG")).shape == (HEIGHT, WIDTH, 3)
    assert Image.MAX_IMAGE_PIXELS == 1_000


def reassembled_png(data: bytes, rng: np.random.Generator) -> bytes:
    """Damage with valid checksums: chunks changed, truncated, duplicated and dropped."""
    chunks, offset = [], 8
    while offset < len(data):
        length = int.from_bytes(data[offset : offset + 4], "big")
        chunks.append((data[offset + 4 : offset + 8], bytearray(data[offset + 8 : offset + 8 + length])))
        offset += 12 + length
    for _ in range(rng.integers(1, 4)):
        i = rng.integers(len(chunks))
        name, body = chunks[i][0], bytearray(chunks[i][1])
        how = rng.integers(4)
        if how == 0 and body:
            body[rng.integers(len(body))] = rng.integers(256)
        new = [(name, body[: rng.integers(len(body) + 1)] if how == 1 else body)]
        chunks[i : i + 1] = [new, new, new * 2, []][how] or [(b"acTL", bytearray(8))]
    return data[:8] + b"".join(chunk(name, bytes(body)) for name, body in chunks)


def whole_files() -> dict[str, bytes]:
    image, exif = Image.fromarray(picture()), Image.Exif()
    exif[ORIENTATION] = 6
    extras = {"exif": exif, "icc_profile": profile_with_red_and_green_swapped()}
    return {
        "jpeg": file_of(image, "JPEG", **extras),
        "progressive": file_of(image, "JPEG", progressive=True),
        "cmyk": file_of(image.convert("CMYK"), "JPEG"),
        "png": file_of(image, "PNG", **extras),
        "palette png": file_of(image.quantize(16), "PNG", transparency=bytes(range(16))),
        "animated png": file_of(image, "PNG", save_all=True, append_images=[image.rotate(90)]),
        "webp": file_of(image, "WEBP", **extras),
        "lossless webp": file_of(with_alpha(9), "WEBP", lossless=True),
        "gif": file_of(image, "GIF", save_all=True, append_images=[image.rotate(90)]),
        "bmp": file_of(image.quantize(16), "BMP"),
        "tiff": file_of(image, "TIFF", **extras),
        "avif": file_of(with_alpha(9), "AVIF", speed=10, exif=exif),
        "grey png": png_of(40, 40, (b"tRNS", b"\x10\0"), idat(*[bytes(range(80))] * 40), bits=16, colour_type=0),
        "deflated tiff": file_of(image, "TIFF", compression="tiff_deflate"),
    }


@pytest.mark.parametrize("name", whole_files())
def test_a_damaged_file_is_decoded_or_rejected_and_nothing_else(name):
    rng = np.random.default_rng(7)
    whole = whole_files()[name]
    damaged = [whole[:length] for length in rng.integers(len(whole), size=50)]
    for i in range(150):
        flipped = bytearray(whole)
        for offset in rng.integers(len(whole) if i % 2 else min(len(whole), 200), size=1 + i % 8):
            flipped[offset] = rng.integers(256)
        damaged.append(bytes(flipped))
    if whole.startswith(b"\x89PNG"):
        damaged += [reassembled_png(whole, rng) for _ in range(200)]
    num_rejected = 0
    for data in damaged:
        try:
            pixels = decoded(data)
        except BadItem:
            num_rejected += 1
            continue
        assert pixels.shape[2] == 3
    assert num_rejected >= 30  # most of those cut short
