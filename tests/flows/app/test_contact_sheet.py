"""The contact sheet: for each label its weakest and its strongest clip, with their pictures."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from aai.errors import BadItem
from aai.tiny.canvas import SIZE_PX
from flows.app.contact_sheet import sheet
from tasks.runtime.run import Run
from tests.gallery import JOBS, SOUNDS, make_gallery

LABELLED = [sound for sound in SOUNDS if sound.label]
NUM_LABELS, NUM_COLUMNS = 2, 2 * (2 + len(JOBS))


@pytest.fixture
def gallery(tmp_path) -> Run:
    return make_gallery(tmp_path / "gallery", LABELLED)


def pixels_of(path: Path) -> np.ndarray:
    with Image.open(path) as picture:
        return np.asarray(picture.convert("RGB")).astype(int)


def test_it_has_a_row_for_each_label_and_two_clips_in_a_row(gallery, tmp_path):
    sheet(gallery, tmp_path / "sheet.webp", list(JOBS))
    height, width, _ = pixels_of(tmp_path / "sheet.webp").shape
    assert height >= NUM_LABELS * SIZE_PX and width >= NUM_COLUMNS * SIZE_PX


def test_a_job_without_pictures_leaves_its_cells_white(gallery, tmp_path):
    sheet(gallery, tmp_path / "all.webp", ["noun"])
    sheet(gallery, tmp_path / "none.webp", ["unknown"])
    whole, empty = pixels_of(tmp_path / "all.webp"), pixels_of(tmp_path / "none.webp")
    assert whole.shape == empty.shape and (empty > 250).all(axis=2).sum() > (whole > 250).all(axis=2).sum() + 1_000


def test_a_recording_that_is_gone_is_named(gallery, tmp_path):
    [path] = (tmp_path / "gallery" / "sounds").glob("drizzle.flac")
    path.unlink()
    with pytest.raises(BadItem) as error:
        sheet(gallery, tmp_path / "sheet.webp", list(JOBS))
    assert error.value.uri == str(path)
