"""Compositing: photos resized for a model, and edits composited into them at full size.

Outside the mask the result keeps the photo's own pixels: the VAE loses fine detail.
"""

import math

import numpy as np
from jaxtyping import Bool, Float, UInt8
from PIL import Image
from scipy.ndimage import distance_transform_edt

from aai.edit.options import EditOptions

_RESAMPLING = Image.Resampling.LANCZOS
_MAX_PSNR_DB = 100.0
"""Stands for equal pixels, whose PSNR is infinite: tables hold finite numbers."""


def size_for(height: int, width: int, num_pixels: int, multiple_of: int) -> tuple[int, int]:
    """The height and width at which a model edits a photo: about `num_pixels` in nearly the photo's aspect ratio.

    Each side is at least `multiple_of`, so a very long photo is squeezed; `composite` reverses that.
    """
    scale = math.sqrt(num_pixels / (height * width))
    down, across = (max(1, round(side * scale / multiple_of)) * multiple_of for side in (height, width))
    longest = num_pixels // multiple_of
    return min(down, longest), min(across, longest)


def resize(pixels: UInt8[np.ndarray, "_ _ 3"], size: tuple[int, int]) -> UInt8[np.ndarray, "height width 3"]:
    """Resize an image to (height, width)."""
    return pixels if pixels.shape[:2] == size else np.array(Image.fromarray(pixels).resize(size[::-1], _RESAMPLING))


def feather_mask(
    mask: Float[np.ndarray, "_ _"], size: tuple[int, int], grow: float, feather: float
) -> Float[np.ndarray, "height width"]:
    """A binary mask resized, dilated by `grow` and faded to 0 over `feather`, both in pixels of `mask`."""
    shape = np.array(mask.shape)
    centres = [(np.arange(side) + 0.5) * mask_side / side for side, mask_side in zip(size, shape, strict=True)]
    inside = mask[np.ix_(*(axis.astype(int) for axis in centres))] > 0.5
    if inside.all() or not inside.any():
        return inside.astype(np.float32)
    distance = distance_transform_edt(~inside, sampling=shape / size)
    return np.clip((grow + feather - distance) / feather, 0, 1).astype(np.float32)


def composite(
    photo: UInt8[np.ndarray, "height width 3"],
    edit: UInt8[np.ndarray, "_ _ 3"],
    rebuilt: UInt8[np.ndarray, "_ _ 3"],
    alpha: Float[np.ndarray, "_ _"],
) -> UInt8[np.ndarray, "height width 3"]:
    """Alpha-composite an edit over its photo; where `alpha` is 0, the photo's pixels are unchanged.

    `edit` and `alpha`, from 0 to 1, may have other sizes. `rebuilt` is the photo after a round trip through the VAE: in
    the feathered border, the detail that the VAE lost is added back to the edit in proportion to 1 - alpha, so that no
    seam shows.
    """
    if not alpha.any():
        return photo
    box = _box(alpha, photo.shape[:2])
    weight, result = _cut(alpha, photo.shape[:2], box, Image.Resampling.BILINEAR).clip(0, 1)[:, :, None], photo.copy()
    original = photo[box].astype(np.float32)
    restored = _cut(edit, photo.shape[:2], box) + (1 - weight) * (original - _cut(rebuilt, photo.shape[:2], box))
    blended = weight * restored.clip(0, 255) + (1 - weight) * original
    result[box] = np.where(weight > 0, blended.round(), original)
    return result


def full_alpha(alpha: Float[np.ndarray, "_ _"], size: tuple[int, int]) -> Float[np.ndarray, "height width"]:
    """The alpha values of `composite` at the size (height, width) of a photo."""
    whole = slice(0, size[0]), slice(0, size[1])
    return _cut(alpha, size, whole, Image.Resampling.BILINEAR).clip(0, 1)


def _box(alpha: np.ndarray, size: tuple[int, int]) -> tuple[slice, slice]:
    """The part of an image of this size that alpha values of another size reach."""
    sides = []
    for indices, num, full in zip(alpha.nonzero(), alpha.shape, size, strict=True):
        scale, margin = full / num, max(1.0, num / full)
        first, last = (indices.min() - margin) * scale, (indices.max() + 1 + margin) * scale
        sides.append(slice(max(0, math.floor(first)), min(full, math.ceil(last))))
    return sides[0], sides[1]


def _cut(
    pixels: np.ndarray, size: tuple[int, int], box: tuple[slice, slice], resampling: Image.Resampling = _RESAMPLING
) -> np.ndarray:
    """A part of an image resized to (height, width): nothing else is resized."""
    if pixels.shape[:2] == size:
        return pixels[box]
    down, across = pixels.shape[0] / size[0], pixels.shape[1] / size[1]
    rows, columns = box
    part = (columns.start * across, rows.start * down, columns.stop * across, rows.stop * down)
    lengths = columns.stop - columns.start, rows.stop - rows.start
    return np.array(Image.fromarray(pixels).resize(lengths, resampling, box=part))


def preserved_db(
    source: UInt8[np.ndarray, "height width 3"],
    picture: UInt8[np.ndarray, "height width 3"],
    outside: Bool[np.ndarray, "height width"],
) -> float:
    """PSNR of an edit against its source outside the mask, in dB; at most 100, and NaN where all is inside."""
    if not outside.any():
        return math.nan
    error = np.square(source[outside].astype(np.float64) - picture[outside]).mean()
    return _MAX_PSNR_DB if error == 0 else min(_MAX_PSNR_DB, 10 * math.log10(255**2 / error))


def finish(
    photo: UInt8[np.ndarray, "height width 3"],
    edit: UInt8[np.ndarray, "_ _ 3"],
    rebuilt: UInt8[np.ndarray, "_ _ 3"],
    mask: Float[np.ndarray, "_ _"],
    options: EditOptions,
    allowed: Float[np.ndarray, "_ _"] | None = None,
) -> UInt8[np.ndarray, "height width 3"]:
    """Turn a model's edit into the final image, at the size of its source.

    `mask` is the edit mask in latent pixels. A generated source is both `photo` and `rebuilt`. A user's mask `allowed`,
    from 0 to 1 and of any size, replaces the feathered edit mask as alpha.
    """
    if options.preserve != "pixels":
        return resize(edit, photo.shape[:2])
    return composite(photo, edit, rebuilt, alpha_of(mask, edit.shape[:2], options, allowed))


def alpha_of(
    mask: Float[np.ndarray, "_ _"],
    size: tuple[int, int],
    options: EditOptions,
    allowed: Float[np.ndarray, "_ _"] | None = None,
) -> Float[np.ndarray, "_ _"]:
    """How much of an edit shows where, from 0 to 1: a user's mask, else the edit mask, feathered, at a size."""
    return feather_mask(mask, size, options.grow, options.feather) if allowed is None else allowed
