"""Well-formed images of every kind, ordinary and odd, with the pixels from which they were encoded.

The maximum errors of pixels: none for lossless formats, 1 where bits or alpha are rounded, 12 for the lossy ones of a
smooth gradient.
"""

import struct
import zlib
from collections.abc import Callable
from functools import partial

import numpy as np
from PIL import Image, PngImagePlugin

from tests.corpus.cases import Picture
from tests.corpus.pictures import (
    HEIGHT,
    WIDTH,
    Drawing,
    bmp,
    chunk,
    drawing,
    grey,
    oriented,
    over_white,
    png,
    png_header,
    rgb,
    saved,
    tiff,
)

ROUNDED, LOSSY = 1, 12
_ALPHA = np.linspace(0, 255, HEIGHT * WIDTH).astype(np.uint8).reshape(HEIGHT, WIDTH)
_ADOBE_CMYK = 24  # Pillow's conversion of CMYK to RGB is that of the formula, JPEG loses a little of four channels

_UPRIGHT: tuple[Callable[[np.ndarray], np.ndarray], ...] = (
    lambda pixels: pixels,
    lambda pixels: pixels[:, ::-1],
    lambda pixels: pixels[::-1, ::-1],
    lambda pixels: pixels[::-1],
    lambda pixels: pixels.swapaxes(0, 1),
    lambda pixels: np.rot90(pixels, -1),
    lambda pixels: pixels[::-1, ::-1].swapaxes(0, 1),
    lambda pixels: np.rot90(pixels, 1),
)
"""What each EXIF orientation, from 1 to 8, makes of stored pixels."""


def _turned(orientation: int) -> np.ndarray:
    return _UPRIGHT[orientation - 1](drawing())


def _levels(depth: int) -> np.ndarray:
    """Grey values of a bit depth."""
    return grey().astype(np.uint32) * (2**depth - 1) // 255


def _shown(depth: int) -> np.ndarray:
    return rgb(np.round(_levels(depth) * 255 / (2**depth - 1)))


def _indexes(depth: int) -> np.ndarray:
    return np.add.outer(np.arange(HEIGHT), np.arange(WIDTH)) % 2**depth


