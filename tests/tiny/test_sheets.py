"""Contact sheets."""

import numpy as np

from aai.tiny.canvas import SIZE_PX
from aai.tiny.sheets import contact_sheet, scenes_sheet, spectrogram, tones_sheet, uses_sheet
from aai.tiny.sounds import SAMPLE_RATE_HZ
from aai.tiny.vocabulary import BACKGROUNDS, PHENOMENA

RED, BLUE = (np.broadcast_to(np.uint8(colour), (SIZE_PX, SIZE_PX, 3)) for colour in ((255, 0, 0), (0, 0, 255)))


def test_images_are_in_their_cells():
    sheet = np.asarray(contact_sheet([[RED, BLUE], [BLUE]], ["one", "two"], ["a", "b"], scale=1))
    is_red, is_blue = ((sheet == colour).all(axis=2) for colour in ((255, 0, 0), (0, 0, 255)))
    assert is_red.sum() == SIZE_PX**2 and is_blue.sum() == 2 * SIZE_PX**2
    assert is_red.any(axis=0).argmax() == is_blue[SIZE_PX + 40 :].any(axis=0).argmax()


def test_a_spectrogram_has_the_size_of_an_image_and_high_tones_are_higher():
    time_s = np.arange(5 * SAMPLE_RATE_HZ) / SAMPLE_RATE_HZ
    low, high = (spectrogram(np.sin(2 * np.pi * hertz * time_s).astype(np.float32)) for hertz in (200, 4000))
    assert low.shape == high.shape == (SIZE_PX, SIZE_PX, 3)
    assert low.mean(axis=(1, 2)).argmax() > high.mean(axis=(1, 2)).argmax()


def test_sheets_of_ground_truth_have_a_row_per_name():
    heights = [scenes_sheet().height, uses_sheet().height]
    tones = tones_sheet()
    assert tones.height > 5 * SIZE_PX and tones.width > 3 * len(PHENOMENA) * SIZE_PX
    assert heights[0] > len([*BACKGROUNDS, *PHENOMENA]) * 2 * SIZE_PX and heights[1] > len(PHENOMENA) * SIZE_PX
