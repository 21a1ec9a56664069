"""The paper's figures: a row per clip, and in the columns what their heads say."""

import numpy as np
import pytest

from aai.tiny import figures
from aai.tiny.canvas import SIZE_PX
from aai.tiny.vocabulary import PHENOMENA
from aai.tiny.world import RENDER, load_world

CELL_PX, SIDE_PX = 2 * SIZE_PX + 3, 92
CELLS = {"generation": (1, 5), "edits": (1, 8), "styles": (1, 6), "degrees": (1, 6), "audio": (2, 7)}


@pytest.fixture
def _quick(monkeypatch):
    monkeypatch.setattr(figures, "_OPTIONS", RENDER.model_copy(update={"steps": 1}))
    monkeypatch.setattr(figures, "_INVERSION", figures._INVERSION.model_copy(update={"steps": 1, "eval_rows": 1}))


def cell(sheet: np.ndarray, row: int, column: int) -> np.ndarray:
    rows = -(CELLS["audio"][0] - row) * CELL_PX
    top, left = sheet.shape[0] + rows, SIDE_PX + column * CELL_PX
    return sheet[top : top + 2 * SIZE_PX, left : left + 2 * SIZE_PX]


@pytest.mark.usefixtures("_quick")
@pytest.mark.parametrize("name", list(CELLS)[:-1])
def test_a_figure_has_a_row_for_each_clip(name):
    rows, columns = CELLS[name]
    sheet = figures._SHEETS[name](load_world(), PHENOMENA[:1])
    assert sheet.width == SIDE_PX + columns * CELL_PX and 0 < sheet.height - rows * CELL_PX < 60


@pytest.mark.usefixtures("_quick")
def test_a_label_draws_the_same_for_weak_and_strong_clips_and_a_cue_does_not():
    sheet = np.asarray(figures.audio_sheet(load_world(), PHENOMENA[:1]))
    assert sheet.shape[1] == SIDE_PX + CELLS["audio"][1] * CELL_PX
    for label, heard in ((2, 1), (5, 4)):
        assert np.array_equal(cell(sheet, 0, label), cell(sheet, 1, label))
        assert not np.array_equal(cell(sheet, 0, heard), cell(sheet, 1, heard))
