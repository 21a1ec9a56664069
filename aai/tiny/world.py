"""The tiny world's models, loaded from where they are shipped, each by the ordinary `from_pretrained`."""

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
"""How the world is rendered where nothing else is asked for; its scores are taken with this guidance."""


class World:
    """Everything that is trained: pictures and sounds to vectors, sounds to cues, prompts and cues to pictures."""

    def __init__(self, folder: Path = WEIGHTS, device: str | torch.device = "cpu") -> None:
        self.device = torch.device(device)
        self.diffusion = load_diffusion(folder / "pipeline", device)
        self.images = ImageTextEncoder(folder / "clip", device=device)
        self.audio = AudioEncoder(folder / "clap", device=device)
        self.aligner = Projector.load(folder / "aligner").to(device)
        self.mapper = CueMapper.load(folder / "mapper").to(device)

    def see(self, pixels: UInt8[np.ndarray, "pictures height width 3"]) -> Float[Tensor, "pictures dim"]:
        """Unit vectors of RGB pictures."""
        return self.images.embed_images(pixels)

    @torch.inference_mode()
    def hear(self, waves: Sequence[np.ndarray]) -> Float[Tensor, "clips dim"]:
        """Unit vectors, in the image space, of mono clips at `SAMPLE_RATE_HZ`."""
        heard = self.audio.embed_clips(waves, SAMPLE_RATE_HZ)
        return self.aligner(heard.to(self.device)).cpu()

    @torch.inference_mode()
    def cues(self, aligned: Float[Tensor, "clips dim"]) -> Float[Tensor, "clips rows token_dim"]:
        """The shared mapper's cues, without any fitting."""
        return self.mapper(aligned.to(self.device))

    def render(
        self,
        prompts: Sequence[str],
        seeds: Sequence[int],
        cues: Float[Tensor, "prompts rows token_dim"] | None = None,
        options: RenderOptions = RENDER,
    ) -> UInt8[np.ndarray, "prompts height width 3"]:
        """A picture for each prompt."""
        return self.diffusion.render(prompts, seeds, cues, options=options)


@cache
def load_world(folder: Path = WEIGHTS) -> World:
    """The shipped models, loaded once."""
    return World(folder)
