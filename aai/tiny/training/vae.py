"""The autoencoder: 64 x 64 x 3 pixels to 16 x 16 x 8 latents and back.

Eight latent channels instead of Stable Diffusion's four: pictures cannot become sharper than the decoder, and at this
size the channels, not the training time, are what limits it.
"""

import torch
from diffusers import AutoencoderKL
from torch import Tensor, nn

from aai.tiny.training.data import TRAINING_SEED, SceneSet, scene_set
from aai.tiny.training.loop import LoopOptions, Place, fit

OPTIONS = LoopOptions(steps=2600, batch=16, learning_rate=2e-3, weight_decay=1e-4)

_KL_WEIGHT = 3e-4


def new_vae() -> AutoencoderKL:
    """An untrained autoencoder, 1.4 million parameters."""
    return AutoencoderKL(
        block_out_channels=(16, 48, 96),
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        layers_per_block=1,
        latent_channels=8,
        norm_num_groups=8,
        sample_size=64,
        mid_block_add_attention=False,
    )


def train_vae(place: Place) -> None:
    """Encoder and decoder together; the scaling factor makes latents of unit variance."""
    torch.manual_seed(place.seed)
    vae, scenes = new_vae().to(place.device), scene_set(place.num_scenes, TRAINING_SEED, place.folder)

    def loss(rng: torch.Generator, batch: int) -> tuple[Tensor, dict[str, float]]:
        pixels = _draw(scenes, rng, batch, place)
        noise = torch.randn(batch, vae.config.latent_channels, 16, 16, generator=rng).to(place.device)
        with place.autocast():
            posterior = vae.encode(pixels).latent_dist
            mean, log_variance = posterior.mean.float(), posterior.logvar.float()
            rebuilt = vae.decode(mean + torch.exp(0.5 * log_variance) * noise).sample.float()
        kl = 0.5 * (mean**2 + log_variance.exp() - 1 - log_variance).mean()
        distance, figures = _distance(pixels, rebuilt)
        return distance + _KL_WEIGHT * kl, figures | {"kl": kl.item()}

    fit("vae", nn.ModuleDict({"vae": vae}), loss, OPTIONS, place)
    latents = encode(vae, scenes, min(2000, len(scenes)), place)
    vae.register_to_config(scaling_factor=float(1 / latents.std()))
    vae.save_pretrained(place.folder / "vae")


def _draw(scenes: SceneSet, rng: torch.Generator, batch: int, place: Place) -> Tensor:
    return scenes.tensor(torch.randint(len(scenes), (batch,), generator=rng)).to(place.device)


def _distance(pixels: Tensor, rebuilt: Tensor) -> tuple[Tensor, dict[str, float]]:
    """Absolute, squared and edge differences; edges keep windows, streaks and hands sharp."""
    difference = rebuilt - pixels
    squared = (difference**2).mean()
    edges = difference.diff(dim=-1).abs().mean() + difference.diff(dim=-2).abs().mean()
    return difference.abs().mean() + squared + edges, {"psnr_db": float(10 * torch.log10(4 / squared.detach()))}


@torch.no_grad()
def encode(vae: AutoencoderKL, scenes: SceneSet, num: int, place: Place) -> Tensor:
    """Latent means of the first `num` scenes, on the CPU, not scaled."""
    parts = []
    for start in range(0, num, 100):
        with place.autocast():
            pixels = scenes.tensor(torch.arange(start, min(start + 100, num))).to(place.device)
            parts.append(vae.encode(pixels).latent_dist.mean.float().cpu())
    return torch.cat(parts)
