"""Options of training the mapper and of fitting cues."""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from aai.options import PLACEHOLDER, SPEED_ONLY, Options

PLACE = "{place}"
"""Where a place stands in a training prompt."""


def _check_templates(templates: tuple[str, ...]) -> tuple[str, ...]:
    if not templates:
        raise ValueError(f"there is no template: give at least one, as [a photo of {PLACEHOLDER}]")
    for template in templates:
        if PLACEHOLDER not in template:
            raise ValueError(f"{template!r} has no {PLACEHOLDER}: write one where the cue goes")
    return templates


def _check_no_place(templates: tuple[str, ...]) -> tuple[str, ...]:
    for template in templates:
        if PLACE in template:
            raise ValueError(f"{template!r} has a {PLACE}, which only train_mapper.templates may have: leave it out")
    return templates


def _check_words(words: tuple[str, ...]) -> tuple[str, ...]:
    if not words or not all(word.strip() for word in words):
        raise ValueError("a word is missing or empty: give at least one, as [sound]")
    return words


DEFAULT_ROWS = 64
"""`max_rows` where it is not set and nobody has measured the memory."""

MOST_ROWS = 128
"""The most that follow from memory. More are no faster: an H200 does 119 rows/s at 64 rows in a pass, 139 at 128."""

Templates = Annotated[tuple[str, ...], AfterValidator(_check_templates)]
"""Prompts with a placeholder for the cue, at least one."""

TemplatesWithoutPlaces = Annotated[Templates, AfterValidator(_check_no_place)]
"""Prompts with a placeholder for the cue alone."""

Words = Annotated[tuple[str, ...], AfterValidator(_check_words)]
"""Words that are not empty, at least one."""


class TrainMapperOptions(Options):
    """Training of the mapper, the shared network from aligned audio vectors to cues."""

    method: Literal["shipped", "learned"] = "learned"
    """`shipped`: the pretrained mapper in `models.mapper`. `learned`: a mapper trained on a sample of this bank's clips
    and the images retrieved for them."""

    num_clips: int = Field(2_000, gt=0)
    """Training set size: maximum number of clips in the sample."""

    num_tokens: int = Field(2, ge=1, le=8)
    """Token vectors per cue. More of them hold more detail and take more of the prompt's 77 tokens."""

    steps: int = Field(600, gt=0)
    """Training steps."""

    batch_size: int = Field(32, gt=0)
    """Batch size of a training step, in samples (clip, image, timestep, noise)."""

    image_share: float = Field(0.5, ge=0, lt=1)
    """Share of each batch in which an image stands for a clip, and its own vector for the clip's: it says exactly what
    the image shows, so the mapper learns more from few clips. 0 trains on clips alone."""

    num_images: int = Field(2_000, gt=0)
    """Number of images that stand for clips: those retrieved for the clips of the training set and, if they are
    fewer, the images most similar to these clips."""

    max_rows: int | None = Field(None, gt=0, json_schema_extra=SPEED_ONLY)
    """Micro-batch size: maximum number of samples in one forward and backward pass; gradients are accumulated for a
    larger batch. By default it follows from the free memory. It changes the speed, not the mapper."""

    learning_rate: float = Field(1.5e-3, gt=0)
    """Peak learning rate of AdamW: a short warm-up, then cosine decay to 0."""

    start_words: Words = ("scene", "sound")
    """Initialisation: before training, and before `fit.method: inversion`, every cue is the mean token embedding of
    these words. Choose words that describe the whole collection."""

    templates: Templates = (
        "a photo of *",
        "a picture of *",
        "a * {place}",
        "a photo of * in a {place}",
        "a {place} in the style of *",
    )
    """Training prompts; `*` is the cue, and `{place}` one of `places`. Use the cue as noun, verb and adjective, as
    later prompts will. An image is trained under the prompts that the image encoder finds likely for it, so that a cue
    does not learn the background that the prompt names. Without any `{place}` each prompt is as likely."""

    places: tuple[str, ...] = ()
    """Places that the images show, such as [forest, city street]. Empty uses the shipped list of everyday places."""


class FitOptions(Options):
    """Fitting of the AudioCues."""

    method: Literal["adapter", "mapper", "inversion", "captions"] = "mapper"
    """`mapper`: the output of the mapper that all clips share. `adapter`: a copy of the mapper per clip, fine-tuned on
    the images retrieved for the clip, as in the paper; it takes seconds per clip, and no gain over `mapper` was
    measured. `inversion`: textual inversion on the retrieved images, without audio
    (an ablation). `captions`: neither training nor images; the audio encoder scores the captions of `align`, and the
    weighted mean of their names' token embeddings is the cue."""

    num_tokens: int = Field(2, ge=1, le=8)
    """Token vectors per cue, for `inversion`. The other methods have those of the mapper."""

    steps: int = Field(24, ge=0)
    """Maximum number of optimiser steps per clip; early stopping may end it sooner (see `min_improvement`)."""

    rows_per_step: int = Field(4, gt=0)
    """Batch size per clip: samples (image, timestep, noise) in an optimiser step."""

    max_rows: int | None = Field(None, gt=0, json_schema_extra=SPEED_ONLY)
    """Micro-batch size: maximum number of samples of all clips in one forward and backward pass. So `max_rows /
    rows_per_step` clips are fitted at the same time; gradients are accumulated if one clip has more samples. By
    default it follows from the free memory, up to 128 on a GPU and 16 on a CPU. It changes the speed, not the cues."""

    learning_rate: float = Field(3e-4, gt=0)
    """Peak learning rate of Adam for `adapter`: a short warm-up, then linear decay. Larger values fit the images more
    closely, backgrounds included."""

    inversion_rate: float = Field(0.1, gt=0)
    """Peak learning rate for `inversion`, relative to the root mean square of the initial word embeddings."""

    prior_weight: float = Field(0.1, ge=0)
    """Regularisation: weight of the squared distance of a cue from its initial value, relative to the initial value's
    squared norm. Raise it if cues reproduce backgrounds of the retrieved images."""

    eval_every: int = Field(8, gt=0)
    """Steps between evaluations of the validation loss; the cue with the lowest one is kept."""

    eval_rows: int = Field(8, gt=0)
    """Samples (image, timestep, noise) per clip in the validation loss, the same at every evaluation."""

    min_improvement: float = Field(0.002, ge=0)
    """Early stopping: minimum improvement of the validation loss over the best so far, relative to its initial value.
    With 0 a clip stops only where the loss rises."""

    templates: TemplatesWithoutPlaces = ("a photo of *", "a picture of *")
    """Prompts of the denoising loss; `*` is the cue."""
