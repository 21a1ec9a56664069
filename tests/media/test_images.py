"""Image formats decode to the right pixels; unusable files are rejected with the reason."""

import io
import struct
import threading
import tracemalloc
import warnings
import zlib

import numpy as np
import pytest
from PIL import Image, ImageCms, ImageFile
from PIL.TiffImagePlugin import TiffImageFile
from PIL.WebPImagePlugin import WebPImageFile
from pydantic import ValidationError

from aai.errors import BadItem
from aai.media.images import ImageOptions, decode, encode, resize_and_crop

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


def png_of(width: int, height: int, *chunks: tuple[bytes, bytes]) -> bytes:
    """A PNG with an 8-bit RGB header and arbitrary chunks."""
    header = (b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
        for name, body in (header, *chunks, (b"IEND", b""))
    )


@pytest.mark.parametrize(
    "kind, how, error",
    [
        ("PNG", {}, 0),
        ("BMP", {}, 0),
        ("TIFF", {}, 0),
        ("TIFF", {"compression": "tiff_lzw"}, 0),
        ("WEBP", {"lossless": True}, 0),
        ("WEBP", {"quality": 95}, 12),
        ("JPEG", {"quality": 95}, 12),
        ("JPEG", {"quality": 95, "progressive": True}, 12),
    ],
)
def test_pixels_size_and_format_are_decoded(kind, how, error):
    image = decode(file_of(picture(), kind, **how), "rain", OPTIONS)
    assert (image.stored_size_px, image.format) == ((WIDTH, HEIGHT), kind)
    assert np.abs(image.pixels.astype(int) - picture()).max() <= error


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "TIFF"])
@pytest.mark.parametrize(
    "orientation, turned",
    [
        (1, picture()),
        (2, picture()[:, ::-1]),
        (3, picture()[::-1, ::-1]),
        (4, picture()[::-1]),
        (5, picture().swapaxes(0, 1)),
        (6, np.rot90(picture(), -1)),
        (7, picture()[::-1, ::-1].swapaxes(0, 1)),
        (8, np.rot90(picture(), 1)),
        (77, picture()),
    ],
)
def test_the_exif_orientation_is_applied(kind, orientation, turned):
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    pixels = decoded(file_of(picture(), kind, exif=exif))
    assert pixels.shape == turned.shape
    assert np.abs(pixels - turned).mean() < 4


def test_damaged_exif_is_ignored():
    data = file_of(picture(), "PNG", exif=b"Exif\0\0MM\0*\0\0\0\x08\0\x09\x01")
    assert np.array_equal(decoded(data), picture())


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF"])
def test_grey_has_three_equal_channels(kind):
    grey = picture()[..., 0]
    pixels = decoded(file_of(grey, kind))
    assert np.abs(pixels - grey[..., None]).max() <= (6 if kind == "JPEG" else 0)


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_sixteen_bits_become_eight(kind):
    grey = picture()[..., 0]
    assert np.array_equal(decoded(file_of(grey.astype(np.uint16) * 257, kind))[..., 0], grey)


def test_sixteen_bit_colours_become_eight():
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in picture().astype(np.uint16) * 257)
    data = png_of(WIDTH, HEIGHT, (b"IDAT", zlib.compress(rows))).replace(b"\x08\x02\0\0\0", b"\x10\x02\0\0\0", 1)
    data = data[:29] + struct.pack(">I", zlib.crc32(data[12:29])) + data[33:]
    assert np.array_equal(decoded(data), picture())


def test_black_and_white_is_black_and_white():
    black = picture()[..., 0] > 99
    assert np.array_equal(decoded(file_of(Image.fromarray(black), "PNG"))[..., 0], black * 255)


@pytest.mark.parametrize("kind", ["PNG", "GIF", "BMP", "TIFF"])
def test_palettes_are_applied(kind):
    image = Image.fromarray(picture()).quantize(64)
    assert np.array_equal(decoded(file_of(image, kind)), np.asarray(image.convert("RGB")))


