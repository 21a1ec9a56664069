"""Options of image editing and stylisation."""

from typing import Any, Literal

from pydantic import Field

from aai.options import Options


class EditOptions(Options):
    """How an edit is made from its source image (Prompt-to-Prompt).

    `grow` and `feather` are in latent pixels: one is 8 image pixels in Stable Diffusion, 4 in the tiny profile.
    """

    strength: float = Field(1.0, gt=0, le=1)
    """Edit strength, as in img2img (SDEdit): the fraction of denoising steps, the last ones, that are edited. Lower
    values keep more of the source's structure."""

    cross_fraction: float = Field(0.4, ge=0, le=1)
    """Fraction of denoising steps, the first ones, with cross-attention injection (Prompt-to-Prompt tau_c): words that
    both prompts share use the source's attention maps. Higher values keep the layout of the source's objects."""

    self_fraction: float = Field(0.2, ge=0, le=1)
    """Fraction of denoising steps, the first ones, with self-attention injection: the edit uses the source's queries
    and keys. Higher values keep the source's shapes and layout, and weaken the edit."""

    self_side: int = Field(32, ge=1)
    """Largest side of a self-attention map (in positions) with injection. Lower values keep the coarse layout alone."""

    preserve: Literal["pixels", "latents", "none"] = "pixels"
    """What is kept outside the edit mask: pixels composites the source's own pixels, latents blends latents alone
    (LocalBlend), none keeps nothing."""

    mask: Literal["difference", "attention"] = "difference"
    """How the edit mask is found: difference compares the predictions for source and edit (as in DiffEdit), attention
    uses the cue's cross-attention maps (as in LocalBlend), which are too coarse for images below the model's size."""

    threshold: float = Field(0.4, gt=0, lt=1)
    """Mask threshold, relative to the map's maximum. Higher values give smaller edits."""

    blend_from: float = Field(0.2, ge=0, le=1)
    """Fraction of denoising steps before latent blending starts (LocalBlend), which resets latents outside the mask to
    the source's. Increase it if the mask misses parts of the edit."""

    grow: float = Field(0.5, ge=0)
    """Mask dilation before compositing pixels, in latent pixels. Increase it if the edit is cut off at its border."""

    feather: float = Field(1.0, gt=0)
    """Width of the soft mask edge between edit and source pixels, in latent pixels. Increase it if a seam shows."""

    inversion: Literal["direct", "virtual"] = "virtual"
    """How photos are inverted: virtual adds new noise at every step (virtual inversion, InfEdit), direct runs DDIM
    inversion and replays its latents (direct inversion, PnP Inversion). Virtual gives different edits per seed and is
    faster; direct gives one edit of each photo and cue."""

    reweight: dict[str, float] = Field(default_factory=dict)
    """Attention reweighting (Prompt-to-Prompt): factors for words of the prompt, such as {storm: 1.5}. Above 1
    strengthens a word, below 1 weakens it."""


STYLISED: dict[str, Any] = {"strength": 0.8, "self_fraction": 0.5, "preserve": "none", "inversion": "direct"}
"""Defaults that differ for stylisation, which changes the whole image and keeps its layout."""
