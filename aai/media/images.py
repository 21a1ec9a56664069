"""Image files become RGB pixels, upright and of known colours, and pixels become files again."""

import io
import threading
import warnings
import zlib
from dataclasses import dataclass
from struct import error as StructError
from typing import Annotated, Any, Literal

import numpy as np
from jaxtyping import UInt8
from PIL import ExifTags, Image, ImageCms
from PIL.BmpImagePlugin import BmpImageFile
from PIL.GifImagePlugin import GifImageFile
from PIL.ImageFile import ImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile, PngInfo
from PIL.TiffImagePlugin import TiffImageFile
from PIL.WebPImagePlugin import WebPImageFile
from pydantic import Field

from aai.errors import BadItem
from aai.options import Options

_READERS: tuple[tuple[int, bytes, type[ImageFile]], ...] = (
    (0, b"\xff\xd8\xff", JpegImageFile),
    (0, b"\x89PNG\r\n\x1a\n", PngImageFile),
    (8, b"WEBP", WebPImageFile),
    (0, b"GIF8", GifImageFile),
    (0, b"BM", BmpImageFile),
    (0, b"II*\0", TiffImageFile),
    (0, b"MM\0*", TiffImageFile),
)
"""The formats that are read: offset, magic bytes, reader.

The readers are called themselves, for `PIL.Image.open` asks all of Pillow's formats and applies Pillow's own limit.
"""

_READER_ERRORS = (
    EOFError,
    IndexError,
    KeyError,
    OSError,
    OverflowError,
    StructError,
    SyntaxError,
    TypeError,
    ValueError,
    zlib.error,
)
"""What Pillow's readers raise over damaged files: their parsers do not translate the errors of Python."""

_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What undoes an EXIF orientation."""

MOST_WEBP_SIDE_PX = 16_383
"""No picture that is wider or higher can be a WebP."""

_XMP_IN_PNG = "XML:com.adobe.xmp"  # the keyword that the XMP specification, part 3, gives it

_UNSCALED_MODES = ("I", "F", "LAB", "La")
_PROFILE_MODES = ("L", "RGB", "RGBA", "CMYK")

Channel = Annotated[int, Field(ge=0, le=255)]


class ImageOptions(Options):
    """Which images are taken, and how they become RGB."""

    max_pixels: int = Field(64_000_000, gt=0, le=178_000_000)
    """An image with more pixels is rejected before it is decoded; above the bound Pillow itself may refuse."""

    max_side_px: int = Field(30_000, gt=0)
    """An image that is wider or higher is rejected before it is decoded."""

    min_side_px: int = Field(16, gt=0)
    """An image that is narrower or lower is rejected: a tracking pixel or a rule, no picture."""

    background: tuple[Channel, Channel, Channel] = (255, 255, 255)
    """The RGB colour behind transparent pixels."""

    use_colour_profile: bool = True
    """Whether an embedded ICC profile is applied, so that the pixels are sRGB; a damaged one is ignored."""


RENDERED = ImageOptions(min_side_px=1)
"""For pictures that were rendered here: a small one is no tracking pixel."""


@dataclass(frozen=True)
class DecodedImage:
    """An image as it is meant to be seen, in sRGB; its width and height before it was turned (of TIFF: after)."""

    pixels: UInt8[np.ndarray, "height width 3"]
    stored_size_px: tuple[int, int]


def decode(data: bytes, uri: str, options: ImageOptions) -> DecodedImage:
    """Read a JPEG, PNG, WebP, GIF, BMP or TIFF file, the first frame of several; the header is checked first.

    EXIF orientation is applied, transparency laid over the background, 16 bits become 8.

    Raises:
        BadItem: the file is empty, no image, damaged, cut short, outside a limit of the options, or has samples of
            unknown range; the message says which and begins with `uri`.
    """
    if not data:
        raise BadItem(f"{uri}: the file is empty (0 bytes): copy it again, or delete it")
    reader = next((reader for at, magic, reader in _READERS if data[at : at + len(magic)] == magic), None)
    if reader is None:
        raise BadItem(f"{uri}: not a JPEG, PNG, WebP, GIF, BMP or TIFF image: convert it, or delete it")
    with _quiet:
        image = _load(reader, data, uri, options)
        pixels = np.array(_to_rgb(_upright(image), uri, options))
    return DecodedImage(pixels, image.size)


def format_of(data: bytes) -> str:
    """The format of an image file that `decode` reads, as JPEG."""
    return next(str(reader.format) for at, magic, reader in _READERS if data[at : at + len(magic)] == magic)


def resize_and_crop(
    pixels: UInt8[np.ndarray, "height width 3"], side_px: int
) -> UInt8[np.ndarray, "side_px side_px 3"]:
    """The central square, scaled to `side_px` (bicubic, antialiased)."""
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
    """The bytes of an image file; `quality`, from 1 to 100, is that of JPEG and WebP, PNG loses nothing.

    `xmp` is a packet of metadata that goes into the file.

    Raises:
        ValueError: the packet is larger than 64 kB and the file a JPEG.
    """
    options: dict[str, Any] = {} if kind == "png" else {"quality": quality}
    if xmp is not None and kind == "png":
        options["pnginfo"] = PngInfo()
        options["pnginfo"].add_itxt(_XMP_IN_PNG, xmp.decode())
    elif xmp is not None:
        options["xmp"] = xmp
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind, **options)
    return file.getvalue()


class _Quiet:
    """Leaves out the warnings of Pillow's parsers: what is unusable is an error, the rest is of no interest.

    Filters belong to all threads, so the first decoder to come sets them and the last to go puts them back.
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


