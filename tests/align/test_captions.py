"""The built-in caption vocabulary."""

from aai.align.captions import everyday_sounds


def test_the_vocabulary_is_large_and_has_no_duplicates():
    assert len(everyday_sounds()) > 200
    assert len(set(everyday_sounds())) == len(everyday_sounds())


def test_every_caption_fits_into_a_template():
    assert [
        caption for caption in everyday_sounds() if caption != caption.strip() or not caption or "*" in caption
    ] == []
