"""Options of image editing and stylisation."""

import json
from typing import Any, Literal

from pydantic import Field

from aai.options import Options

_CUE_SHARE = 12
"""What of guidance goes to the cue alone: all of it would exaggerate the cue."""


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

    guide_from: Literal["empty", "source"] = "empty"
    """Where classifier-free guidance leads edits of photos from, under virtual inversion: empty is the negative prompt,
    as in text-to-image; source is the source prompt, so that an edit that says nothing gives back the photo, and less
    changes far from the cue, but the place is lost more often. A negative prompt is led from in any case."""

    cue_guidance: float | None = Field(None, ge=1, le=50)
    """Guidance scale of edits that are led from the source prompt. Higher values strengthen the cue and change more of
    the photo; null takes a twelfth of the way from 1 to `guidance`: 1.25 of 4, 1.54 of 7.5."""

    write_mask: bool = False
    """Whether the edit mask is written beside the picture, as a grey PNG: white is the edit, black the source."""

    reweight: dict[str, float] = Field(default_factory=dict)
    """Attention reweighting (Prompt-to-Prompt): factors for words of the prompt, such as {storm: 1.5}. Above 1
    strengthens a word, below 1 weakens it."""

    def cue_guidance_of(self, guidance: float) -> float:
        """The guidance scale of edits that are led from the source prompt, in a job with this scale."""
        return self.cue_guidance or max(1.0, 1 + (guidance - 1) / _CUE_SHARE)

    def text(self, is_photo: bool) -> str:
        """As JSON, without what changes nothing, so that pictures made before there was an option keep their ids."""
        excluded = set() if self.write_mask else {"write_mask"}
        excluded |= set() if is_photo and self.guide_from == "source" else {"guide_from", "cue_guidance"}
        return json.dumps(self.model_dump(exclude=excluded), sort_keys=True)

    @classmethod
    def from_text(cls, text: str) -> "EditOptions":
        """The options of which this is `text`."""
        return cls.model_validate_json(text)


STYLISED: dict[str, Any] = {"strength": 0.8, "self_fraction": 0.5, "preserve": "none", "inversion": "direct"}
"""Defaults that differ for stylisation, which changes the whole image and keeps its layout."""
