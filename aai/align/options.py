"""Options of the alignment."""

from typing import Literal

from pydantic import Field

from aai.options import Options


class AlignOptions(Options):
    """How sounds and images come to lie in one space."""

    method: Literal["trained", "labels", "joint"] = "labels"
    """`joint`: one model hears and sees, `models.joint`; sounds and images are in its space, so that nothing has to be
    aligned, and CLIP only scores. `labels`: no joint encoder and no training; CLAP scores a list of captions against
    the clip, and the softmax-weighted mean of their CLIP text embeddings is the clip's aligned vector. `trained`: the
    pretrained aligner in `models.aligner` brings CLAP vectors into CLIP's space."""

    labels: tuple[str, ...] = ()
    """For `labels`: the sounds to score, such as [rain, a barking dog]. Empty uses the shipped list of 260 everyday
    sounds."""

    audio_prompt: str = Field("This is a sound of *.", pattern=r"\*")
    """For `labels`: caption template for the audio encoder, `*` is the label. CLAP was trained on such captions."""

    image_prompt: str = Field("a photo of *", pattern=r"\*")
    """For `labels`: caption template for the image-text encoder, `*` is the label."""

    temperature: float = Field(0.01, gt=0)
    """For `labels`: softmax temperature over the caption scores. Lower values give the best captions more weight."""

    num_labels: int = Field(16, ge=1)
    """For `labels`: number of best captions (top-k) that enter the mean."""
