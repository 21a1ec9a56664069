"""Run one full-size model through its adapter in a process of its own, and say as JSON what each step took.

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
    """Steps, timed, with the memory's peak after each."""

    def __init__(self) -> None:
        self.taken: list[dict[str, Any]] = []

    def take(self, name: str, step: Callable[[], Any]) -> Any:
        """Do it, and note what it took."""
        start_s = time.monotonic()
        result = step()
        took_s = time.monotonic() - start_s
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // _KIB_PER_MIB
        self.taken.append({"step": name, "seconds": round(took_s, 1), "peak_mib": peak})
        return result


def descend(diffusion: Diffusion) -> float:
    """A step of fitting, for one row: a loss, and the gradient of the cue."""
    cue = diffusion.word_embeddings(["strong", "rain"])[None].requires_grad_()
    rng = torch.Generator().manual_seed(0)
    latents, noise = torch.randn(2, 1, 4, 64, 64, generator=rng)
    conditioning = diffusion.encode_prompts(["a photo of *"], cue)
    loss = diffusion.denoising_losses(latents, conditioning, torch.tensor([500]), noise).sum()
    loss.backward()
    assert cue.grad is not None and torch.isfinite(loss)
    return float(cue.grad.abs().sum())


def measure_sd15(steps: Steps, folder: Path) -> None:
    """Load, one gradient step, one picture of 512 x 512 in two steps with guidance, one picture into latents."""
    diffusion = steps.take("load", lambda: load_diffusion(folder))
    assert diffusion.cue_dim == 768 and diffusion.default_size == 512
    gradient = steps.take("gradient of a cue, 1 row", lambda: descend(diffusion))
    assert np.isfinite(gradient) and gradient > 0
    cue, options = diffusion.word_embeddings(["rain"])[None], RenderOptions(steps=2)
    picture = steps.take("render 512 x 512, 2 steps", lambda: diffusion.render(["a *"], [1], cue, options=options))
    assert picture.shape == (1, 512, 512, 3) and picture.std() > 0
    latents = steps.take("picture into latents", lambda: diffusion.encode_images(torch.zeros(1, 3, 512, 512)))
    assert latents.shape == (1, 4, 64, 64) and torch.isfinite(latents).all()


def measure_clip(steps: Steps, folder: Path) -> None:
    """Load, one image, one caption."""
    encoder = steps.take("load", lambda: ImageTextEncoder(folder))
    image = np.random.default_rng(0).integers(256, size=(512, 512, 3), dtype=np.uint8)
    seen = steps.take("embed 1 image", lambda: encoder.embed_images([image]))
    read = steps.take("embed 1 caption", lambda: encoder.embed_texts(["a photo of rain"]))
    assert seen.shape == read.shape == (1, 768) and torch.isfinite(seen + read).all()


def measure_clap(steps: Steps, folder: Path) -> None:
    """Load, one clip, one caption."""
    encoder = steps.take("load", lambda: AudioEncoder(folder))
    assert encoder.rate_hz == 48_000
    wave = np.random.default_rng(0).normal(0, 0.1, 10 * 48_000).astype(np.float32)
    heard = steps.take("embed 1 clip of 10 s", lambda: encoder.embed_clips([wave], 48_000))
    read = steps.take("embed 1 caption", lambda: encoder.embed_texts(["rain"]))
    assert heard.shape == read.shape == (1, 512) and torch.isfinite(heard + read).all()


if __name__ == "__main__":
    taken = Steps()
    {"sd15": measure_sd15, "clip": measure_clip, "clap": measure_clap}[sys.argv[1]](taken, Path(sys.argv[2]))
    print(json.dumps(taken.taken))
