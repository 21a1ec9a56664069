"""The tiny world's pretrained models."""

from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from aai.align.projector import Projector
from aai.cues.mapper import CueMapper
from aai.models.clap import AudioEncoder
from aai.models.clip import ImageTextEncoder
from aai.models.diffusion import load_diffusion
from aai.models.options import RenderOptions
from aai.tiny.sounds import SAMPLE_RATE_HZ

WEIGHTS = Path(__file__).parent / "weights"
RENDER = RenderOptions(guidance=4.0)
"""Default rendering options, also used for evaluation."""


class World:
    """All models: image and audio encoders, aligner, mapper and diffusion pipeline."""

    def __init__(self, folder: Path = WEIGHTS, device: str | torch.device = "cpu") -> None:
        self.device = torch.device(device)
        self.diffusion = load_diffusion(folder / "pipeline", device)
        self.images = ImageTextEncoder(folder / "clip", device=device)
        self.audio = AudioEncoder(folder / "clap", device=device)
        self.aligner = Projector.load(folder / "aligner").to(device)
        self.mapper = CueMapper.load(folder / "mapper").to(device)

    def embed_images(self, pixels: UInt8[np.ndarray, "images height width 3"]) -> Float[Tensor, "images dim"]:
        """Unit vectors of RGB images."""
        return self.images.embed_images(pixels)

    @torch.inference_mode()
    def embed_clips(self, waves: Sequence[np.ndarray]) -> Float[Tensor, "clips dim"]:
        """Aligned embeddings (unit vectors in the image space) of mono clips at `SAMPLE_RATE_HZ`."""
        embeddings = self.audio.embed_clips(waves, SAMPLE_RATE_HZ)
        return self.aligner(embeddings.to(self.device)).cpu()

    @torch.inference_mode()
    def cues(self, aligned: Float[Tensor, "clips aligned_dim"]) -> Float[Tensor, "clips tokens dim"]:
        """The mapper's cues, without refinement."""
        return self.mapper(aligned.to(self.device))

    def render(
        self,
        prompts: Sequence[str],
        seeds: Sequence[int],
        cues: Float[Tensor, "prompts tokens dim"] | None = None,
        options: RenderOptions = RENDER,
    ) -> UInt8[np.ndarray, "prompts height width 3"]:
        """Render one image per prompt."""
        return self.diffusion.render(prompts, seeds, cues, options=options)


@cache
def load_world(folder: Path = WEIGHTS) -> World:
    """The pretrained models, cached."""
    return World(folder)
