"""Sheets of the gallery."""

import numpy as np

from aai.tiny.canvas import SIZE_PX
from aai.tiny.gallery import edit_rows, edits_sheet
from aai.tiny.vocabulary import PHENOMENA
from aai.tiny.world import load_world


def test_edits_change_the_source_mainly_inside_the_mask(monkeypatch):
    monkeypatch.setattr("aai.tiny.gallery.PHENOMENA", PHENOMENA[:1])
    [row] = edit_rows(load_world(), photos=True)
    assert len(row) == 8 and all(image.shape == (SIZE_PX, SIZE_PX, 3) for image in row)
    for source, edit, difference, mask in (row[:4], row[4:]):
        assert np.array_equal(difference > 0, edit != source)
        assert difference[mask > 127].mean() > 2 * difference[mask <= 127].mean()
    assert edits_sheet([row], PHENOMENA[:1], "photo").width > 8 * SIZE_PX
