"""Options of the mapper's training and of fitting cues."""

from typing import Literal

from pydantic import Field

from aai.options import Options


class TrainMapperOptions(Options):
    """How the mapper that all clips share is learned."""

    method: Literal["shipped", "learned"] = "learned"
    """`shipped`: the mapper of `models.mapper`. `learned`: from a sample of the bank's own clips and neighbours."""

    num_clips: int = Field(2_000, gt=0)
    """Most clips of the sample."""

    num_tokens: int = Field(2, ge=1, le=8)
    """Rows of a cue."""

    steps: int = Field(600, gt=0)
    """Optimiser steps."""

    batch_size: int = Field(32, gt=0)
    """Rows (clip, image, timestep, noise) in a step."""

    learning_rate: float = Field(1.5e-3, gt=0)
    """Of AdamW, after a short warm-up, falling along a cosine."""

    start_words: tuple[str, ...] = ("scene", "sound")
    """Words whose mean a cue starts as before the first step, where the bank's clips have no labels to take."""

    templates: tuple[str, ...] = ("a photo of *", "a picture of *", "a * place", "a picture in the style of *")
    """Prompts in which a neighbour is described by its clip's cue: as noun, verb and adjective."""


class FitOptions(Options):
    """How AudioCues are fitted."""

    method: Literal["adapter", "mapper", "inversion", "text"] = "adapter"
    """`adapter`: the shared mapper as start, refined per clip on its neighbours. `mapper`: that start, no steps.
    `inversion`: a free cue on the neighbours, without audio (the paper's ablation). `text`: the clip's label as prompt
    (the plain diffusion model)."""

    num_tokens: int = Field(2, ge=1, le=8)
    """Rows of a cue that no mapper gives."""

    steps: int = Field(24, ge=0)
    """Most optimiser steps a clip may take; it leaves earlier once its loss is steady."""

    rows_per_step: int = Field(4, gt=0)
    """Rows (image, timestep, noise) of a clip in a step."""

    clips_at_once: int = Field(64, gt=0)
    """Clips that are fitted together; halved where memory is short. Changes no cue."""

    learning_rate: float = Field(3e-4, gt=0)
    """Of each clip's own Adam, for `adapter`: every weight of the mapper's copy moves by about this much in a step."""

    inversion_rate: float = Field(0.1, gt=0)
    """The same for `inversion`, in units of the root mean square of the words it starts from."""

    pull: float = Field(0.1, ge=0)
    """Weight of the squared distance between a cue and the one it started from, in units of the latter's square."""

    check_every: int = Field(8, gt=0)
    """Steps between two looks at the loss of noise that is held out; the best cue seen is kept."""

    held_out_rows: int = Field(8, gt=0)
    """Rows of a clip in such a look."""

    least_gain: float = Field(0.002, ge=0)
    """A clip whose loss fell by less than this share of its first since the best look is steady, and leaves."""

    templates: tuple[str, ...] = ("a photo of *", "a picture of *")
    """Prompts under which a neighbour is rebuilt."""
