"""Training of the autoencoder: 64 x 64 x 3 pixels to 16 x 16 x 8 latents.

It has eight latent channels, Stable Diffusion has four: the decoder limits the sharpness of generated images, and at
this size the number of channels limits the decoder, not the training time.
"""

import torch
from diffusers import AutoencoderKL
from torch import Tensor, nn

from aai.tiny.training.data import TRAINING_SEED, SceneSet, scene_set
from aai.tiny.training.loop import LoopOptions, TrainingSetup, fit
from aai.tiny.training.warm import warm_start

OPTIONS = LoopOptions(steps=2600, batch=16, learning_rate=2e-3, weight_decay=1e-4, warm_share=0.1)

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


def train_vae(setup: TrainingSetup) -> None:
    """Train encoder and decoder; the scaling factor is set for latents of unit variance."""
    torch.manual_seed(setup.seed)
    vae, scenes = new_vae().to(setup.device), scene_set(setup.num_scenes, TRAINING_SEED, setup.folder)
    warm_start(vae, setup, "pipeline/vae")

    def loss(rng: torch.Generator, batch: int) -> tuple[Tensor, dict[str, float]]:
        pixels = _draw(scenes, rng, batch, setup)
        noise = torch.randn(batch, vae.config.latent_channels, 16, 16, generator=rng).to(setup.device)
        with setup.autocast():
            posterior = vae.encode(pixels).latent_dist
            mean, log_variance = posterior.mean.float(), posterior.logvar.float()
            rebuilt = vae.decode(mean + torch.exp(0.5 * log_variance) * noise).sample.float()
        kl = 0.5 * (mean**2 + log_variance.exp() - 1 - log_variance).mean()
        reconstruction, figures = _reconstruction_loss(pixels, rebuilt)
        return reconstruction + _KL_WEIGHT * kl, figures | {"kl": kl.item()}

    fit("vae", nn.ModuleDict({"vae": vae}), loss, OPTIONS, setup)
    latents = encode(vae, scenes, min(2000, len(scenes)), setup)
    vae.register_to_config(scaling_factor=float(1 / latents.std()))
    vae.save_pretrained(setup.folder / "vae")


def _draw(scenes: SceneSet, rng: torch.Generator, batch: int, setup: TrainingSetup) -> Tensor:
    return scenes.tensor(torch.randint(len(scenes), (batch,), generator=rng)).to(setup.device)


def _reconstruction_loss(pixels: Tensor, rebuilt: Tensor) -> tuple[Tensor, dict[str, float]]:
    """L1 + L2 + L1 of image gradients, which keeps thin structures sharp; and the PSNR."""
    difference = rebuilt - pixels
    squared = (difference**2).mean()
    edges = difference.diff(dim=-1).abs().mean() + difference.diff(dim=-2).abs().mean()
    return difference.abs().mean() + squared + edges, {"psnr_db": float(10 * torch.log10(4 / squared.detach()))}


@torch.no_grad()
def encode(vae: AutoencoderKL, scenes: SceneSet, num: int, setup: TrainingSetup) -> Tensor:
    """Unscaled latent means of the first `num` scenes, on the CPU."""
    parts = []
    for start in range(0, num, 100):
        with setup.autocast():
            pixels = scenes.tensor(torch.arange(start, min(start + 100, num))).to(setup.device)
            parts.append(vae.encode(pixels).latent_dist.mean.float().cpu())
    return torch.cat(parts)
