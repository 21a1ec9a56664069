"""Image decoding to upright sRGB pixels, resizing, and encoding."""

import contextlib
import io
import re
import threading
import warnings
import zlib
from dataclasses import dataclass
from struct import error as StructError
from typing import Annotated, Any, Literal

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageCms, ImageOps
from PIL.AvifImagePlugin import AvifImageFile
from PIL.BmpImagePlugin import BmpImageFile
from PIL.GifImagePlugin import GifImageFile
from PIL.ImageFile import ImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile, PngInfo
from PIL.TiffImagePlugin import TiffImageFile
from PIL.WebPImagePlugin import WebPImageFile
from pydantic import Field

from aai.errors import BadItem
from aai.media import png
from aai.media.unread import unread_image
from aai.options import Options

_READERS: tuple[tuple[int, bytes, type[ImageFile]], ...] = (
    (0, b"\xff\xd8\xff", JpegImageFile),
    (0, png.MAGIC, PngImageFile),
    (8, b"WEBP", WebPImageFile),
    (0, b"GIF8", GifImageFile),
    (0, b"BM", BmpImageFile),
    (0, b"II*\0", TiffImageFile),
    (0, b"MM\0*", TiffImageFile),
    (0, b"II+\0", TiffImageFile),  # BigTIFF
    (4, b"ftyp", AvifImageFile),
)
"""Supported formats: offset, magic bytes, reader.

`PIL.Image.open(formats=...)` would apply Pillow's process-wide pixel limit, report a damaged header as "cannot identify
image file", and parse the extra views of a JPEG, which need not be intact.
"""

_READER_ERRORS = (
    EOFError,
    IndexError,
    KeyError,
    OSError,
    OverflowError,
    RuntimeError,  # of the AVIF decoder
    StructError,
    SyntaxError,
    TypeError,
    ValueError,
    zlib.error,
)
"""Exceptions of Pillow's parsers on damaged files."""

MAX_WEBP_SIDE_PX = 16_383
"""Maximum width and height of the WebP format."""

_VARIANT = re.compile("unknown pixel mode|unknown data organization|cannot handle|[Uu]nsupported")
"""What Pillow says of variants of a format that it does not read; a damaged header can look the same."""

_BITS, _PHOTOMETRIC, _SUBFILE_TYPE = 258, 262, 254  # TIFF tags
_WHITE_IS_ZERO = 0
_IS_REDUCED = 1

_PNG_XMP_KEYWORD = "XML:com.adobe.xmp"  # XMP specification, part 3

_UNSCALED_MODES = ("I", "F", "LAB", "La")  # the range of their values is not defined
_COLOURS = {"1": "L", "L": "L", "LA": "L", "CMYK": "CMYK"}
"""For Pillow's modes the one without transparency that an ICC profile can apply to; RGB for all others."""

Channel = Annotated[int, Field(ge=0, le=255)]


class ImageOptions(Options):
    """Limits on image files, and their conversion to RGB."""

    max_pixels: int = Field(64_000_000, gt=0, le=178_000_000)
    """Maximum width x height, checked before decoding (decompression bombs); Pillow's own limit is 178 million."""

    max_side_px: int = Field(30_000, gt=0)
    """Maximum width and height in pixels, checked before decoding."""

    min_side_px: int = Field(16, gt=0)
    """Minimum width and height in pixels; rejects tracking pixels and separator lines of web collections."""

    background: tuple[Channel, Channel, Channel] = (255, 255, 255)
    """RGB background colour under transparent pixels (alpha compositing), 0 to 255 each."""

    use_colour_profile: bool = True
    """Convert an embedded ICC profile to sRGB; a damaged profile, or one for other channels than the image has, is
    ignored, and so are the gAMA, cHRM and cICP chunks of PNG and the HDR curves of AVIF. Disable it for faster
    decoding."""


RENDERED = ImageOptions(min_side_px=1)
"""Options for images that this project rendered: they may be small."""


@dataclass(frozen=True)
class DecodedImage:
    """An upright sRGB image."""

    pixels: UInt8[np.ndarray, "height width 3"]
    stored_size_px: tuple[int, int]
    """Width and height before the EXIF orientation was applied (TIFF: after)."""
    format: str
    """Pillow's name of the file format, as `JPEG`."""


