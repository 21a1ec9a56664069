"""PNG files are decoded whatever else they hold, and their transparent colours are transparent."""

import struct
import tracemalloc
import zlib

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from tests.media.pictures import (
    HEIGHT,
    ORIENTATION,
    WIDTH,
    decoded,
    file_of,
    idat,
    picture,
    png_of,
    profile_with_red_and_green_swapped,
)

ROWS = [row.tobytes() for row in picture()]


def packed(values: list[int], bits: int) -> bytes:
    """Samples as a row of a PNG."""
    return int("".join(f"{value:0{bits}b}" for value in values), 2).to_bytes(len(values) * bits // 8, "big")


def exif_of(orientation: int) -> bytes:
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    return exif.tobytes()


@pytest.mark.parametrize("bits", [1, 2, 4, 8, 16])
@pytest.mark.parametrize("key", [0, 1])
def test_a_transparent_grey_shows_the_background_at_every_bit_depth(bits, key):
    values = [number % 2 ** min(bits, 4) * (4000 if bits == 16 else 1) for number in range(16)]
    data = png_of(
        16, 16, (b"tRNS", struct.pack(">H", values[key])), idat(*[packed(values, bits)] * 16), bits=bits, colour_type=0
    )
    expected = np.array([round(value * 255 / (2**bits - 1)) for value in values])
    expected[np.array(values) == values[key]] = 77
    assert (decoded(data, background=(77, 77, 77)) == expected[None, :, None]).all()


def test_sixteen_bit_colours_become_eight():
    rows = [row.astype(">u2").tobytes() for row in picture().astype(np.uint16) * 257]
    assert np.array_equal(decoded(png_of(WIDTH, HEIGHT, idat(*rows), bits=16)), picture())


def test_a_transparent_colour_shows_the_background():
    data = file_of(picture(), "PNG", transparency=tuple(map(int, picture()[0, 0])))
    pixels = decoded(data)
    assert pixels[0, 0].tolist() == [255, 255, 255]
    assert np.array_equal(pixels[1:], picture()[1:])


def test_a_transparent_colour_of_sixteen_bits_is_compared_with_all_of_them():
    rows = [struct.pack(">48H", *([1000 + row, 300, 77] * 16)) for row in range(16)]
    data = png_of(16, 16, (b"tRNS", struct.pack(">3H", 1003, 300, 77)), idat(*rows), bits=16)
    pixels = decoded(data)
    assert (pixels[3] == 255).all()
    assert (np.delete(pixels, 3, axis=0) == (3, 1, 0)).all()


@pytest.mark.parametrize("colour_type, num_colours", [(4, 1), (6, 3)])
def test_an_alpha_channel_of_sixteen_bits_shows_the_background(colour_type, num_colours):
    alphas = [0, 65535] * 8
    row = b"".join(struct.pack(">H", 200 * 257) * num_colours + struct.pack(">H", alpha) for alpha in alphas)
    data = png_of(16, 16, idat(*[row] * 16), bits=16, colour_type=colour_type)
    assert decoded(data, background=(1, 2, 3))[0, :2].tolist() == [[1, 2, 3], [200, 200, 200]]


def test_transparency_is_turned_with_the_picture():
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    data = png_of(
        WIDTH, HEIGHT, (b"eXIf", exif.tobytes()[6:]), (b"tRNS", struct.pack(">3H", *picture()[0, 1])), idat(*ROWS)
    )
    expected = picture()
    expected[0, 1] = 255
    assert np.array_equal(decoded(data), np.rot90(expected, -1))


def test_a_transparent_colour_that_is_cut_short_is_ignored():
    assert np.array_equal(decoded(png_of(WIDTH, HEIGHT, (b"tRNS", b"\0\0"), idat(*ROWS))), picture())


# Texts


LONG = b"workflow " * 300_000
TEXTS = {
    "tEXt": (b"tEXt", b"prompt\0" + LONG),
    "zTXt": (b"zTXt", b"prompt\0\0" + zlib.compress(LONG)),
    "iTXt": (b"iTXt", b"prompt\0\1\0\0\0" + zlib.compress(LONG)),
    "XMP": (b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + zlib.compress(LONG)),
    "EXIF": (b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(LONG)),
    "unknown compression": (b"zTXt", b"prompt\0\7xxx"),
    "broken": (b"iTXt", b"XML:com.adobe.xmp"),
}


@pytest.mark.parametrize("name", TEXTS)
def test_texts_of_any_length_do_not_matter(name):
    for chunks in ([TEXTS[name], idat(*ROWS)], [idat(*ROWS), TEXTS[name]]):
        assert np.array_equal(decoded(png_of(WIDTH, HEIGHT, *chunks)), picture())


def test_many_texts_do_not_matter():
    data = png_of(WIDTH, HEIGHT, *[TEXTS["tEXt"]] * 25, idat(*ROWS))
    assert len(data) > 64 * 2**20 and np.array_equal(decoded(data), picture())


@pytest.mark.parametrize("keyword", [b"comment", b"Raw profile type exif"])
def test_a_text_that_inflates_without_end_takes_no_memory(keyword):
    data = png_of(WIDTH, HEIGHT, (b"zTXt", keyword + b"\0\0" + zlib.compress(bytes(100_000_000))), idat(*ROWS))
    tracemalloc.start()
    assert np.array_equal(decoded(data), picture())
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak_bytes < 10_000_000


def test_the_orientation_is_found_in_texts():
    info = PngInfo()
    info.add_text("Raw profile type exif", f"\nexif\n  32\n{exif_of(3).hex()}", zip=True)
    assert np.array_equal(decoded(file_of(picture(), "PNG", pnginfo=info)), picture()[::-1, ::-1])


# Other chunks


@pytest.mark.parametrize(
    "chunk",
    [
        (b"pHYs", b"\0"),
        (b"gAMA", b""),
        (b"cHRM", b"\0"),
        (b"sRGB", b""),
        (b"fcTL", b"\0"),
        (b"iCCP", b"x\0\7abc"),
        (b"prVt", b""),
    ],
)
def test_damage_to_chunks_that_hold_no_picture_does_not_matter(chunk):
    assert np.array_equal(decoded(png_of(WIDTH, HEIGHT, chunk, idat(*ROWS))), picture())


def test_a_large_colour_profile_is_applied():
    profile = profile_with_red_and_green_swapped() + bytes(2_000_000)
    profile = struct.pack(">I", len(profile)) + profile[4:]
    data = png_of(WIDTH, HEIGHT, (b"iCCP", b"large\0\0" + zlib.compress(profile)), idat(*ROWS))
    assert np.abs(decoded(data) - picture()[..., [1, 0, 2]]).max() <= 2
    assert np.array_equal(decoded(data, use_colour_profile=False), picture())


def test_a_profile_that_inflates_without_end_is_ignored():
    data = png_of(WIDTH, HEIGHT, (b"iCCP", b"bomb\0\0" + zlib.compress(bytes(100_000_000))), idat(*ROWS))
    assert np.array_equal(decoded(data), picture())
