"""Options of rendering."""

from typing import Literal

from pydantic import Field

from aai.options import Options

Scheduler = Literal["ddim", "ddpm", "dpm++2m", "euler", "euler-a", "pndm", "unipc"]


class RenderOptions(Options):
    """How images are rendered; a job can override each of these."""

    steps: int = Field(25, gt=0, le=1000)
    """Denoising steps. More steps give finer detail and take proportionally longer."""

    guidance: float = Field(7.5, ge=0, le=50)
    """Classifier-free guidance scale. Higher values follow the prompt more closely and vary less; 1 or less disables
    guidance, which halves the time."""

    scheduler: Scheduler | None = None
    """Sampler (diffusers scheduler); null uses the checkpoint's own. Photos are always edited with ddim."""

    width: int | None = Field(None, ge=8, le=4096, multiple_of=8)
    """Image width in pixels, a multiple of 8; null uses the model's native size, at which it works best."""

    height: int | None = Field(None, ge=8, le=4096, multiple_of=8)
    """Image height in pixels, a multiple of 8; null uses the model's native size, at which it works best."""

    format: Literal["jpg", "png", "webp"] = "png"
    """Image file format: png is lossless, jpg and webp are smaller."""

    quality: int = Field(95, ge=1, le=100)
    """Compression quality of jpg and webp, from 1 to 100; png ignores it."""