def decode(data: bytes, uri: str, options: ImageOptions) -> DecodedImage:
    """Decode the first frame of a JPEG, PNG, WebP, AVIF, GIF, BMP or TIFF file; the header's size is checked first.

    The contents count, not the name. The EXIF orientation is applied, transparency composited over the background, 16
    bits scaled to 8.

    Raises:
        BadItem: the file is empty, no image, damaged, cut short, outside a limit of the options, or its samples have
            no defined range.
    """
    if not data:
        raise BadItem("the file is empty (0 bytes): copy it again, or delete it", uri=uri)
    if name := unread_image(data, uri):
        raise BadItem(f"{name} is not read: convert it to PNG or JPEG, or delete it", uri=uri)
    reader = next((reader for at, magic, reader in _READERS if data[at : at + len(magic)] == magic), None)
    if reader is None:
        raise BadItem("not a JPEG, PNG, WebP, AVIF, GIF, BMP or TIFF image: convert it, or delete it", uri=uri)
    with _ignored_warnings:
        image, alpha = _load(reader, data, uri, options)
        stored_size_px = image.size
        for part in (image, alpha) if alpha else (image,):
            _apply_orientation(part)
        pixels = np.array(_to_rgb(image, alpha, uri, options))
    return DecodedImage(pixels, stored_size_px, str(image.format))


def resize_and_crop(
    pixels: UInt8[np.ndarray, "height width 3"], side_px: int
) -> UInt8[np.ndarray, "side_px side_px 3"]:
    """Centre crop, resized to `side_px` (bicubic, antialiased)."""
    height, width = pixels.shape[:2]
    side = min(height, width)
    left, top = (width - side) / 2, (height - side) / 2
    box = (left, top, left + side, top + side)
    return np.array(Image.fromarray(pixels).resize((side_px, side_px), Image.Resampling.BICUBIC, box))


def encode(
    pixels: UInt8[np.ndarray, "height width 3"],
    kind: Literal["png", "jpeg", "webp"],
    quality: int = 95,
    xmp: bytes | None = None,
) -> bytes:
    """Encode an image file; `quality` (1 to 100) applies to JPEG and WebP, `xmp` is an XMP packet to embed.

    Raises:
        ValueError: the packet exceeds the 64 kB that JPEG allows.
    """
    options: dict[str, Any] = {} if kind == "png" else {"quality": quality}
    if xmp is not None and kind == "png":
        options["pnginfo"] = PngInfo()
        options["pnginfo"].add_itxt(_PNG_XMP_KEYWORD, xmp.decode())
    elif xmp is not None:
        options["xmp"] = xmp
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind, **options)
    return file.getvalue()


class _IgnoredWarnings:
    """Context manager that ignores warnings of Pillow's parsers.

    Warning filters are shared by all threads, so the first thread to enter sets them and the last to leave restores
    them.
    """

    def __init__(self) -> None:
        self.lock, self.num_inside, self.filters = threading.Lock(), 0, warnings.catch_warnings()

    def __enter__(self) -> None:
        with self.lock:
            if not self.num_inside:
                self.filters = warnings.catch_warnings()
                self.filters.__enter__()
                warnings.simplefilter("ignore")
            self.num_inside += 1

    def __exit__(self, *_: object) -> None:
        with self.lock:
            self.num_inside -= 1
            if not self.num_inside:
                self.filters.__exit__(None, None, None)


_ignored_warnings = _IgnoredWarnings()


def _load(
    reader: type[ImageFile], data: bytes, uri: str, options: ImageOptions
) -> tuple[ImageFile, Image.Image | None]:
    """Check the size in the header, then decode the pixels; an alpha channel that Pillow has no mode for is apart."""
    try:
        whole = png.prepare(data) if reader is PngImageFile else png.Png(data)
        image = reader(io.BytesIO(whole.data))
        _check_size(image.size, uri, options)
        _check_is_whole(image, uri)
        area = image.tile[0].extents if image.tile else None
        image.load()
        alpha = _alpha_outside(area, image) if reader is GifImageFile else whole.alpha(image)
    except Image.DecompressionBombError as error:
        raise BadItem(f"too large ({error}): scale it down", uri=uri) from error
    except _READER_ERRORS as error:
        raise BadItem(_why_unreadable(error), uri=uri) from error
    if whole.profile:
        image.info["icc_profile"] = whole.profile
    if alpha:
        alpha.info = dict(image.info)  # with the orientation
    return image, alpha


