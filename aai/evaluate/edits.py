"""How much of its source an edit keeps outside its mask. Pictures are RGB, 0 to 255; masks are true where edited."""

import math

import numpy as np
from jaxtyping import Bool, Float, UInt8

_MAX = 255.0
_K1, _K2, _SIGMA, _TRUNCATE = 0.01, 0.03, 1.5, 3.5  # of SSIM: windows of 11 x 11 pixels
_BORDER = 5

Picture = UInt8[np.ndarray, "height width 3"]
Mask = Bool[np.ndarray, "height width"]


def psnr_outside(edit: Picture, source: Picture, mask: Mask) -> float:
    """PSNR over the pixels outside the mask, in dB; infinite if they are equal, NaN if the mask covers all.

    Reference code of Direct Inversion multiplies both with the inverse mask and averages over the whole frame, which
    adds 10 log10(1 / share outside).
    """
    outside = ~mask
    if not outside.any():
        return math.nan
    error = ((edit[outside].astype(float) - source[outside]) ** 2).mean()
    return math.inf if error == 0 else float(10 * np.log10(_MAX**2 / error))


def ssim_outside(edit: Picture, source: Picture, mask: Mask) -> float:
    """Structural similarity with Gaussian windows, averaged over the pixels outside the mask that whole windows have.

    Source: Wang et al. 2004, "Image Quality Assessment", section III.B.
    """
    inner = (slice(_BORDER, -_BORDER), slice(_BORDER, -_BORDER))
    outside = ~mask[inner]
    if not outside.any():
        return math.nan
    channels = [_ssim_map(edit[..., index].astype(float), source[..., index].astype(float)) for index in range(3)]
    return float(np.mean([values[inner][outside].mean() for values in channels]))


def patch_distance(
    edit: Float[np.ndarray, "layers patches dim"],
    source: Float[np.ndarray, "layers patches dim"],
    outside: Float[np.ndarray, " patches"],
) -> float:
    """Distance of unit-length patch features of some layers, averaged over layers and what is outside the mask.

    `outside` is the share of each patch that is outside the mask. As in LPIPS, squared differences are summed over
    channels; the weights are all 1.
    """
    if not outside.sum():
        return math.nan
    difference = ((_unit(edit) - _unit(source)) ** 2).sum(axis=-1)
    return float((difference * outside).sum(axis=-1).mean() / outside.sum())


def structure_distance(edit: Float[np.ndarray, "patches dim"], source: Float[np.ndarray, "patches dim"]) -> float:
    """Mean squared difference of the cosine self-similarities of the patches.

    Source: Tumanyan et al. 2022, "Splicing ViT Features", eq. 4; with the image encoder's patches in place of DINO's.
    """
    a, b = _unit(edit), _unit(source)
    return float(((a @ a.T - b @ b.T) ** 2).mean())


def mask_iou(mask: Mask, truth: Mask) -> float:
    """Intersection over union; NaN if both are empty."""
    union = (mask | truth).sum()
    return float((mask & truth).sum() / union) if union else math.nan


def _ssim_map(a: Float[np.ndarray, "height width"], b: Float[np.ndarray, "height width"]) -> np.ndarray:
    from scipy.ndimage import gaussian_filter  # takes a while to import, and only evaluations need it

    def smooth(values: np.ndarray) -> np.ndarray:
        blurred: np.ndarray = gaussian_filter(values, _SIGMA, truncate=_TRUNCATE)
        return blurred

    mean_a, mean_b = smooth(a), smooth(b)
    var_a, var_b = smooth(a * a) - mean_a**2, smooth(b * b) - mean_b**2
    covariance = smooth(a * b) - mean_a * mean_b
    c1, c2 = (_K1 * _MAX) ** 2, (_K2 * _MAX) ** 2
    found: np.ndarray = ((2 * mean_a * mean_b + c1) * (2 * covariance + c2)) / (
        (mean_a**2 + mean_b**2 + c1) * (var_a + var_b + c2)
    )
    return found


def _unit(features: np.ndarray) -> np.ndarray:
    lengths = np.linalg.norm(features, axis=-1, keepdims=True)
    unit: np.ndarray = features / np.maximum(lengths, 1e-12)
    return unit
