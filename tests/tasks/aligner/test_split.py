"""Recordings that images keep on one side of the split are said."""

import numpy as np
import pytest

from tasks.aligner.split import shared_images


@pytest.mark.parametrize(("are_videos", "what"), [(True, "videos"), (False, "recordings")])
def test_a_common_image_is_said_with_the_share_that_it_binds(are_videos, what):
    recordings = np.repeat(np.arange(20), 2)
    pictures = np.arange(40)
    pictures[[0, 2, 4, 6]] = 0  # the first four have a black frame
    pictures[[7, 8]] = 7  # the fourth shares another one with the fifth
    [note] = shared_images(recordings, pictures, are_videos)
    assert note.startswith(f"5 of 20 {what} share images") and "(25% of all)" in note and "belongs to 4 of them" in note


def test_few_shared_images_and_one_long_recording_are_not_worth_a_sentence():
    recordings = np.arange(40)
    pictures = np.minimum(np.arange(40), 37)
    assert shared_images(recordings, pictures, True) == []
    assert shared_images(np.zeros(40, int), np.arange(40), True) == []
