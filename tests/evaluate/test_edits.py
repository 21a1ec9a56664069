"""Metrics of edits against scikit-image, or calculated by hand."""

import math

import numpy as np
import pytest

from aai.evaluate.edits import mask_iou, patch_distance, psnr_outside, ssim_outside, structure_distance

RNG = np.random.default_rng(7)
SOURCE = RNG.integers(0, 256, size=(48, 40, 3), dtype=np.uint8)
EDIT = np.clip(SOURCE.astype(int) + RNG.integers(-40, 41, size=SOURCE.shape), 0, 255).astype(np.uint8)
NOTHING = np.zeros((48, 40), bool)


def test_psnr_and_ssim_are_those_of_scikit_image():
    """Recorded with scikit-image 0.26.0: Gaussian weights, sigma 1.5, no sample covariance."""
    assert psnr_outside(EDIT, SOURCE, NOTHING) == pytest.approx(21.13625213044329, abs=1e-4)
    assert ssim_outside(EDIT, SOURCE, NOTHING) == pytest.approx(0.9542013475701826, abs=1e-4)


def test_what_is_inside_the_mask_does_not_count():
    mask = NOTHING.copy()
    mask[:20] = True
    changed = SOURCE.copy()
    changed[:15] = 255 - changed[:15]
    assert psnr_outside(changed, SOURCE, mask) == math.inf
    assert ssim_outside(changed, SOURCE, mask) == pytest.approx(1)
    assert psnr_outside(changed, SOURCE, NOTHING) < 20
    for metric in (psnr_outside, ssim_outside):
        assert math.isnan(metric(changed, SOURCE, ~NOTHING))


def test_psnr_is_over_the_background_alone_and_not_the_whole_frame():
    mask, edit = NOTHING.copy(), np.full_like(SOURCE, 100)
    mask[:24] = True
    edit[24:] = 110
    assert psnr_outside(edit, np.full_like(SOURCE, 100), mask) == pytest.approx(10 * np.log10(255**2 / 100))


def test_patches_are_compared_as_unit_vectors_where_they_are_outside():
    source = np.array([[[1.0, 0.0], [0.0, 2.0]]])
    edit = np.array([[[3.0, 0.0], [5.0, 0.0]]])
    assert patch_distance(edit, source, np.array([1.0, 0.0])) == pytest.approx(0)
    assert patch_distance(edit, source, np.array([1.0, 1.0])) == pytest.approx(1)  # squared distances 0 and 2
    assert math.isnan(patch_distance(edit, source, np.zeros(2)))


def test_structure_is_the_self_similarity_of_patches():
    source, edit = np.array([[1.0, 0.0], [0.0, 1.0]]), np.array([[2.0, 0.0], [1.0, 1.0]])
    assert structure_distance(edit, source) == pytest.approx(2 * 0.5 / 4)  # cosines 0 and 1/sqrt(2)
    turned = np.array([[0.0, 1.0], [-1.0, 0.0]])
    assert structure_distance(source @ turned, source) == pytest.approx(0)


def test_intersection_over_union():
    mask, truth = NOTHING.copy(), NOTHING.copy()
    mask[:10], truth[5:15] = True, True
    assert mask_iou(mask, truth) == pytest.approx(1 / 3)
    assert math.isnan(mask_iou(NOTHING, NOTHING))