@pytest.mark.parametrize("background", [(255, 255, 255), (0, 100, 200)])
@pytest.mark.parametrize("kind, how", [("PNG", {}), ("WEBP", {"lossless": True, "exact": True}), ("TIFF", {})])
def test_transparency_shows_the_background(kind, how, background):
    assert (decoded(file_of(with_alpha(0), kind, **how), background=background) == background).all()
    half = decoded(file_of(with_alpha(128), kind, **how), background=background)
    assert np.abs(half - (picture() * 128.0 + np.array(background) * 127) / 255).max() <= 1
    assert np.array_equal(decoded(file_of(with_alpha(255), kind, **how), background=background), picture())


def test_grey_with_transparency_shows_the_background():
    image = Image.fromarray(with_alpha(0)).convert("LA")
    assert (decoded(file_of(image, "PNG")) == 255).all()


@pytest.mark.parametrize("kind, transparency", [("PNG", 0), ("PNG", bytes(64)), ("GIF", 0)])
def test_transparent_entries_of_a_palette_show_the_background(kind, transparency):
    image = Image.fromarray(picture()).quantize(64)
    colours, entries = np.asarray(image.convert("RGB")), np.asarray(image)
    hidden = entries < (64 if isinstance(transparency, bytes) else 1)
    expected = np.where(hidden[..., None], 255, colours)
    assert hidden.any()
    assert np.array_equal(decoded(file_of(image, kind, transparency=transparency)), expected)


def test_a_transparent_colour_shows_the_background():
    data = file_of(picture(), "PNG", transparency=tuple(map(int, picture()[0, 0])))
    pixels = decoded(data)
    assert pixels[0, 0].tolist() == [255, 255, 255]
    assert np.array_equal(pixels[1:], picture()[1:])


def test_cmyk_becomes_rgb():
    image = Image.fromarray(picture()).convert("CMYK")
    for kind, how in (("JPEG", {"quality": 98}), ("TIFF", {})):
        assert np.abs(decoded(file_of(image, kind, **how)) - picture()).mean() < 3


@pytest.mark.parametrize("kind, how", [("PNG", {}), ("GIF", {}), ("WEBP", {"lossless": True}), ("TIFF", {})])
def test_the_first_frame_is_the_image(kind, how):
    image = Image.fromarray(picture()).quantize(64).convert("RGB")
    data = file_of(image, kind, save_all=True, append_images=[image.rotate(90)] * 50, **how)
    assert np.array_equal(decoded(data), np.asarray(image))


def test_a_stereo_photo_is_its_first_view():
    image = Image.fromarray(picture())
    data = file_of(image, "MPO", save_all=True, append_images=[image.rotate(180)])
    assert np.abs(decoded(data) - picture()).max() < 20


def profile_with_red_and_green_swapped() -> bytes:
    data = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    red, green = data.index(b"rXYZ"), data.index(b"gXYZ")
    data[red], data[green] = ord("g"), ord("r")
    return bytes(data).replace(b"\0s\0R\0G\0B", b"\0t\0e\0s\0t")


@pytest.mark.parametrize("kind, how", [("PNG", {}), ("WEBP", {"lossless": True}), ("TIFF", {})])
def test_a_colour_profile_is_applied_unless_disabled(kind, how):
    data = file_of(picture(), kind, icc_profile=profile_with_red_and_green_swapped(), **how)
    assert np.abs(decoded(data) - picture()[..., [1, 0, 2]]).max() <= 2
    assert np.array_equal(decoded(data, use_colour_profile=False), picture())


def test_a_colour_profile_keeps_transparency():
    data = file_of(with_alpha(0), "PNG", icc_profile=profile_with_red_and_green_swapped())
    assert (decoded(data) == 255).all()


