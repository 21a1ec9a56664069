"""Options of training an aligner, and where its pairs come from."""

from typing import Any, Literal

from pydantic import Field, model_validator

from aai.options import SPEED_ONLY, Options


class PairOptions(Options):
    """Pairs of a sound and an image: exactly one of `folder`, `table` and `videos`."""

    folder: str | None = None
    """Folder, tar or glob in which a sound and an image with the same name up to the first dot are a pair, as in a
    webdataset: `a.flac` and `a.jpg`. One sound may have several images: `a.1.jpg`, `a.2.jpg`."""

    table: str | None = None
    """Table (CSV, TSV, JSON lines, Parquet) with columns `audio` and `image`: paths, relative to the table's folder."""

    videos: str | None = None
    """Folder of video files. Sound and frames are extracted once; needs `pip install av`."""

    frame: Literal["median", "label"] = "median"
    """For `videos`: the frame of each clip. `median`: the one in its middle. `label`: of `frames` the one that is most
    similar to the clip's label, by the image-text encoder; the middle one for a clip without a label."""

    frames: int = Field(5, ge=1, le=100)
    """For `videos` with `frame: label`: number of frames, evenly spaced, to choose from."""

    filter_misaligned: bool | None = None
    """Leave out pairs whose sound and image do not belong together, as a preliminary aligner sees it that was not
    trained on them. By default only for `videos`."""

    held_out: float = Field(0.1, ge=0, le=0.9)
    """Share of the pairs that `aai align eval` keeps for itself. All pairs of one recording or image stay together."""

    validation: float = Field(0.05, ge=0, le=0.5)
    """Share of the pairs that choose the best weights during the training."""

    @model_validator(mode="after")
    def _names_one_source(self) -> "PairOptions":
        given = [name for name in ("folder", "table", "videos") if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(f"{' and '.join(given) or 'nothing'} is set: set one of folder, table and videos")
        if self.held_out + self.validation > 0.9:
            raise ValueError("held_out and validation leave less than a tenth for the training: lower them")
        return self

    @property
    def filters(self) -> bool:
        """Whether misaligned pairs are left out."""
        return self.videos is not None if self.filter_misaligned is None else self.filter_misaligned


class TrainAlignerOptions(Options):
    """Training of the projector from audio vectors to the image encoder's space; both encoders are frozen."""

    loss: Literal["infonce", "sigmoid"] = "infonce"
    """`infonce`: CLIP's symmetric contrastive loss. `sigmoid`: SigLIP's loss of each pair for itself."""

    image_weight: float = Field(1.0, ge=0)
    """Weight of the loss between sounds and images."""

    text_weight: float = Field(0.0, ge=0)
    """Weight of the loss between sounds and texts: the clip's caption, or its label in `prompt`, embedded by the
    image-text encoder. Above 0 the aligner has both anchors, as in the paper's first version."""

    prompt: str = Field("a photo of *", pattern=r"\*")
    """Caption of a clip that has a label only; `*` is the label."""

    same_class: float = Field(0.0, ge=0, le=1)
    """Soft labels: how much a pair with the same label counts as a match; 0 treats it as a mismatch."""

    whiten: bool = True
    """Whether the audio vectors are centred and whitened first, as measured on the training pairs."""

    noise: float = Field(0.2, ge=0)
    """Length of the Gaussian noise that is added to the audio vectors, relative to theirs."""

    hidden_dim: int = Field(1024, ge=1)
    """Width of the hidden layers."""

    batch: int = Field(4096, ge=2)
    """Pairs per step over all workers; fewer if there are fewer pairs."""

    epochs: float = Field(20, gt=0)
    """Passes over the training pairs."""

    min_steps: int = Field(1000, ge=0)
    """Minimum number of optimiser steps: with few pairs there are more epochs."""

    learning_rate: float = Field(1e-3, gt=0)
    """Peak learning rate of AdamW, after a linear warm-up over 5 % of the steps; cosine decay to 2 % of it."""

    weight_decay: float = Field(0.05, ge=0)
    """Weight decay of AdamW."""

    average: float = Field(0.99, ge=0, lt=1)
    """Decay of the exponential moving average (EMA) of the weights."""

    tower_blocks: int = Field(0, ge=0)
    """Number of the last blocks of the audio encoder (CLAP's has 12) that are trained with the projector, together
    with its last normalisation and projection; 0 keeps it frozen. The result is an audio encoder of its own."""

    tower_learning_rate: float = Field(5e-5, gt=0)
    """Peak learning rate of these blocks; it follows the same schedule. A tenth of `learning_rate` or less."""

    patience: int = Field(0, ge=0)
    """Early stopping: number of evaluations in a row without a lower validation loss; 0 never stops early."""

    evaluations: int = Field(20, ge=1)
    """Number of evaluations on the validation pairs over the whole training."""

    checkpoint_steps: int = Field(500, ge=1, json_schema_extra=SPEED_ONLY)
    """Steps between two checkpoints, from which a stopped training goes on."""

    @model_validator(mode="after")
    def _has_an_anchor(self) -> "TrainAlignerOptions":
        if not self.image_weight + self.text_weight:
            raise ValueError("image_weight and text_weight are both 0: give one of them a weight")
        return self

    def batch_of(self, num_pairs: int, num_workers: int = 1) -> int:
        """Pairs per step: as many as there are at most, in equal shares of the workers."""
        return min(self.batch, num_pairs) // num_workers * num_workers

    def settings(self) -> dict[str, Any]:
        """The values that results depend on, as plain data; with a frozen audio encoder none of the tower's."""
        return {
            name: value
            for name, value in super().settings().items()
            if self.tower_blocks or not name.startswith("tower_")
        }


class TextOnlyOptions(Options):
    """Training from captions alone: from the audio encoder's text vectors to the image-text encoder's."""

    audio_prompt: str = Field("*", pattern=r"\*")
    """Caption for the audio encoder, `*` is the line of the file; such as `This is a sound of *.` for bare names."""

    image_prompt: str = Field("*", pattern=r"\*")
    """Caption for the image-text encoder, `*` is the line of the file; such as `a photo of *` for bare names."""

    noise: float = Field(0.5, ge=0)
    """Length of the Gaussian noise that is added to the audio encoder's text vectors, relative to theirs; it covers the
    distance between texts and sounds. Held-out captions are judged with it, too."""

    ridge: tuple[float, ...] = Field((0.01, 0.1, 0.3, 1.0), min_length=1)
    """Penalties of the ridge regression, relative to the variance of the vectors; the best is chosen."""

    held_out: float = Field(0.1, gt=0, le=0.5)
    """Share of the captions that chooses between projector and ridge regression; half as many choose the weights."""
