"""Vectors of the real architectures with all layers equal the library's: `pytest -m full_size -s`."""

import pytest

from tests.models.encoder_outputs import AUDIO_ENCODERS, IMAGE_ENCODERS, of_images, of_sounds, write_clap, write_clip


@pytest.mark.full_size
@pytest.mark.parametrize("name", IMAGE_ENCODERS)
def test_image_vectors_equal_the_librarys(name, tmp_path, record_property):
    found = of_images(write_clip(tmp_path / "clip", *IMAGE_ENCODERS[name]))
    print(f"{name}: {found}")
    record_property(name, found)


@pytest.mark.full_size
@pytest.mark.parametrize("name", AUDIO_ENCODERS)
def test_sound_vectors_equal_the_librarys(name, tmp_path, record_property):
    found = of_sounds(write_clap(tmp_path / "clap", AUDIO_ENCODERS[name], [2, 2, 6, 2]))
    print(f"{name}: {found}")
    record_property(name, found)
