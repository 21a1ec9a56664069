"""Run a full-size model through its adapter in a process of its own, and print time and memory of each step as JSON.

`python -m tests.full_size.measure sd15 FOLDER`; memory is the peak of the process so far, in MiB.
"""

import json
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from aai.models.clap import AudioEncoder
from aai.models.clip import ImageTextEncoder
from aai.models.diffusion import Diffusion, load_diffusion
from aai.models.options import RenderOptions

_KIB_PER_MIB = 1024  # Linux gives the peak in KiB


class Steps:
    """Measured steps: seconds, and the peak of memory after each."""

    def __init__(self) -> None:
        self.measured: list[dict[str, Any]] = []

    def take(self, name: str, step: Callable[[], Any]) -> Any:
        """Run a step and measure it."""
        start_s = time.monotonic()
        result = step()
        took_s = time.monotonic() - start_s
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // _KIB_PER_MIB
        self.measured.append({"step": name, "seconds": round(took_s, 1), "peak_mib": peak})
        return result


def training_step(diffusion: Diffusion) -> float:
    """One training step of a cue with one sample; returns the sum of its gradient's magnitudes."""
    cue = diffusion.word_embeddings(["strong", "rain"])[None].requires_grad_()
    rng = torch.Generator().manual_seed(0)
    latents, noise = torch.randn(2, 1, 4, 64, 64, generator=rng)
    conditioning = diffusion.encode_prompts(["a photo of *"], cue)
    loss = diffusion.denoising_losses(latents, conditioning, torch.tensor([500]), noise).sum()
    loss.backward()
    assert cue.grad is not None and torch.isfinite(loss)
    return float(cue.grad.abs().sum())


def measure_sd15(steps: Steps, folder: Path) -> None:
    """Load, one gradient step, one picture of 512 x 512 in two steps with guidance, and the latents of one picture."""
    diffusion = steps.take("load", lambda: load_diffusion(folder))
    assert diffusion.cue_dim == 768 and diffusion.default_size == 512
    gradient = steps.take("gradient of a cue, 1 sample", lambda: training_step(diffusion))
    assert np.isfinite(gradient) and gradient > 0
    cue, options = diffusion.word_embeddings(["rain"])[None], RenderOptions(steps=2)
    picture = steps.take("render 512 x 512, 2 steps", lambda: diffusion.render(["a *"], [1], cue, options=options))
    assert picture.shape == (1, 512, 512, 3) and picture.std() > 0
    latents = steps.take("latents of 1 picture", lambda: diffusion.encode_images(torch.zeros(1, 3, 512, 512)))
    assert latents.shape == (1, 4, 64, 64) and torch.isfinite(latents).all()


def measure_clip(steps: Steps, folder: Path) -> None:
    """Load, one image, one caption."""
    encoder = steps.take("load", lambda: ImageTextEncoder(folder))
    image = np.random.default_rng(0).integers(256, size=(512, 512, 3), dtype=np.uint8)
    of_image = steps.take("embed 1 image", lambda: encoder.embed_images([image]))
    of_text = steps.take("embed 1 caption", lambda: encoder.embed_texts(["a photo of rain"]))
    assert of_image.shape == of_text.shape == (1, 768) and torch.isfinite(of_image + of_text).all()


def measure_clap(steps: Steps, folder: Path) -> None:
    """Load, one clip, one caption."""
    encoder = steps.take("load", lambda: AudioEncoder(folder))
    assert encoder.rate_hz == 48_000
    wave = np.random.default_rng(0).normal(0, 0.1, 10 * 48_000).astype(np.float32)
    of_clip = steps.take("embed 1 clip of 10 s", lambda: encoder.embed_clips([wave], 48_000))
    of_text = steps.take("embed 1 caption", lambda: encoder.embed_texts(["rain"]))
    assert of_clip.shape == of_text.shape == (1, 512) and torch.isfinite(of_clip + of_text).all()


if __name__ == "__main__":
    measured = Steps()
    {"sd15": measure_sd15, "clip": measure_clip, "clap": measure_clap}[sys.argv[1]](measured, Path(sys.argv[2]))
    print(json.dumps(measured.measured))