@pytest.mark.parametrize("profile", [b"no profile", profile_with_red_and_green_swapped()[:300]])
def test_a_damaged_colour_profile_is_ignored(profile):
    assert np.array_equal(decoded(file_of(picture(), "PNG", icc_profile=profile)), picture())


def test_a_colour_profile_for_other_channels_is_ignored():
    grey = picture()[..., 0]
    data = file_of(grey, "PNG", icc_profile=profile_with_red_and_green_swapped())
    assert np.array_equal(decoded(data)[..., 0], grey)


@pytest.mark.parametrize(
    "data, sentence",
    [
        (b"", "the file is empty (0 bytes)"),
        (b"<html><body>404 Not Found</body></html>", "not a JPEG, PNG, WebP, GIF, BMP or TIFF image"),
        (bytes(100), "not a JPEG, PNG, WebP, GIF, BMP or TIFF image"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 99 99\n", "not a JPEG, PNG, WebP, GIF, BMP or TIFF image"),
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
        "webp": b"RIFF\x16\0\0\0WEBPVP8X\x0a\0\0\0\0\0\0\0" + b"\x4f\xc3\0" * 2,
    }


@pytest.mark.parametrize("kind", ["png", "gif", "bmp", "jpeg", "tiff", "webp"])
def test_a_decompression_bomb_is_rejected_before_a_pixel_is_decoded(kind, monkeypatch):
    data = bombs()[kind]
    for reader in (ImageFile.ImageFile, TiffImageFile, WebPImageFile):
        monkeypatch.setattr(reader, "load", lambda _: pytest.fail("pixels were decoded"))
    assert ("too large" if kind == "webp" else "50000 x 50000 pixels are more than 64000000") in rejection(data)


def test_compressed_metadata_is_limited_as_well():
    data = png_of(40, 40, (b"zTXt", b"comment\0\0" + zlib.compress(bytes(100_000_000))))
    tracemalloc.start()
    assert "damaged or cut short" in rejection(data)
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak_bytes < 10_000_000


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


def test_decoding_threads_restore_the_warning_filters():
    filters = list(warnings.filters)
    data = file_of(np.random.default_rng(0).integers(0, 256, (100, 100, 3), dtype=np.uint8), "PNG")
    threads = [threading.Thread(target=lambda: [decoded(data) for _ in range(10)]) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert warnings.filters == filters


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
    return data[:8] + b"".join(
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body)) for name, body in chunks
    )


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


def test_the_centre_is_cropped():
    pixels = np.zeros((20, 60, 3), np.uint8)
    pixels[:, 20:40] = (10, 200, 90)
    assert np.array_equal(resize_and_crop(pixels, 20), pixels[:, 20:40])
    assert (resize_and_crop(pixels, 5)[:, 2] == (10, 200, 90)).all()
    assert resize_and_crop(pixels.swapaxes(0, 1).copy(), 64).shape == (64, 64, 3)


def test_resizing_is_antialiased():
    stripes = np.zeros((64, 64, 3), np.uint8)
    stripes[::2] = 200
    assert np.abs(resize_and_crop(stripes, 8)[1:-1].astype(int) - 100).max() <= 2


@pytest.mark.parametrize("kind, error", [("png", 0), ("jpeg", 12), ("webp", 12)])
def test_encoding_is_deterministic_and_decodes_to_the_same_pixels(kind, error):
    data = encode(picture(), kind)
    assert np.abs(decoded(data) - picture()).max() <= error
    assert encode(picture(), kind) == data


@pytest.mark.parametrize("kind", ["jpeg", "webp"])
def test_a_lower_quality_is_a_smaller_file(kind):
    assert len(encode(picture(), kind, quality=30)) < len(encode(picture(), kind, quality=95))


@pytest.mark.parametrize(
    "changes", [{"background": (0, 0, 256)}, {"max_pixels": 10**9}, {"min_side_px": 0}, {"size": 512}]
)
def test_options_out_of_bounds_are_rejected(changes):
    with pytest.raises(ValidationError):
        ImageOptions(**changes)
