"""Vectors of networks with the input shapes of the real checkpoints, but few layers, equal the library's.

tests/full_size/test_encoder_outputs.py does the same with all layers.
"""

import pytest
import torch
from transformers import ClapFeatureExtractor

from aai.models.clap import AudioEncoder
from aai.models.clip import ImageTextEncoder
from tests.models.encoder_outputs import (
    AUDIO_ENCODERS,
    IMAGE_ENCODERS,
    RATE_HZ,
    of_images,
    of_sounds,
    sounds,
    write_clap,
    write_clip,
)


@pytest.mark.parametrize("name", ["ViT-L/14 at 336", pytest.param("ViT-H/14 at 224", marks=pytest.mark.slow)])
def test_image_vectors_equal_the_librarys(name, tmp_path):
    vision, _, dim = IMAGE_ENCODERS[name]
    of_images(write_clip(tmp_path / "clip", vision, 1, dim))


@pytest.mark.parametrize("name", AUDIO_ENCODERS)
def test_sound_vectors_equal_the_librarys(name, tmp_path):
    of_sounds(write_clap(tmp_path / "clap", AUDIO_ENCODERS[name], [1, 1, 1, 1]))


def test_image_vectors_at_224_equal_the_librarys_and_another_resampling_would_be_seen(tmp_path, monkeypatch):
    vision, _, dim = IMAGE_ENCODERS["ViT-L/14 at 224"]
    folder, prepare = write_clip(tmp_path / "clip", vision, 1, dim), ImageTextEncoder.prepare
    of_images(folder)

    def nearest(self: ImageTextEncoder, image: object) -> object:
        self.processor.image_processor.resample = 0
        return prepare(self, image)

    monkeypatch.setattr(ImageTextEncoder, "prepare", nearest)
    with pytest.raises(AssertionError):
        of_images(folder)


def test_spectrograms_are_in_float32_where_the_model_is_in_bfloat16(tmp_path):
    encoder = AudioEncoder(write_clap(tmp_path / "clap", False, [1, 1, 1, 1]), dtype=torch.bfloat16)
    given: list[torch.Tensor] = []
    norm = encoder.model.audio_model.audio_encoder.batch_norm
    norm.register_forward_pre_hook(lambda module, args: given.append(args[0].clone()))
    encoder.embed_clips(sounds()[:2], RATE_HZ)
    extractor = ClapFeatureExtractor(frequency_min=50, truncation="rand_trunc", padding="repeatpad")
    expected = extractor(sounds()[:2], sampling_rate=RATE_HZ, return_tensors="pt")["input_features"]
    found = given[0].transpose(1, 3)
    loud = expected > expected.amax(dim=(1, 2, 3), keepdim=True) - 80
    assert found.dtype == torch.float32 and (found - expected)[loud].abs().max() < 1e-2, "decibels"