def _colours(depth: int) -> np.ndarray:
    """A palette without two equal colours."""
    numbers = np.arange(2**depth)
    return np.stack([numbers * 255 // max(1, 2**depth - 1), 255 - numbers, numbers * 37 % 256], -1).astype(np.uint8)


def _palette_png(depth: int, *more: bytes) -> bytes:
    return png(_indexes(depth), depth, 3, (chunk(b"PLTE", _colours(depth).tobytes()), *more))


def _palette_pixels(depth: int, alpha: int = 255) -> np.ndarray:
    """Pixels of that palette; the first colour has this alpha."""
    indexes = _indexes(depth)
    return over_white(_colours(depth)[indexes], np.where(indexes == 0, alpha, 255))


def _with_alpha() -> np.ndarray:
    return np.dstack([drawing(), _ALPHA])


def _where(values: np.ndarray, value: object, pixels: np.ndarray) -> np.ndarray:
    """White where `values` are `value`."""
    same = values == value
    return np.where((same if same.ndim == 2 else same.all(-1))[..., None], 255, pixels).astype(np.uint8)


def _animated(kind: str, **how: object) -> bytes:
    others = [Image.fromarray(255 - drawing()), Image.fromarray(drawing()[::-1].copy())]
    return saved(kind, save_all=True, append_images=others, duration=100, **how)


def _texts(num_bytes: int) -> PngImagePlugin.PngInfo:
    """Texts as workflow editors write them."""
    texts = PngImagePlugin.PngInfo()
    texts.add_text("workflow", '{"nodes": "' + "x" * num_bytes + '"}')
    texts.add_itxt("prompt", '{"text": "' + "é" * (num_bytes // 2) + '"}')
    texts.add_text("parameters", "a photo of rain " * (num_bytes // 16), zip=True)
    return texts


def _quantised(colours: int = 64) -> Image.Image:
    return Image.fromarray(drawing()).quantize(colours)


def _cmyk() -> Image.Image:
    return Image.fromarray(drawing()).convert("CMYK")


def _reference(picture: Drawing) -> Callable[[], np.ndarray]:
    return lambda: np.asarray(picture().convert("RGB"))


def _mask() -> Image.Image:
    return Image.fromarray(grey() > 99)


def _palette_image() -> Image.Image:
    image = Image.fromarray(_indexes(8).astype(np.uint8)).convert("P")
    image.putpalette(_colours(8).tobytes())
    return image


def _gif_with_hole() -> bytes:
    return saved("GIF", _palette_image, transparency=0)


def _one(name: str, data: Callable[[], bytes], pixels: Callable[[], np.ndarray] = drawing, error: int = 0) -> Picture:
    return Picture(name, data, pixels, error)


JPEGS = (
    _one("baseline.jpg", partial(saved, "JPEG", quality=95), error=LOSSY),
    _one("progressive.jpg", partial(saved, "JPEG", quality=95, progressive=True), error=LOSSY),
    _one("optimised.jpg", partial(saved, "JPEG", quality=95, optimize=True), error=LOSSY),
    _one("whole-chroma.jpg", partial(saved, "JPEG", quality=95, subsampling=0), error=LOSSY),
    _one("restarts.jpg", partial(saved, "JPEG", quality=95, restart_marker_rows=1), error=LOSSY),
    _one("rgb.jpg", partial(saved, "JPEG", quality=95, keep_rgb=True), error=LOSSY),
    _one("grey.jpg", partial(saved, "JPEG", grey, quality=95), lambda: rgb(grey()), LOSSY),
    _one("cmyk.jpg", partial(saved, "JPEG", _cmyk, quality=95), error=_ADOBE_CMYK),
    _one("comment.jpg", partial(saved, "JPEG", quality=95, comment=b"heavy rain"), error=LOSSY),
    _one("bytes-after.jpg", lambda: saved("JPEG", quality=95) + b"\0camera" * 400, error=LOSSY),
    _one("two-views.jpg", partial(_animated, "MPO", quality=95), error=LOSSY),
    _one("photo.jfif", partial(saved, "JPEG", quality=94), error=LOSSY),
    *(_one(f"turned-{way}.jpg", partial(oriented, "JPEG", way), partial(_turned, way), LOSSY) for way in range(1, 9)),
)

_GREY_PIXELS = {depth: partial(_shown, depth) for depth in (1, 2, 4, 8, 16)}
_KEY_8, _KEY_16 = 60, 60 * 257
PNGS = (
    *(_one(f"grey-{depth}.png", lambda d=depth: png(_levels(d), d, 0), pixels, int(depth == 16))
      for depth, pixels in _GREY_PIXELS.items()),
    *(_one(f"palette-{depth}.png", partial(_palette_png, depth), partial(_palette_pixels, depth))
      for depth in (1, 2, 4, 8)),
    *(_one(f"palette-{depth}-transparent.png", partial(_palette_png, depth, chunk(b"tRNS", bytes([alpha]))),
           partial(_palette_pixels, depth, alpha), ROUNDED) for depth, alpha in ((1, 0), (4, 128), (8, 0))),
    _one("grey-8-transparent.png", lambda: png(grey(), 8, 0, (chunk(b"tRNS", struct.pack(">H", _KEY_8)),)),
         lambda: _where(grey(), _KEY_8, rgb(grey()))),
    *(_one(f"grey-{depth}-transparent.png",
           lambda d=depth: png(_levels(d), d, 0, (chunk(b"tRNS", struct.pack(">H", 1)),)),
           lambda d=depth: _where(_levels(d), 1, _shown(d))) for depth in (1, 2, 4)),
    _one("grey-16-transparent.png", lambda: png(_levels(16), 16, 0, (chunk(b"tRNS", struct.pack(">H", _KEY_16)),)),
         lambda: _where(_levels(16), _KEY_16, _shown(16)), ROUNDED),
    _one("rgb-8.png", partial(saved, "PNG")),
    _one("rgb-16.png", lambda: png(drawing().astype(np.uint32) * 257, 16, 2), error=ROUNDED),
    _one("rgb-8-transparent.png", lambda: png(drawing(), 8, 2, (chunk(b"tRNS", struct.pack(">HHH", 50, 60, 195)),)),
         lambda: _where(drawing(), (50, 60, 195), drawing())),
    _one("rgb-16-transparent.png",
         lambda: png(drawing().astype(np.uint32) * 257, 16, 2,
                     (chunk(b"tRNS", struct.pack(">HHH", 50 * 257, 60 * 257, 195 * 257)),)),
         lambda: _where(drawing(), (50, 60, 195), drawing()), ROUNDED),
    _one("grey-alpha-8.png", lambda: png(np.dstack([grey(), _ALPHA]), 8, 4),
         lambda: over_white(rgb(grey()), _ALPHA), ROUNDED),
    _one("grey-alpha-16.png", lambda: png(np.dstack([grey(), _ALPHA]).astype(np.uint32) * 257, 16, 4),
         lambda: over_white(rgb(grey()), _ALPHA), 2),
    _one("rgba-8.png", partial(saved, "PNG", _with_alpha), lambda: over_white(drawing(), _ALPHA), ROUNDED),
    _one("rgba-16.png", lambda: png(_with_alpha().astype(np.uint32) * 257, 16, 6),
         lambda: over_white(drawing(), _ALPHA), 2),
    _one("invisible.png", lambda: png(np.dstack([drawing(), _ALPHA * 0]), 8, 6), lambda: drawing() * 0 + 255),
    *(_one(f"interlaced-{depth}.png", lambda d=depth: png(_levels(d), d, 0, interlaced=True), pixels, int(depth == 16))
      for depth, pixels in _GREY_PIXELS.items()),
    _one("interlaced-rgb.png", lambda: png(drawing(), 8, 2, interlaced=True)),
    _one("interlaced-rgba.png", lambda: png(_with_alpha(), 8, 6, interlaced=True),
         lambda: over_white(drawing(), _ALPHA), ROUNDED),
    _one("animated.png", partial(_animated, "PNG")),
    _one("texts.png", lambda: saved("PNG", pnginfo=_texts(1_000))),
    _one("many-texts.png", lambda: saved("PNG", pnginfo=_texts(3_000_000))),
    _one("text-bomb.png",
         lambda: png(drawing(), 8, 2, [chunk(b"zTXt", b"node\0\0" + zlib.compress(bytes(2**20)))] * 80)),
    _one("texts-after.png", lambda: png(drawing(), 8, 2, after=(chunk(b"tEXt", b"Title\0" + b"z" * 2_000_000),))),
    _one("latin-text.png", lambda: png(drawing(), 8, 2, (chunk(b"tEXt", b"Author\0caf\xe9"),))),
    _one("background.png", lambda: png(_with_alpha(), 8, 6, (chunk(b"bKGD", struct.pack(">HHH", 255, 0, 0)),)),
         lambda: over_white(drawing(), _ALPHA), ROUNDED),
    _one("srgb.png", lambda: png(drawing(), 8, 2, (chunk(b"sRGB", b"\0"), chunk(b"gAMA", struct.pack(">I", 45_455))))),
    _one("empty-data.png", lambda: _in_pieces(0, 7)),
    _one("tiny-data.png", lambda: _in_pieces(*range(1, 30))),
    _one("bytes-after.png", lambda: saved("PNG") + bytes(3_000)),
    *(_one(f"turned-{way}.png", partial(oriented, "PNG", way), partial(_turned, way)) for way in (3, 6)),
)  # fmt: skip


def _in_pieces(*cuts: int) -> bytes:
    """A PNG whose pixels are spread over several chunks."""
    rows = zlib.compress(b"".join(b"\0" + row.tobytes() for row in drawing()))
    bounds = [0, *cuts, len(rows)]
    pieces = [chunk(b"IDAT", rows[start:end]) for start, end in zip(bounds, bounds[1:], strict=False)]
    return png_header(WIDTH, HEIGHT, 8, 2) + b"".join(pieces) + chunk(b"IEND", b"")


def _bmp_16(masks: tuple[int, int, int] | None = None) -> bytes:
    """16 bits a pixel: 5, 5 and 5, or 5, 6 and 5."""
    red, green, blue = (drawing().astype(np.uint16) >> 3).transpose(2, 0, 1)[:, ::-1]
    if masks is None:
        return bmp((red << 10 | green << 5 | blue).astype("<u2").tobytes(), 16)
    values = red << 11 | green << 6 | blue
    return bmp(values.astype("<u2").tobytes(), 16, 3, struct.pack("<III", *masks))


def _five_bits() -> np.ndarray:
    return np.round((drawing() >> 3).astype(float) * 255 / 31).astype(np.uint8)


def _bmp_runs() -> bytes:
    """Run lengths: each row is one grey, from a palette."""
    palette = b"".join(bytes([level, level, level, 0]) for level in range(256))
    rows = b"".join(bytes([WIDTH, 5 * (HEIGHT - 1 - row), 0, 0]) for row in range(HEIGHT)) + b"\0\1"
    data = bytearray(bmp(rows, 8, 1, palette))
    data[46:50] = struct.pack("<I", 256)
    return bytes(data)


def _bmp_os2() -> bytes:
    rows = drawing()[::-1, :, ::-1].tobytes()
    header = struct.pack("<2sIHHI", b"BM", 26 + len(rows), 0, 0, 26)
    return header + struct.pack("<IHHHH", 12, WIDTH, HEIGHT, 1, 24) + rows


def _bmp_top_down() -> bytes:
    return bmp(drawing()[..., ::-1].tobytes(), 24, top_down=True)


BMPS = (
    _one("1.bmp", partial(saved, "BMP", _mask), _reference(_mask)),
    _one("8.bmp", partial(saved, "BMP", grey), lambda: rgb(grey())),
    _one("palette.bmp", partial(saved, "BMP", _quantised), _reference(_quantised)),
    _one("24.bmp", partial(saved, "BMP")),
    _one("16.bmp", _bmp_16, _five_bits, 8),
    _one("16-masks.bmp", partial(_bmp_16, (0xF800, 0x07E0, 0x001F)), _five_bits, 8),
    _one("runs.bmp", _bmp_runs, lambda: rgb(np.repeat(5 * np.arange(HEIGHT)[:, None], WIDTH, 1))),
    _one("os2.bmp", _bmp_os2),
    _one("top-down.bmp", _bmp_top_down),
)

GIFS = (
    _one("still.gif", partial(saved, "GIF", _palette_image), _reference(_palette_image)),
    _one("interlaced.gif", partial(saved, "GIF", _palette_image, interlace=1), _reference(_palette_image)),
    _one("moving.gif", partial(_animated, "GIF"), error=40),  # 256 colours of 3,072
    _one("comment.gif", partial(saved, "GIF", _palette_image, comment=b"rain" * 90), _reference(_palette_image)),
    _one("hole.gif", _gif_with_hole, partial(_palette_pixels, 8, 0)),
)

WEBPS = (
    _one("lossy.webp", partial(saved, "WEBP", quality=95), error=LOSSY),
    _one("lossless.webp", partial(saved, "WEBP", lossless=True)),
    _one("alpha.webp", partial(saved, "WEBP", _with_alpha, lossless=True, exact=True),
         lambda: over_white(drawing(), _ALPHA), ROUNDED),
    _one("lossy-alpha.webp", partial(saved, "WEBP", _with_alpha, quality=95),
         lambda: over_white(drawing(), _ALPHA), LOSSY),
    _one("moving.webp", partial(_animated, "WEBP", lossless=True)),
    *(_one(f"turned-{way}.webp", lambda way=way: oriented("WEBP", way), partial(_turned, way), LOSSY)
      for way in (6, 8)),
)  # fmt: skip

_RGB_TAGS = {256: (4, [WIDTH]), 257: (4, [HEIGHT]), 258: (3, [8, 8, 8]), 259: (3, [1]), 262: (3, [2]), 277: (3, [3])}


def _tiff(order: str = "<") -> bytes:
    data = drawing().tobytes()
    tags = _RGB_TAGS | {278: (4, [HEIGHT]), 279: (4, [len(data)])}
    return tiff(order, tags, [data], 273)


def _tiff_16(order: str, channels: int) -> bytes:
    values = (drawing() if channels == 3 else grey()).astype(f"{order}u2") * np.array(257, f"{order}u2")
    data = values.astype(f"{order}u2").tobytes()
    tags = _RGB_TAGS | {258: (3, [16] * channels), 262: (3, [2 if channels == 3 else 1]), 277: (3, [channels])}
    return tiff(order, tags | {278: (4, [HEIGHT]), 279: (4, [len(data)])}, [data], 273)


def _tiff_tiles() -> bytes:
    side = 16
    tiles = [
        np.ascontiguousarray(drawing()[top : top + side, left : left + side]).tobytes()
        for top in range(0, HEIGHT, side)
        for left in range(0, WIDTH, side)
    ]
    tags = _RGB_TAGS | {322: (4, [side]), 323: (4, [side]), 325: (4, [len(tile) for tile in tiles])}
    return tiff("<", tags, tiles, 324)


def _tiff_planes() -> bytes:
    planes = [np.ascontiguousarray(plane).tobytes() for plane in drawing().transpose(2, 0, 1)]
    tags = _RGB_TAGS | {278: (4, [HEIGHT]), 279: (4, [len(plane) for plane in planes]), 284: (3, [2])}
    return tiff("<", tags, planes, 273)


TIFFS = (
    *(_one(f"{name}.tif", partial(saved, "TIFF", compression=name))
      for name in ("raw", "tiff_lzw", "tiff_adobe_deflate", "packbits")),
    _one("jpeg.tif", partial(saved, "TIFF", compression="jpeg", quality=95), error=LOSSY),
    _one("fax.tif", partial(saved, "TIFF", _mask, compression="group4"), _reference(_mask)),
    _one("grey.tif", partial(saved, "TIFF", grey), lambda: rgb(grey())),
    _one("palette.tif", partial(saved, "TIFF", _quantised), _reference(_quantised)),
    _one("alpha.tif", partial(saved, "TIFF", _with_alpha), lambda: over_white(drawing(), _ALPHA), ROUNDED),
    _one("cmyk.tif", partial(saved, "TIFF", _cmyk), error=ROUNDED),
    _one("pages.tiff", partial(_animated, "TIFF")),
    _one("little-endian.tif", _tiff),
    _one("big-endian.tif", partial(_tiff, ">")),
    _one("tiles.tif", _tiff_tiles),
    _one("planes.tif", _tiff_planes),
    *(_one(f"{channels}x16-{name}.tif", partial(_tiff_16, order, channels),
           drawing if channels == 3 else lambda: rgb(grey()), ROUNDED)
      for channels in (1, 3) for order, name in (("<", "little"), (">", "big"))),
    _one("big.tif", partial(saved, "TIFF", big_tiff=True)),
    *(_one(f"turned-{way}.tif", partial(oriented, "TIFF", way), partial(_turned, way)) for way in (2, 5)),
)  # fmt: skip

IMAGES: tuple[Picture, ...] = (*JPEGS, *PNGS, *BMPS, *GIFS, *WEBPS, *TIFFS)
