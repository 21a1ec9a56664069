"""Image formats decode to the right pixels."""

import struct
import threading
import warnings

import numpy as np
import pytest
from PIL import Image
from pydantic import ValidationError

from aai.media.images import ImageOptions, decode, encode, resize_and_crop
from tests.media.pictures import (
    HEIGHT,
    OPTIONS,
    ORIENTATION,
    WIDTH,
    decoded,
    file_of,
    picture,
    profile_with_red_and_green_swapped,
    tiff_of,
    with_alpha,
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


GREYS = picture()[::3, ::4, 0].astype(np.uint32)


@pytest.mark.parametrize(
    "bits, photometric, is_big",
    [(8, 1, True), (8, 0, False), (12, 1, False), (16, 1, False), (16, 0, False), (16, 1, True), (16, 0, True)],
)
def test_grey_of_a_tiff_has_the_range_that_its_header_says(bits, photometric, is_big):
    """A photometric interpretation of 0 means that zero is white."""
    stored = (GREYS if photometric else 255 - GREYS) * (2**bits - 1) // 255
    if bits == 12:
        first, second = stored[:, ::2], stored[:, 1::2]
        stored = np.stack([first >> 4, (first & 15) << 4 | second >> 8, second & 255], axis=-1)
    data = stored.astype("<u2" if bits == 16 else np.uint8).tobytes()
    assert np.array_equal(decoded(tiff_of(16, 16, bits, photometric, data, is_big))[..., 0], GREYS)


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


def test_cmyk_becomes_rgb():
    image = Image.fromarray(picture()).convert("CMYK")
    for kind, how in (("JPEG", {"quality": 98}), ("TIFF", {})):
        assert np.abs(decoded(file_of(image, kind, **how)) - picture()).mean() < 3


@pytest.mark.parametrize("kind, how", [("PNG", {}), ("GIF", {}), ("WEBP", {"lossless": True}), ("TIFF", {})])
def test_the_first_frame_is_the_image(kind, how):
    image = Image.fromarray(picture()).quantize(64).convert("RGB")
    data = file_of(image, kind, save_all=True, append_images=[image.rotate(90)] * 50, **how)
    assert np.array_equal(decoded(data), np.asarray(image))


@pytest.mark.parametrize("alpha, shown", [(0, (200, 100, 50)), (128, (227, 177, 152)), (255, (200, 100, 50))])
def test_the_alpha_channel_of_a_bmp_counts_unless_it_is_empty(alpha, shown):
    masks = struct.pack("<4I", 0xFF0000, 0xFF00, 0xFF, 0xFF000000)
    header = struct.pack("<IiiHHIIiiII", 108, 16, 16, 1, 32, 3, 1024, 0, 0, 0, 0) + masks + b"BGRs" + bytes(48)
    data = b"BM" + struct.pack("<IHHI", 1146, 0, 0, 122) + header + bytes([50, 100, 200, alpha]) * 256
    assert np.abs(decoded(data) - shown).max() <= 1


def test_a_canvas_shows_the_background_around_a_smaller_first_frame():
    image = Image.new("P", (20, 16), 1)
    image.putpalette([255, 0, 0, 0, 0, 255])
    data = bytearray(file_of(image, "GIF"))
    at = data.index(struct.pack("<BHHHH", 0x2C, 0, 0, 20, 16))
    data[at + 1 : at + 5], data[6:10] = struct.pack("<HH", 4, 8), struct.pack("<HH", 40, 30)
    expected = np.full((30, 40, 3), 255)
    expected[8:24, 4:24] = (0, 0, 255)
    assert np.array_equal(decoded(bytes(data)), expected)


@pytest.mark.parametrize("orientation, turned", [(1, picture()), (6, np.rot90(picture(), -1))])
def test_avif_is_decoded(orientation, turned):
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    options = {"quality": 95, "subsampling": "4:4:4", "speed": 10, "exif": exif}
    assert np.abs(decoded(file_of(picture(), "AVIF", **options)) - turned).max() <= 12
    assert np.abs(decoded(file_of(with_alpha(0), "AVIF", **options)) - 255).max() <= 1


def test_a_stereo_photo_is_its_first_view():
    image = Image.fromarray(picture())
    data = file_of(image, "MPO", save_all=True, append_images=[image.rotate(180)])
    assert np.abs(decoded(data) - picture()).max() < 20


@pytest.mark.parametrize("kind, how", [("PNG", {}), ("WEBP", {"lossless": True}), ("TIFF", {})])
def test_a_colour_profile_is_applied_unless_disabled(kind, how):
    data = file_of(picture(), kind, icc_profile=profile_with_red_and_green_swapped(), **how)
    assert np.abs(decoded(data) - picture()[..., [1, 0, 2]]).max() <= 2
    assert np.array_equal(decoded(data, use_colour_profile=False), picture())


def test_a_colour_profile_keeps_transparency():
    data = file_of(with_alpha(0), "PNG", icc_profile=profile_with_red_and_green_swapped())
    assert (decoded(data) == 255).all()


def grey_profile() -> bytes:
    """A profile whose samples are proportional to light."""
    curve, white = b"curv" + bytes(8), b"XYZ " + bytes(4) + struct.pack(">3I", 0xF6D6, 0x10000, 0xD32D)
    tags = struct.pack(">I4sII4sII", 2, b"wtpt", 156, 20, b"kTRC", 176, 12)
    head = struct.pack(">I4xI4s4s4s12x4s28x", 188, 0x02100000, b"mntr", b"GRAY", b"XYZ ", b"acsp")
    return (head + struct.pack(">3I", 0xF6D6, 0x10000, 0xD32D)).ljust(128, b"\0") + tags + white + curve


@pytest.mark.parametrize("mode", ["L", "LA"])
def test_a_grey_profile_is_applied(mode):
    image = Image.new(mode, (20, 20), 55 if mode == "L" else (55, 255))  # 21.6 % of the light
    data = file_of(image, "PNG", icc_profile=grey_profile())
    assert np.abs(decoded(data) - 128).max() <= 1
    assert (decoded(data, use_colour_profile=False) == 55).all()


@pytest.mark.parametrize("profile", [b"no profile", profile_with_red_and_green_swapped()[:300]])
def test_a_damaged_colour_profile_is_ignored(profile):
    assert np.array_equal(decoded(file_of(picture(), "PNG", icc_profile=profile)), picture())


def test_a_colour_profile_for_other_channels_is_ignored():
    grey = picture()[..., 0]
    data = file_of(grey, "PNG", icc_profile=profile_with_red_and_green_swapped())
    assert np.array_equal(decoded(data)[..., 0], grey)


def test_decoding_threads_restore_the_warning_filters():
    filters = list(warnings.filters)
    data = file_of(np.random.default_rng(0).integers(0, 256, (100, 100, 3), dtype=np.uint8), "PNG")
    threads = [threading.Thread(target=lambda: [decoded(data) for _ in range(10)]) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert warnings.filters == filters


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
