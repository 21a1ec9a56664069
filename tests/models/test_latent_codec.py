"""Pictures that the VAE decodes together follow from the memory that is this worker's own."""

import pytest
import torch

from aai.models import latent_codec
from aai.models.diffusion import load_diffusion


@pytest.mark.parametrize(("share", "num"), [(1.0, 8), (0.5, 4), (1e-6, 1)])
def test_half_the_memory_holds_half_the_pictures(sd15_folder, monkeypatch, share, num):
    codec = load_diffusion(sd15_folder).codec
    channels = max(codec.vae.config.block_out_channels[:2])
    picture = 64 * 64 * channels * torch.float32.itemsize * latent_codec._TENSORS_AT_ONCE
    monkeypatch.setattr(latent_codec, "free_bytes", lambda device, share: int(share * 2 * 8 * picture))
    codec.memory_share = share
    assert codec.num_at_once(64 * 64) == num


def test_more_pixels_than_make_it_faster_are_not_taken(sd15_folder, monkeypatch):
    monkeypatch.setattr(latent_codec, "free_bytes", lambda device, share: int(share * 2**50))
    assert load_diffusion(sd15_folder).codec.num_at_once(512 * 512) == 4
