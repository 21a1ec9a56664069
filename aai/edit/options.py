"""Options of edits and stylised pictures."""

from typing import Any, Literal

from pydantic import Field

from aai.options import Options


class EditOptions(Options):
    """How an edited or restyled picture takes after its source.

    Lengths are in latents: one is 8 pixels of Stable Diffusion's, 4 of the tiny world's.
    """

    strength: float = Field(1.0, gt=0, le=1)
    """Share of the steps, the last ones, in which the edit goes its own way; until then it is its source."""

    cross_fraction: float = Field(0.4, ge=0, le=1)
    """Share of the steps in which words of both prompts are seen where the source's prompt had them."""

    self_fraction: float = Field(0.2, ge=0, le=1)
    """Share of the steps in which the source's layout holds: its queries and keys are the edit's."""

    self_side: int = Field(32, ge=1)
    """Largest maps, in positions a side, in which layout is held."""

    preserve: Literal["pixels", "latents", "none"] = "pixels"
    """What stays outside the edit's mask: the source's own pixels, its latents, or nothing."""

    mask: Literal["difference", "attention"] = "difference"
    """What tells where the edit is: how far predictions differ from the source's, or what looks at the cue."""

    threshold: float = Field(0.4, gt=0, lt=1)
    """The edit is where more than this share of the largest value is seen."""

    blend_from: float = Field(0.2, ge=0, le=1)
    """Share of the steps after which the source's latents are put back outside the mask."""

    grow: float = Field(0.5, ge=0)
    """How far the mask is grown before pixels are put together."""

    feather: float = Field(1.0, gt=0)
    """How wide the seam is in which edit and source go over into one another."""

    inversion: Literal["direct", "virtual"] = "virtual"
    """How a photo comes to latents: mixed with new noise at every step, or inverted and replayed (direct)."""

    reweight: dict[str, float] = Field(default_factory=dict)
    """Factors on what words of the prompt say, as {storm: 1.5}."""


STYLISED: dict[str, Any] = {"strength": 0.8, "self_fraction": 0.5, "preserve": "none", "inversion": "direct"}
"""What is otherwise where a picture is restyled: all of it changes, and its layout holds."""
