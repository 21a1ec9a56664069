"""Photos: sizes for a model, feathered masks, and seamless compositing of edits."""

import numpy as np
import pytest

from aai.edit.composite import composite, feather_mask, finish, full_alpha, resize, size_for
from aai.edit.options import EditOptions

SIDE = 512
KEEPS = [(512, 512), (768, 512), (3000, 4000), (4000, 3000), (100, 150), (1080, 1920), (16, 64)]


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


def disc(side: int, radius: float) -> np.ndarray:
    down, across = np.mgrid[:side, :side] - (side - 1) / 2
    return (np.hypot(down, across) <= radius).astype(np.float32)


@pytest.mark.parametrize(("height", "width"), KEEPS)
def test_a_photo_gets_the_models_number_of_pixels_and_nearly_its_own_aspect_ratio(height, width):
    down, across = size_for(height, width, SIDE**2, 64)
    assert down % 64 == across % 64 == 0
    assert down * across == pytest.approx(SIDE**2, rel=0.2)
    assert abs(np.log((across / down) / (width / height))) < 0.2
    assert (down >= across) == (height >= width) or abs(height - width) < 64


def test_a_photo_of_the_models_size_keeps_it():
    assert size_for(SIDE, SIDE, SIDE**2, 64) == (SIDE, SIDE)
    assert size_for(768, 768, 768**2, 8) == (768, 768)


@pytest.mark.parametrize(("height", "width"), [(16, 30_000), (30_000, 16), (1, 1), (1, 10_000), (3, 2)])
def test_the_longest_photo_is_squeezed_into_no_more_pixels(height, width):
    down, across = size_for(height, width, SIDE**2, 64)
    assert down % 64 == across % 64 == 0 and min(down, across) >= 64
    assert down * across <= 1.2 * SIDE**2
    assert size_for(width, height, SIDE**2, 64) == (across, down)


def test_resizing_to_the_same_size_is_free_and_to_another_keeps_the_content():
    pixels = noise(40, 60, 3)
    assert resize(pixels, (40, 60)) is pixels
    half = np.zeros((40, 60, 3), np.uint8)
    half[:, 30:] = 200
    wider = resize(half, (20, 90))
    assert wider.shape == (20, 90, 3)
    assert (wider[:, :40] == 0).all() and (wider[:, 50:] == 200).all()


