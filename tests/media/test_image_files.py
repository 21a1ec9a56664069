"""Every well-formed image of the corpus decodes to the pixels from which it was encoded."""

import numpy as np
import pytest

from aai.errors import BadItem
from aai.media.images import ImageOptions, decode
from tests.corpus import params
from tests.corpus.broken_images import BROKEN_IMAGES
from tests.corpus.cases import Broken, Picture
from tests.corpus.images import IMAGES

OPTIONS = ImageOptions()


@pytest.mark.parametrize("picture", params([case for case in IMAGES if case.name != "photo.jfif"]))
def test_an_image_has_the_pixels_from_which_it_was_encoded(picture: Picture):
    pixels, drawn = decode(picture.data(), picture.name, OPTIONS).pixels, picture.pixels()
    assert pixels.shape == drawn.shape
    assert np.abs(pixels.astype(int) - drawn).max() <= picture.error


@pytest.mark.parametrize("case", params(BROKEN_IMAGES))
def test_a_broken_image_is_rejected_with_the_reason(case: Broken):
    with pytest.raises(BadItem) as caught:
        decode(case.data(), case.name, OPTIONS)
    assert caught.value.uri == case.name and case.sentence in caught.value.sentence
    assert ": " in caught.value.sentence and caught.value.sentence.isprintable()
