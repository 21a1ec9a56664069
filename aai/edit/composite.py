"""Photos: brought to a size that a model takes, and edits put back into them.

What an edit leaves alone is the photo's own pixels: a way through a model's latents loses what is fine in them.
"""

import math

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image
from scipy.ndimage import distance_transform_edt

from aai.edit.options import EditOptions

_SMOOTH = Image.Resampling.LANCZOS


def size_for(height: int, width: int, num_pixels: int, multiple_of: int) -> tuple[int, int]:
    """Down and across of a photo as a model takes it: as many pixels as it was made for, in nearly the photo's shape.

    The shorter side is one `multiple_of` at least, so a very long photo is squeezed; `put_back` undoes that.
    """
    scale = math.sqrt(num_pixels / (height * width))
    down, across = (max(1, round(side * scale / multiple_of)) * multiple_of for side in (height, width))
    longest = num_pixels // multiple_of
    return min(down, longest), min(across, longest)


def resized(pixels: UInt8[np.ndarray, "_ _ 3"], size: tuple[int, int]) -> UInt8[np.ndarray, "height width 3"]:
    """A picture at another size, given as down and across."""
    return pixels if pixels.shape[:2] == size else np.array(Image.fromarray(pixels).resize(size[::-1], _SMOOTH))


def soften(
    mask: Float[np.ndarray, "_ _"], size: tuple[int, int], grow: float, feather: float
) -> Float[np.ndarray, "height width"]:
    """A mask at a picture's size, grown, and falling to 0 beyond; `grow` and `feather` are in the mask's own pixels.

    Farther from the mask than both together it is 0.
    """
    shape = np.array(mask.shape)
    centres = [(np.arange(side) + 0.5) * known / side for side, known in zip(size, shape, strict=True)]
    inside = mask[np.ix_(*(each.astype(int) for each in centres))] > 0.5
    if inside.all() or not inside.any():
        return inside.astype(np.float32)
    distance = distance_transform_edt(~inside, sampling=shape / size)
    return np.clip((grow + feather - distance) / feather, 0, 1).astype(np.float32)


def put_back(
    photo: UInt8[np.ndarray, "height width 3"],
    edit: UInt8[np.ndarray, "_ _ 3"],
    rebuilt: UInt8[np.ndarray, "_ _ 3"],
    alpha: Float[np.ndarray, "_ _"],
) -> UInt8[np.ndarray, "height width 3"]:
    """A photo in which its edit stands as far as `alpha` says, from 0 to 1; where that is 0, the photo's own pixels.

    `edit` and `alpha` may be of other sizes. `rebuilt` is what the model makes of the photo without an edit: as much of
    what it loses comes back to the edit as the photo counts there, or a seam would show.
    """
    size = photo.shape[:2]
    share = np.array(Image.fromarray(alpha).resize(size[::-1], Image.Resampling.BILINEAR)).clip(0, 1)
    part = tuple(slice(places.min(), places.max() + 1) for places in share.nonzero()) if share.any() else ()
    if not part:
        return photo
    share, made = share[part][:, :, None], photo.copy()
    own = photo[part].astype(np.float32)
    changed = resized(edit, size)[part] + (1 - share) * (own - resized(rebuilt, size)[part])
    mixed = share * changed.clip(0, 255) + (1 - share) * own
    made[part] = np.where(share > 0, mixed.round(), own)
    return made


def finish(
    photo: UInt8[np.ndarray, "height width 3"],
    edit: UInt8[np.ndarray, "_ _ 3"],
    rebuilt: UInt8[np.ndarray, "_ _ 3"],
    mask: Float[np.ndarray, "_ _"],
    options: EditOptions,
    allowed: Float[np.ndarray, "_ _"] | None = None,
) -> UInt8[np.ndarray, "height width 3"]:
    """An edit as a model makes it becomes a picture of its source's size, which keeps what the options say.

    `mask` is 1 where the edit is, in latents. A generated source is its own `photo` and `rebuilt`. Where `allowed` says
    how much of the edit is wanted, from 0 to 1 and at any size, that alone counts: the seam is as soft as its edges.
    """
    if options.preserve != "pixels":
        return resized(edit, photo.shape[:2])
    alpha = soften(mask, edit.shape[:2], options.grow, options.feather) if allowed is None else allowed
    return put_back(photo, edit, rebuilt, alpha)