@pytest.mark.parametrize(("grow", "feather"), [(0.5, 1.0), (0.0, 0.5), (2.0, 3.0)])
def test_a_feathered_mask_is_1_inside_0_far_away_and_falls_in_between(grow, feather):
    size, times = 256, 8
    feathered = feather_mask(disc(32, 6), (size, size), grow, feather)
    inside = np.kron(disc(32, 6), np.ones((times, times))) > 0
    positions = np.argwhere(inside)
    middle = feathered[size // 2, : size // 2 + 1]  # from outside into the disc
    from_disc = (positions[positions[:, 0] == size // 2, 1].min() - np.arange(size // 2 + 1)) / times
    assert feathered.dtype == np.float32 and feathered.min() == 0 and feathered.max() == 1
    assert (feathered[inside] == 1).all()
    assert (feathered[0] == 0).all() and (middle[from_disc > grow + feather] == 0).all()
    assert (np.diff(middle) >= 0).all() and (middle[from_disc <= grow] == 1).all()
    between = (from_disc > grow) & (from_disc < grow + feather - 0.01)
    assert ((middle[between] > 0) & (middle[between] < 1)).all()
    assert np.diff(middle).max() <= 1 / (feather * times) + 1e-6


@pytest.mark.parametrize("size", [(64, 64), (37, 90), (8, 8), (5, 3)])
def test_a_mask_of_all_ones_or_zeros_is_unchanged(size):
    assert (feather_mask(np.ones((8, 8), np.float32), size, 0.0, 1.0) == np.ones(size)).all()
    assert (feather_mask(np.zeros((8, 8), np.float32), size, 2.0, 1.0) == np.zeros(size)).all()


def test_a_mask_keeps_its_position_in_a_picture_of_another_shape():
    mask = np.zeros((8, 16), np.float32)
    mask[:, 8:] = 1
    feathered = feather_mask(mask, (30, 320), 0.0, 1.0)
    assert (feathered[:, 160:] == 1).all() and (feathered[:, :139] == 0).all()


def test_pixels_outside_the_edit_are_the_photos():
    photo, edit, rebuilt = noise(90, 130, 3), noise(64, 96, 3, seed=1), noise(64, 96, 3, seed=2)
    assert (composite(photo, edit, rebuilt, np.zeros((64, 96), np.float32)) == photo).all()
    alpha = np.zeros((64, 96), np.float32)
    alpha[:, 48:] = 1
    result = composite(photo, edit, rebuilt, alpha)
    assert result.shape == photo.shape and result.dtype == np.uint8
    assert (result[:, :63] == photo[:, :63]).all() and (result[:, 68:] != photo[:, 68:]).any(axis=2).mean() > 0.9


def test_an_alpha_of_1_gives_the_edit():
    photo, edit, rebuilt = (noise(64, 96, 3, seed=seed) for seed in range(3))
    ones = np.ones((64, 96), np.float32)
    assert (composite(photo, edit, rebuilt, ones) == edit).all()
    larger = noise(130, 200, 3)
    assert (composite(larger, edit, rebuilt, ones) == resize(edit, (130, 200))).all()


def ramp(side: int) -> np.ndarray:
    return np.broadcast_to(np.linspace(0, 1, side, dtype=np.float32), (side, side))


def test_an_edit_without_changes_fades_into_the_photo_without_a_seam():
    """The VAE's loss, here 30 levels of brightness, is added back in proportion to 1 - alpha."""
    photo = np.full((64, 64, 3), 150, np.uint8)
    rebuilt = photo - 30
    result = composite(photo, rebuilt, rebuilt, ramp(64)).astype(int)
    assert (result[:, 0] == 150).all() and (result[:, -1] == 120).all()
    assert set(np.unique(np.diff(result, axis=1))) <= {0, -1}
    lost = 150 - result[:, :, 0]
    assert (lost <= 30 * ramp(64) ** 2 + 1).all()


def test_a_perfect_reconstruction_gives_the_photo():
    photo = noise(64, 64, 3)
    assert (composite(photo, photo, photo, ramp(64)) == photo).all()


@pytest.mark.parametrize("size", [(90, 130), (64, 96), (40, 50), (300, 200)])
def test_the_part_that_is_edited_is_that_of_the_whole_resized(size):
    photo, edit, rebuilt = noise(*size, 3), noise(64, 96, 3, seed=1), noise(64, 96, 3, seed=2)
    alpha = np.zeros((64, 96), np.float32)
    alpha[20:40, 50:70] = ramp(20)
    whole = full_alpha(alpha, size)
    weight = whole[:, :, None]
    restored = resize(edit, size) + (1 - weight) * (photo.astype(float) - resize(rebuilt, size))
    expected = np.where(weight > 0, (weight * restored.clip(0, 255) + (1 - weight) * photo).round(), photo)
    assert np.abs(composite(photo, edit, rebuilt, alpha) - expected).max() <= 1
    assert ((whole > 0).any(1).sum(), (whole > 0).any(0).sum()) < size


def test_pixels_stay_in_their_range():
    white, black = np.full((8, 8, 3), 255, np.uint8), np.zeros((8, 8, 3), np.uint8)
    half = np.full((8, 8), 0.5, np.float32)
    assert (composite(white, white, black, half) == 255).all()
    assert (composite(black, black, white, half) == 0).all()


@pytest.mark.parametrize("preserve", ["pixels", "latents", "none"])
def test_only_preserve_pixels_composites(preserve):
    photo, edit, rebuilt = noise(100, 150, 3), noise(64, 96, 3, seed=1), noise(64, 96, 3, seed=2)
    mask = np.zeros((8, 12), np.float32)
    mask[:, 9:] = 1
    result = finish(photo, edit, rebuilt, mask, EditOptions(preserve=preserve, grow=0.5, feather=1))
    assert result.shape == photo.shape
    if preserve == "pixels":
        assert (result[:, :90] == photo[:, :90]).all()
        assert (result[:, 120:] == resize(edit, (100, 150))[:, 120:]).all()
    else:
        assert (result == resize(edit, (100, 150))).all()


def test_a_users_mask_limits_the_changes():
    photo, edit, rebuilt = noise(100, 150, 3), noise(64, 96, 3, seed=1), noise(64, 96, 3, seed=2)
    allowed = np.zeros((100, 150), np.float32)
    allowed[30:61, 40:83] = 1
    result = finish(photo, edit, rebuilt, np.ones((8, 12), np.float32), EditOptions(grow=3), allowed)
    assert (result[allowed == 0] == photo[allowed == 0]).all()
    assert (result[allowed == 1] == resize(edit, (100, 150))[allowed == 1]).all()
