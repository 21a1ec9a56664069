"""The base of all options, and the options of modules that are too heavy to import for them.

What is configured stands beside its owner (as in `aai.media.audio`), unless the owner needs torch or
FAISS: whoever plans a run reads options, but loads neither.
"""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

PLACEHOLDER = "*"
"""Where a cue stands in a prompt."""


class Options(BaseModel):
    """Options of one owner; a field has a default, a bound and a sentence."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


LEAST_PER_CELL = 39
"""FAISS calls a centre of k-means badly trained when it sees fewer vectors."""

LEAST_SAMPLE = 256 * LEAST_PER_CELL
"""What an 8-bit product quantiser needs to train its 256 centres."""


class IndexOptions(Options):
    """Which type of index is built, and how thoroughly it is searched."""

    max_exact: int = Field(1_000_000, ge=LEAST_SAMPLE)
    """Up to so many vectors are stored whole and searched one and all: 3 GB for a million of dimension 768."""

    max_scalar: int = Field(20_000_000, ge=0)
    """Up to so many are put into cells and stored in a byte a dimension; beyond, in `code_bytes`."""

    code_bytes: int = Field(96, ge=1)
    """Most bytes of a vector under product quantisation; the largest number that divides the dimension is taken."""

    num_probes: int = Field(64, ge=1)
    """Cells that a query looks into; more of them find more of the true neighbours and take longer."""

    training_per_cell: int = Field(64, ge=LEAST_PER_CELL)
    """Vectors, drawn at random, from which the centre of one cell is learned."""


class EmbedOptions(Options):
    """How the frozen encoders are run."""

    batch_size: int = Field(32, gt=0)
    """Items that go through an encoder together; halved where memory is short. Changes no vector."""


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


class LearnOptions(Options):
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


class CueOptions(Options):
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


class ScoreOptions(Options):
    """What is measured of renders."""

    batch_size: int = Field(64, gt=0)
    """Pictures that are embedded together. Changes no score."""

    num_others: int = Field(1_000, gt=0)
    """Most clips against which a picture's own clip is ranked (AIS-rank)."""


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