def _why_unreadable(error: Exception) -> str:
    """The sentence for a file that Pillow cannot decode."""
    if _VARIANT.search(str(error)):
        return f"a variant of its format that is not read, or damaged ({error}): convert it to 8-bit PNG or JPEG"
    return f"the image is damaged or cut short ({error}): copy it again"


def _check_is_whole(image: ImageFile, uri: str) -> None:
    """Refuse a TIFF file that begins with a preview, as camera raw files do."""
    if isinstance(image, TiffImageFile) and int(image.tag_v2.get(_SUBFILE_TYPE, 0)) & _IS_REDUCED:
        raise BadItem("its first image is a preview, as in camera raw files: convert it to PNG or JPEG", uri=uri)


def _alpha_outside(area: tuple[int, int, int, int] | None, image: Image.Image) -> Image.Image | None:
    """The alpha channel of a GIF whose first frame leaves a part of the canvas empty; Pillow fills it with a colour."""
    if area is None or area == (0, 0, *image.size) or image.has_transparency_data:
        return None
    alpha = Image.new("L", image.size)
    alpha.paste(255, area)
    return alpha


def _check_size(size_px: tuple[int, int], uri: str, options: ImageOptions) -> None:
    """Check the limits that the header shows, before decoding."""
    width, height = size_px
    size = f"{width} x {height} pixels"
    if width * height > options.max_pixels:
        raise BadItem(f"{size} are more than {options.max_pixels}: scale it down, or raise max_pixels", uri=uri)
    if max(size_px) > options.max_side_px:
        limit = f"a side is longer than {options.max_side_px}"
        raise BadItem(f"{size}: {limit}: scale it down, or raise max_side_px", uri=uri)
    if min(size_px) < options.min_side_px:
        limit = f"a side is shorter than {options.min_side_px}"
        raise BadItem(f"{size}: {limit}: delete it, or lower min_side_px", uri=uri)


def _apply_orientation(image: Image.Image) -> None:
    """Apply the EXIF orientation in place; damaged EXIF is ignored."""
    with contextlib.suppress(*_READER_ERRORS):
        ImageOps.exif_transpose(image, in_place=True)


def _to_rgb(image: Image.Image, alpha: Image.Image | None, uri: str, options: ImageOptions) -> Image.Image:
    """Convert any Pillow mode to RGB."""
    profile = image.info.get("icc_profile") if options.use_colour_profile else None
    if image.mode.startswith("I;16"):
        image = _eight_bits(image)
    if image.mode in _UNSCALED_MODES:
        raise BadItem(f"mode {image.mode} has no defined range: convert it to 8-bit RGB or greyscale", uri=uri)
    if image.mode in ("P", "PA") and image.palette is None:
        raise BadItem("the image is damaged (its palette is missing): copy it again", uri=uri)
    if image.has_transparency_data:
        alpha = image.convert("RGBA").getchannel("A")
        if image.format == "BMP" and alpha.getextrema() == (0, 0):  # many writers leave the channel empty
            alpha = None
    image = image.convert(_COLOURS.get(image.mode, "RGB"))
    if isinstance(profile, bytes):
        image = _to_srgb(image, profile)
    image = image.convert("RGB")
    if alpha is None:
        return image
    image.putalpha(alpha)
    return Image.alpha_composite(Image.new("RGBA", image.size, options.background), image).convert("RGB")


def _eight_bits(image: Image.Image) -> Image.Image:
    """Scale 16-bit greyscale, or 12 bits of a TIFF file, to 8 bits; Pillow would clip it."""
    tags = image.tag_v2 if isinstance(image, TiffImageFile) else {}
    maximum = 2 ** int(tags.get(_BITS, (16,))[0]) - 1
    scaled = (np.asarray(image).astype(np.uint32) * 255 + maximum // 2) // maximum
    is_inverted = tags.get(_PHOTOMETRIC) == _WHITE_IS_ZERO
    return Image.fromarray((255 - scaled if is_inverted else scaled).astype(np.uint8))


def _to_srgb(image: Image.Image, profile: bytes) -> Image.Image:
    """Convert from an ICC profile to sRGB, unless it is damaged or for other channels than the image has."""
    try:
        embedded = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        if ImageCms.getProfileDescription(embedded).startswith("sRGB"):
            return image
        converted = ImageCms.profileToProfile(image, embedded, ImageCms.createProfile("sRGB"), outputMode="RGB")
    except (ImageCms.PyCMSError, OSError):
        return image
    return image if converted is None else converted
