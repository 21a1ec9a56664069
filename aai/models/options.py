"""Options of rendering."""

from typing import Literal

from pydantic import Field

from aai.options import Options

Scheduler = Literal["ddim", "ddpm", "dpm++2m", "euler", "euler-a", "pndm", "unipc"]


class RenderOptions(Options):
    """How a picture is rendered; a job may set each of these for itself."""

    steps: int = Field(25, gt=0, le=1000)
    """Denoising steps."""

    guidance: float = Field(7.5, ge=0, le=50)
    """The scale of classifier-free guidance; 1 or less for none, which takes half the time."""

    scheduler: Scheduler | None = None
    """The sampler; none for the checkpoint's own."""

    width: int | None = Field(None, ge=8, le=4096, multiple_of=8)
    """Pixels across; none for the model's own size."""

    height: int | None = Field(None, ge=8, le=4096, multiple_of=8)
    """Pixels down; none for the model's own size."""

    format: Literal["jpg", "png", "webp"] = "png"
    """The kind of file."""

    quality: int = Field(95, ge=1, le=100)
    """Of jpg and webp; png loses nothing."""

    batch_size: int = Field(16, gt=0)
    """Pictures that are rendered together; halved where memory is short. Changes no picture."""
