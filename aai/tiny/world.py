"""The tiny world's models, loaded from where they are shipped, each by the ordinary `from_pretrained`."""

from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from torch import Tensor
from transformers import ClapModel, ClapProcessor, CLIPModel, CLIPProcessor

from aai.align import Projector
from aai.cue import CueMapper
from aai.models.diffusion import load_diffusion
from aai.tiny.sounds import SAMPLE_RATE_HZ

WEIGHTS = Path(__file__).parent / "weights"

_LARGEST_BATCH = 100


class World:
    """Everything that is trained: pictures and sounds to vectors, sounds to cues, prompts and cues to pictures."""

    def __init__(self, folder: Path = WEIGHTS, device: str | torch.device = "cpu") -> None:
        self.device = torch.device(device)
        self.diffusion = load_diffusion(folder / "pipeline", device)
        self.clip = CLIPModel.from_pretrained(folder / "clip", dtype=torch.float32).to(device).eval()
        self.clip_processor = CLIPProcessor.from_pretrained(folder / "clip")
        self.clap = ClapModel.from_pretrained(folder / "clap", dtype=torch.float32).to(device).eval()
        self.clap_processor = ClapProcessor.from_pretrained(folder / "clap")
        self.aligner = Projector.load(folder / "aligner").to(device)
        self.mapper = CueMapper.load(folder / "mapper").to(device)

    @torch.inference_mode()
    def see(self, pixels: UInt8[np.ndarray, "pictures height width 3"]) -> Float[Tensor, "pictures dim"]:
        """Unit vectors of RGB pictures."""
        parts = []
        for start in range(0, len(pixels), _LARGEST_BATCH):
            batch = list(pixels[start : start + _LARGEST_BATCH])
            inputs = self.clip_processor(images=batch, return_tensors="pt").to(self.device)
            parts.append(F.normalize(self.clip.get_image_features(**inputs).pooler_output, dim=-1).cpu())
        return torch.cat(parts)

    @torch.inference_mode()
    def hear(self, waves: Sequence[np.ndarray]) -> Float[Tensor, "clips dim"]:
        """Unit vectors, in the image space, of mono clips at `SAMPLE_RATE_HZ`."""
        parts = []
        for start in range(0, len(waves), _LARGEST_BATCH):
            batch = [np.asarray(wave) for wave in waves[start : start + _LARGEST_BATCH]]
            extract = self.clap_processor.feature_extractor
            inputs = extract(batch, sampling_rate=SAMPLE_RATE_HZ, return_tensors="pt").to(self.device)
            heard = self.clap.get_audio_features(
                input_features=inputs["input_features"].float(), is_longer=torch.zeros_like(inputs["is_longer"])
            ).pooler_output
            parts.append(self.aligner(heard).cpu())
        return torch.cat(parts)

    @torch.inference_mode()
    def cues(self, aligned: Float[Tensor, "clips dim"]) -> Float[Tensor, "clips rows token_dim"]:
        """The shared mapper's cues, without any fitting."""
        return self.mapper(aligned.to(self.device))


@cache
def load_world(folder: Path = WEIGHTS) -> World:
    """The shipped models, loaded once."""
    return World(folder)
