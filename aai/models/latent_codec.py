"""The VAE of a text-to-image model: images to latents and back, as many at a time as memory allows."""

import numpy as np
import torch
from diffusers import AutoencoderKL
from jaxtyping import Float, UInt8
from torch import Tensor

from aai.errors import BadItem
from aai.models.memory import free_bytes
from aai.models.speed import UnetSpeed

_NOT_FINITE = "the picture's numbers are not finite: look at models.diffusion, and set models.dtype to float32"

_TENSORS_AT_ONCE = 6
"""Tensors of the widest layer at full resolution that are in memory together; measured are 3 to 4."""

_MAX_SHARE = 0.5
"""Share of the free memory that the VAE takes at most."""

_MAX_PIXELS = {"cpu": 1024 * 1024, "cuda": 4 * 1024 * 1024}
"""Pixels per batch by device: more gain nothing, and torch counts the elements of its tensors with 31 bits."""


class LatentCodec:
    """Encodes and decodes with the VAE.

    `memory_share`, in (0, 1], is the part of the device's memory that is this process's own.
    """

    memory_share = 1.0

    def __init__(self, vae: AutoencoderKL, device: torch.device) -> None:
        self.vae, self._device = vae, device
        self.speed = UnetSpeed(vae.decoder, device, name="the decoder of pictures")

    @torch.no_grad()
    def encode(self, pictures: Float[Tensor, "pictures 3 height width"]) -> Float[Tensor, "pictures c h w"]:
        """Scaled latents, in float32, of images in [-1, 1]: the mean of the VAE's posterior."""
        vae = self.vae
        parts = [
            vae.encode(part.to(self._device, vae.dtype)).latent_dist.mean.float()
            for part in pictures.split(self.num_at_once(pictures.shape[2] * pictures.shape[3]))
        ]
        return torch.cat(parts) * vae.config.scaling_factor

    @torch.no_grad()
    def decode(self, latents: Float[Tensor, "pictures c h w"]) -> UInt8[np.ndarray, "pictures height width 3"]:
        """RGB images of scaled latents.

        Raises:
            BadItem: the numbers of one are not finite.
        """
        vae, parts = self.vae, []
        scale = 2 ** (len(vae.config.block_out_channels) - 1)
        for part in latents.split(self.num_at_once(latents.shape[2] * latents.shape[3] * scale**2)):
            pixels = vae.decode((part / vae.config.scaling_factor).to(vae.dtype)).sample.float()
            if not pixels.isfinite().all():
                raise BadItem(_NOT_FINITE)
            parts.append(((pixels / 2 + 0.5).clamp(0, 1) * 255).round().to(torch.uint8).permute(0, 2, 3, 1).cpu())
        return torch.cat(parts).numpy()

    def num_at_once(self, num_pixels: int) -> int:
        """Pictures of a number of pixels that are decoded together."""
        channels = max(self.vae.config.block_out_channels[:2])
        picture_bytes = num_pixels * channels * self.vae.dtype.itemsize * _TENSORS_AT_ONCE
        by_memory = int(free_bytes(self._device, self.memory_share) * _MAX_SHARE) // picture_bytes
        most = _MAX_PIXELS.get(self._device.type, _MAX_PIXELS["cpu"]) // num_pixels
        return max(1, min(by_memory, most))
