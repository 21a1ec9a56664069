"""Options of the alignment."""

from typing import Literal

from pydantic import Field

from aai.options import Options


class AlignOptions(Options):
    """How a clip's vector comes into the image encoder's space."""

    method: Literal["trained", "labels"] = "labels"
    """`trained`: the aligner of `models.aligner`. `labels`: no training; the audio encoder scores a bank of captions,
    and the weighted image-space embeddings of these are the clip's vector."""

    labels: tuple[str, ...] = ()
    """What may be heard, as [rain, a barking dog], for `labels`; empty for the shipped list of everyday sounds."""

    audio_prompt: str = Field("This is a sound of *.", pattern=r"\*")
    """What the audio encoder reads of each of them; CLAP learned from such captions."""

    image_prompt: str = Field("a photo of *", pattern=r"\*")
    """What the image-text encoder reads of each of them."""

    temperature: float = Field(0.01, gt=0)
    """Of the softmax over captions in `labels`: the lower, the fewer captions count."""

    num_labels: int = Field(16, ge=1)
    """Most captions that count for a clip in `labels`."""