_quiet = _Quiet()


def _load(reader: type[ImageFile], data: bytes, uri: str, options: ImageOptions) -> ImageFile:
    """Decode the pixels, once the header has been looked at."""
    try:
        image = reader(io.BytesIO(data))
        _check_size(image.size, uri, options)
        image.load()
    except Image.DecompressionBombError as error:
        raise BadItem(f"{uri}: too large ({error}): scale it down") from error
    except _READER_ERRORS as error:
        raise BadItem(f"{uri}: the image is damaged or cut short ({error}): copy it again") from error
    return image


def _check_size(size_px: tuple[int, int], uri: str, options: ImageOptions) -> None:
    """Refuse what is outside the limits before a pixel is decoded."""
    width, height = size_px
    size = f"{width} x {height}"
    if width * height > options.max_pixels:
        raise BadItem(f"{uri}: {size} pixels are more than {options.max_pixels}: scale it down, or raise max_pixels")
    if max(size_px) > options.max_side_px:
        limit = f"a side is longer than {options.max_side_px}"
        raise BadItem(f"{uri}: {size} pixels: {limit}: scale it down, or raise max_side_px")
    if min(size_px) < options.min_side_px:
        limit = f"a side is shorter than {options.min_side_px}"
        raise BadItem(f"{uri}: {size} pixels: {limit}: delete it, or lower min_side_px")


def _upright(image: Image.Image) -> Image.Image:
    """Undo the EXIF orientation; where EXIF is damaged, the image stays as it is."""
    try:
        orientation = image.getexif().get(ExifTags.Base.Orientation)
    except _READER_ERRORS:
        return image
    turn = _UPRIGHT.get(orientation) if isinstance(orientation, int) else None
    return image if turn is None else image.transpose(turn)


def _to_rgb(image: Image.Image, uri: str, options: ImageOptions) -> Image.Image:
    """Bring any mode of Pillow to RGB."""
    if image.mode.startswith("I;16"):
        image = _eight_bits(image)
    if image.mode in _UNSCALED_MODES:
        raise BadItem(f"{uri}: pixels of kind {image.mode} have no known range: store them as 8-bit RGB or grey")
    if image.mode in ("P", "PA") and image.palette is None:
        raise BadItem(f"{uri}: the image is damaged (its palette is missing): copy it again")
    profile = image.info.get("icc_profile") if options.use_colour_profile else None
    if image.has_transparency_data:
        image = image.convert("RGBA")
    elif image.mode not in _PROFILE_MODES:
        image = image.convert("RGB")
    if isinstance(profile, bytes):
        image = _to_srgb(image, profile)
    if image.mode == "RGBA":
        background = Image.new("RGBA", image.size, options.background)
        image = Image.alpha_composite(background, image)
    return image.convert("RGB")


def _eight_bits(image: Image.Image) -> Image.Image:
    """Scale 16-bit grey to 8 bits: Pillow would clip it."""
    scaled = (np.asarray(image).astype(np.uint32) + 128) // 257
    return Image.fromarray(scaled.astype(np.uint8))


def _to_srgb(image: Image.Image, profile: bytes) -> Image.Image:
    """Apply an ICC profile, unless it is damaged or made for other channels than the image has."""
    try:
        embedded = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        if ImageCms.getProfileDescription(embedded).startswith("sRGB"):
            return image
        mode = "RGBA" if image.mode == "RGBA" else "RGB"
        converted = ImageCms.profileToProfile(image, embedded, ImageCms.createProfile("sRGB"), outputMode=mode)
    except (ImageCms.PyCMSError, OSError):
        return image
    return image if converted is None else converted
