"""Options of rendering."""

from typing import Literal

from pydantic import Field, field_validator

from aai.options import Options

Scheduler = Literal["ddim", "ddpm", "dpm++2m", "euler", "euler-a", "pndm", "unipc"]


class RenderOptions(Options):
    """How images are rendered; a job can override each of these."""

    steps: int = Field(25, gt=0, le=1000)
    """Denoising steps. More steps give finer detail and take proportionally longer."""

    guidance: float = Field(7.5, ge=0, le=50)
    """Classifier-free guidance scale. Higher values follow the prompt more closely and vary less; 1 or less disables
    guidance, which halves the time."""

    guidance_interval: tuple[float, float] | None = None
    """Noise levels [low, high] in which guidance applies: steps with low < sigma <= high. Other steps take half the
    time. Sigma is the noise's standard deviation beside a signal of 1, from at most 14.6 down to 0 in Stable Diffusion;
    [0.28, 5.42] is the paper's for SDXL. Null guides all steps."""

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

    @field_validator("guidance_interval")
    @classmethod
    def _check_interval(cls, interval: tuple[float, float] | None) -> tuple[float, float] | None:
        if interval is not None and not 0 <= interval[0] < interval[1]:
            raise ValueError(f"{list(interval)} is not an interval of noise levels: write for example [0.28, 5.42]")
        return interval
